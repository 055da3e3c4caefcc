//! What the metadata table says, as its revisions land, and what may be deleted by it: whoever deletes anything else has lost data, or
//! will have. Time counts from the landing of a revision, which nobody can know earlier.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alluvium::meta::entry::{Change, Entry};
use alluvium::meta::image::{Image, SessionState};
use alluvium::meta::level;
use alluvium::segment::{RUNS_PREFIX, Tail, parse_run_key, parse_segment_key, parse_tail, segment_key};
use alluvium::types::{Revision, RunId, SegmentNumber, SessionId};

use crate::storms::FASTEST;

const REVISIONS: &str = "meta/log/";

/// What an object that landed means.
#[derive(Debug, Default)]
pub struct Landed {
    /// Brokers that were handed leases by it.
    pub handed_to: Vec<String>,
    /// Situations of [`crate::states`].
    pub states: Vec<&'static str>,
    /// What a revision says, in words.
    pub words: Option<String>,
    /// Somebody closed the session that he has.
    pub closed_itself: bool,
    /// What must not have landed: the rule that is broken, and how.
    pub wrong: Option<(&'static str, String)>,
}

#[derive(Default)]
pub struct Truth {
    image: Image,
    grace: Duration,
    /// Of each session, below which number all was merged, and since when.
    merged: BTreeMap<SessionId, Vec<(SegmentNumber, Duration)>>,
    fenced: BTreeMap<SessionId, Duration>,
    /// Claims that ended, and when.
    ended: BTreeMap<RunId, Duration>,
    runs: u64,
    /// What was deleted; a late write may bring the name back.
    deleted: BTreeSet<String>,
    /// Who put fences into a session.
    fencers: BTreeMap<SessionId, BTreeSet<&'static str>>,
    /// Up to which segment sessions handed leases over.
    through: BTreeMap<SessionId, SegmentNumber>,
    /// When segments landed.
    landed: BTreeMap<(SessionId, SegmentNumber), Duration>,
}

impl Truth {
    pub fn new(grace: Duration) -> Truth {
        Truth { grace, ..Truth::default() }
    }

    pub fn revision(&self) -> Revision {
        self.image.revision
    }

    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Runs committed until now.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// The broker that a session is one life of.
    pub fn host(&self, session: SessionId) -> &str {
        let session = self.image.sessions.get(&session).and_then(|session| session.endpoints.first());
        session.map_or("nobody", |endpoint| endpoint.host.as_str())
    }

    fn end_of(&self, session: SessionId) -> Option<SegmentNumber> {
        match self.image.sessions.get(&session)?.state {
            SessionState::Fenced { end } => Some(end),
            _ => None,
        }
    }

    /// An object was created by a host. `there` tells which objects there are.
    pub fn landed(
        &mut self,
        (host, key, body): (&'static str, &str, &[u8]),
        there: impl Fn(&str) -> bool,
        now: Duration,
    ) -> Landed {
        if let Ok((session, number)) = parse_segment_key(key) {
            let states = self.segment_landed((host, key, body), (session, number), now);
            return Landed { states, ..Landed::default() };
        }
        if key.starts_with("meta/closed/") {
            return Landed { states: vec!["metadata: a generation was closed"], ..Landed::default() };
        }
        if key.starts_with(RUNS_PREFIX) && self.image.level < level::MERGE {
            let wrong = Some(("above-the-level", format!("{key} at level {}", self.image.level)));
            return Landed { wrong, ..Landed::default() };
        }
        let Some(revision) = key.strip_prefix(REVISIONS).and_then(|digits| digits.parse().ok()) else {
            return Landed::default();
        };
        // What lands in a generation that is closed does not count; all its revisions are there already.
        if revision != self.image.revision + 1 {
            return Landed {
                states: vec!["metadata: a late append landed in a closed generation"],
                ..Landed::default()
            };
        }
        let Ok(entry) = Entry::decode(revision, body) else { return Landed::default() };
        self.revision_landed(host, &entry, there, now)
    }

    fn segment_landed(
        &mut self,
        (host, key, body): (&'static str, &str, &[u8]),
        (session, number): (SessionId, SegmentNumber),
        now: Duration,
    ) -> Vec<&'static str> {
        let mut states = Vec::new();
        if self.deleted.contains(key) {
            states.push("late write: where its name was collected");
        }
        if number < self.image.merges.merged(session) {
            states.push("late write: below what is merged");
        }
        let size = body.len() as u64;
        let fence = matches!(parse_tail(key, size, body), Ok(Tail::Fence(_)));
        if fence {
            let fencers = self.fencers.entry(session).or_default();
            fencers.insert(host);
            if fencers.len() > 1 {
                states.push("fence: two brokers fenced one session");
            }
            if self.host(session) == host {
                states.push("fence: by the broker itself, or its next life");
            }
            return states;
        }
        self.landed.entry((session, number)).or_insert(now);
        if self.end_of(session).is_some_and(|end| number > end) {
            states.push("late write: behind the end of its session");
        } else if self.fencers.contains_key(&session) {
            states.push("late write: after a fence, below it or above");
        }
        states
    }

    fn revision_landed(&mut self, host: &str, entry: &Entry, there: impl Fn(&str) -> bool, now: Duration) -> Landed {
        let mut landed = Landed::default();
        for change in &entry.changes {
            self.look(change, &there, &mut landed);
            if let Change::FenceSession { session, end, .. } = change {
                landed.closed_itself |= self.has(host, *session);
                landed.wrong = landed.wrong.or_else(|| self.closed_early(host, *session, *end, now));
                landed.wrong = landed.wrong.or_else(|| self.closed_unseen(host, *session, now));
            }
        }
        let claims: Vec<RunId> = self.image.merges.claims.keys().copied().collect();
        self.image.apply(entry).expect("it follows");
        landed.wrong = landed.wrong.or_else(|| self.unreadable(entry));
        for (session, merged) in &self.image.merges.sessions {
            let known = self.merged.entry(*session).or_default();
            if known.last().is_none_or(|(through, _)| *through < merged.through) {
                known.push((merged.through, now));
            }
        }
        for (session, state) in &self.image.sessions {
            if matches!(state.state, SessionState::Fenced { .. }) {
                self.fenced.entry(*session).or_insert(now);
            }
        }
        let gone = claims.into_iter().filter(|claim| !self.image.merges.claims.contains_key(claim));
        self.ended.extend(gone.map(|claim| (claim, now)));
        self.runs = self.image.merges.sessions.values().map(|merged| merged.runs.len() as u64).sum();
        let words: Vec<String> = entry.changes.iter().map(|change| self.words(change)).collect();
        landed.words = Some(words.join("; "));
        landed
    }

    /// Whether this is the session that a host has, not one of an earlier life.
    fn has(&self, host: &str, session: SessionId) -> bool {
        let newest = self.image.open_sessions().filter(|(id, _)| self.host(*id) == host).map(|(id, _)| id).last();
        newest == Some(session)
    }

    /// Nothing stands in the table that a program which has an open session does not know.
    fn unreadable(&self, entry: &Entry) -> Option<(&'static str, String)> {
        let needed = entry.version.max(self.image.level);
        let (session, supported) =
            self.image.open_sessions().map(|(id, session)| (id, session.level())).find(|(_, level)| *level < needed)?;
        let what = format!(
            "revision {} is of level {needed}, session {} of {} supports {supported}",
            entry.revision,
            session.revision,
            self.host(session)
        );
        Some(("above-the-level", what))
    }

    /// A session is closed by another node only when its newest segment has stood for a ttl, by whatever clock.
    fn closed_early(
        &self,
        host: &str,
        session: SessionId,
        end: SegmentNumber,
        now: Duration,
    ) -> Option<(&'static str, String)> {
        let node = |id: SessionId| self.image.sessions.get(&id).map(|session| session.node_id);
        let by = self.image.open_sessions().map(|(id, _)| id).filter(|id| self.host(*id) == host).last()?;
        let landed = *self.landed.get(&(session, end.checked_sub(1)?))?;
        let stood = now.saturating_sub(landed) + Duration::from_millis(2);
        let ttl = Duration::from_millis(self.image.session_ttl_ms);
        if node(session) == node(by) || stood * FASTEST as u32 >= ttl * 1000 {
            return None;
        }
        let what =
            format!("{host} closes {} of {} after {stood:?}, its ttl is {ttl:?}", session.revision, self.host(session));
        Some(("closed-too-early", what))
    }

    /// A session is closed by another node only on evidence of its own: segments of its session landed while the other's did not. After an
    /// outage of the store nobody has any, for a while.
    fn closed_unseen(&self, host: &str, session: SessionId, now: Duration) -> Option<(&'static str, String)> {
        let node = |id: SessionId| self.image.sessions.get(&id).map(|session| session.node_id);
        let by = self.image.open_sessions().map(|(id, _)| id).filter(|id| self.host(*id) == host).last()?;
        if node(session) == node(by) {
            return None;
        }
        let ttl = Duration::from_millis(self.image.session_ttl_ms);
        let own = self.landed.range((by, 0)..).take_while(|((of, _), _)| *of == by);
        let mut ages = own.map(|(_, landed)| now.saturating_sub(*landed)).filter(|age| *age <= ttl * 3 / 2);
        if ages.any(|age| age >= ttl / 5) {
            return None;
        }
        let what = format!("{host} closes {} of {} right after an outage", session.revision, self.host(session));
        Some(("closed-without-evidence", what))
    }

    /// What is remarkable about a change of the image as it is.
    fn look(&mut self, change: &Change, there: &impl Fn(&str) -> bool, landed: &mut Landed) {
        let mut reached = |what: &'static str| landed.states.push(what);
        match change {
            Change::TransferLease { session, to, through, partitions } => {
                reached("lease: handed over");
                if !there(&segment_key(*session, *through)) {
                    reached("lease: handed over during the upload of its last segment");
                }
                if self.fencers.contains_key(session) {
                    reached("lease: handed over by a session with a fence in its way");
                }
                let known = self.through.entry(*session).or_default();
                *known = (*known).max(*through);
                let back = partitions.iter().flat_map(|moved| moved.indexes.iter().map(|index| (moved.topic, *index)));
                let back =
                    back.filter_map(|(topic, index)| self.image.topics.get(&topic)?.partitions.get(index as usize));
                if back.flat_map(|partition| &partition.tenures).any(|tenure| tenure.session == *to) {
                    reached("lease: comes back to a session that had it");
                }
                let to = self.host(*to).to_owned();
                landed.handed_to.push(to);
            }
            Change::FenceSession { session, end, ready } => {
                reached("session: closed");
                if self.through.get(session).is_some_and(|through| end <= through) {
                    reached("session: closed below what it handed over through");
                }
                if self.image.merges.claim_on(*session).is_some() {
                    reached("merge: under way on a session that is closed");
                }
                if ready.is_empty() {
                    reached("session: closed, nobody is ready");
                }
                if self.image.level < level::HAND_OVER {
                    reached("session: closed at level 1");
                }
            }
            Change::GrantVacant { .. } => reached("lease: of a vacant partition"),
            Change::RaiseLevel { .. } if self.image.topics.is_empty() => {}
            Change::RaiseLevel { .. } => reached("level: raised while there is something"),
            Change::ClaimMerge { session, by, .. } if by != session => {
                reached("merge: of another broker's session");
            }
            Change::CommitRun { .. } => reached("merge: committed"),
            Change::Nop {} => reached("metadata: a no-op settled an append"),
            _ => {}
        }
    }

    fn words(&self, change: &Change) -> String {
        let who = |session: &SessionId| format!("{} ({})", self.host(*session), session.revision);
        match change {
            Change::OpenSession { endpoints, .. } => {
                format!(
                    "opens session {} of {}",
                    self.image.revision,
                    endpoints.first().map_or("?", |at| at.host.as_str())
                )
            }
            Change::Ready { session } => format!("{} is ready", who(session)),
            Change::FenceSession { session, end, .. } => format!("closes {} at segment {end}", who(session)),
            Change::TransferLease { session, to, through, partitions } => {
                let moved: Vec<String> =
                    partitions.iter().map(|moved| format!("{:?} of {}", moved.indexes, moved.topic)).collect();
                format!("{} hands {} to {} through segment {through}", who(session), moved.join(", "), who(to))
            }
            Change::GrantVacant { .. } => "grants what nobody holds".to_owned(),
            other => {
                let mut text = format!("{other:?}");
                text.truncate(text.char_indices().nth(140).map_or(text.len(), |(at, _)| at));
                text
            }
        }
    }

    /// A create met its name taken: whether that is a fence in the way of its own session.
    pub fn met_fence(&self, host: &str, key: &str, there: &[u8]) -> bool {
        let Ok((session, _)) = parse_segment_key(key) else { return false };
        let tail = parse_tail(key, there.len() as u64, there);
        self.host(session) == host && matches!(tail, Ok(Tail::Fence(_)))
    }

    pub fn gone(&mut self, key: &str) {
        self.deleted.insert(key.to_owned());
    }

    /// Objects that nothing names and that were due for deletion before `moment`, of those that there are.
    pub fn orphans<'k>(&self, keys: impl Iterator<Item = &'k str>, moment: Duration) -> usize {
        keys.filter(|key| !key.starts_with("meta/") && self.check(key, moment) == Ok(())).count()
    }

    /// Whether an object may be deleted now; what is wrong, if not.
    pub fn check(&self, key: &str, now: Duration) -> Result<(), String> {
        // Clocks may run a little faster than time.
        let ripe = |since: Duration| now.saturating_sub(since) + Duration::from_millis(2) >= self.grace * 7 / 10;
        if let Ok((session, number)) = parse_segment_key(key) {
            let merged = self.merged.get(&session).map_or(&[][..], Vec::as_slice);
            let below = merged.iter().find(|(through, _)| number < *through).map(|(_, since)| *since);
            let end = match self.image.sessions.get(&session).map(|session| session.state) {
                Some(SessionState::Fenced { end }) => Some(end),
                _ => None,
            };
            let above = end.filter(|end| number > *end).and_then(|_| self.fenced.get(&session).copied());
            return match below.or(above) {
                Some(since) if ripe(since) => Ok(()),
                Some(_) => Err("before its grace period is over".to_owned()),
                None if end == Some(number) => Err("it is the lowest fence of its session".to_owned()),
                None => Err("it is not merged".to_owned()),
            };
        }
        if let Ok((run, _)) = parse_run_key(key) {
            return match self.ended.get(&run) {
                _ if self.image.merges.names(run) => Err("the image names it".to_owned()),
                Some(since) if ripe(*since) => Ok(()),
                Some(_) => Err("before its grace period is over".to_owned()),
                None => Err("nobody claimed it".to_owned()),
            };
        }
        if key.starts_with(RUNS_PREFIX) { Err("it is no part of a run".to_owned()) } else { Ok(()) }
    }
}

//! What the metadata table says, as its revisions land, and what may be deleted by it: whoever deletes anything else has lost data, or
//! will have. Time counts from the landing of a revision, which nobody can know earlier.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium::meta::entry::{Change, Entry};
use alluvium::meta::image::{Image, SessionState};
use alluvium::segment::{RUNS_PREFIX, parse_run_key, parse_segment_key};
use alluvium::types::{Revision, RunId, SegmentNumber, SessionId};

const REVISIONS: &str = "meta/log/";

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

    /// An object was created. Tells whether leases were handed over by it.
    pub fn landed(&mut self, key: &str, body: &[u8], now: Duration) -> bool {
        let Some(revision) = key.strip_prefix(REVISIONS).and_then(|digits| digits.parse().ok()) else { return false };
        // What lands in a generation that is closed does not count; all its revisions are there already.
        if revision != self.image.revision + 1 {
            return false;
        }
        let Ok(entry) = Entry::decode(revision, body) else { return false };
        let claims: Vec<RunId> = self.image.merges.claims.keys().copied().collect();
        self.image.apply(&entry).expect("it follows");
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
        entry.changes.iter().any(|change| matches!(change, Change::TransferLease { .. }))
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

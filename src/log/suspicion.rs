//! Which sessions of other brokers are to be looked at in the bucket, and which are dead. Pure.
//!
//! The segment sequence is the heartbeat: a session that lives writes a segment every ttl/3, so one whose end has stood still for a
//! whole ttl, seen again and again by somebody whose own segments were committed meanwhile, is dead or can't be told from it. It may be
//! fenced, and a fence is always safe: whatever it still has under way does not count then. Looks that failed are no evidence, and
//! after a gap between looks, or between segments of our own, the wait begins anew, for the gap may be ours or everybody's. Who sees half of the others dead is more likely to be the
//! odd one himself, and takes one per ttl.
//!
//! What a session tells over its connection ([`crate::links`]) is a reason not to look, and no evidence. As long as it tells of a new
//! segment every half of a ttl it is looked at once in six ttls, lest a lie hide it; when its connection goes down, or nothing new is
//! told, the looks begin, at once and six in a ttl. So who is cut off from the store is looked at however well he answers, and who is cut off
//! from us only is seen to write.
//!
//! The wait for a dead session is a whole ttl since its last segment was first seen. Who was told of that segment has seen it then, if
//! it is the one that stands in the bucket: the answer gave its nonce, 64 random bits that nobody knows who did not write or read it.
//! So the first of the looks, if it finds that very segment and nothing behind it, counts the wait from when it was told. Not from
//! earlier than ⅔ of a ttl ago: several looks must have seen nothing new. What was told moves no end, and closes nobody without
//! them. `tests/model` has this in the worlds `proof`, where anybody may lie over a connection, and `outage`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::links::Heard;
use crate::types::mutant::{self, Mutant};
use crate::types::{SegmentNumber, SessionId};

/// Looks of one ttl: a ttl is seen to pass with a sixth of it to spare.
pub const LOOKS_PER_TTL: u32 = 6;

/// Who tells of new segments is looked at once in so many ttls, lest a lie hide a session for ever.
const TTLS_PER_CHECK: u32 = 6;

/// What a look found of what was told before it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing was, or nothing that could be found still.
    Nothing,
    /// The newest segment that was told of stands, and is the one that was meant.
    True(Heard),
    /// It does not.
    False,
}

/// What one broker has seen of the others. Times are of the boot clock.
pub struct Suspicion {
    ttl: Duration,
    seen: BTreeMap<SessionId, Seen>,
    heard: BTreeMap<SessionId, Heard>,
    /// When the last look at each began.
    tried: BTreeMap<SessionId, Duration>,
    /// When a session was last taken for dead while half of the others looked it.
    taken_at: Option<Duration>,
    /// When the newest of our own committed segments was first sent, as of the last look.
    proven: Duration,
}

struct Seen {
    end: SegmentNumber,
    /// When the end was first seen, or looked at again after a gap.
    since: Duration,
    looked_at: Duration,
    /// When the end was last seen to have grown.
    grew_at: Option<Duration>,
    /// The last look that could tell found that what was told is not so.
    lied: bool,
}

impl Suspicion {
    pub fn new(ttl: Duration) -> Suspicion {
        Suspicion {
            ttl,
            seen: BTreeMap::new(),
            heard: BTreeMap::new(),
            tried: BTreeMap::new(),
            taken_at: None,
            proven: Duration::ZERO,
        }
    }

    /// These sessions are open besides our own, and told this; what is known of others is forgotten.
    pub fn follow(&mut self, open: &[SessionId], heard: BTreeMap<SessionId, Heard>) {
        self.heard = heard;
        self.seen.retain(|id, _| open.contains(id));
        self.tried.retain(|id, _| open.contains(id));
    }

    /// Before looks: `proven` is when the newest of our own committed segments was first sent. Where none landed for half a ttl nobody's
    /// may have, and the wait for all begins anew: one segment of ours after a long outage does not tell that they had the time.
    pub fn committed(&mut self, proven: Duration, now: Duration) {
        let newest = if proven > self.proven { proven } else { now };
        if newest.saturating_sub(self.proven) > self.ttl / 2 && !mutant::on(Mutant::CloseAfterOutage) {
            self.seen.values_mut().for_each(|seen| seen.since = now);
        }
        self.proven = proven.max(self.proven);
    }

    /// Of the open sessions those that are to be looked at now.
    pub fn due(&self, open: &[SessionId], now: Duration) -> Vec<SessionId> {
        open.iter().copied().filter(|id| self.due_at(*id) <= now).collect()
    }

    /// How long until one of them has to be looked at, if nothing changes.
    pub fn pause(&self, open: &[SessionId], now: Duration) -> Duration {
        let next = open.iter().map(|id| self.due_at(*id).saturating_sub(now)).min();
        next.map_or(self.ttl / LOOKS_PER_TTL, |next| next.min(self.ttl / LOOKS_PER_TTL))
    }

    fn due_at(&self, session: SessionId) -> Duration {
        let Some(tried) = self.tried.get(&session).copied() else { return Duration::ZERO };
        let mut next = tried + self.ttl / LOOKS_PER_TTL;
        let Some(seen) = self.seen.get(&session) else { return next };
        // What is decided when a ttl is over is decided on a look of that moment.
        if seen.since + self.ttl > tried {
            next = next.min(seen.since + self.ttl);
        }
        match self.heard.get(&session) {
            Some(heard) if heard.up && !seen.lied => {
                let stale = (heard.since + self.ttl / 2).saturating_sub(heard.age);
                next.max(stale).min(tried + self.ttl * TTLS_PER_CHECK)
            }
            _ => next,
        }
    }

    /// A look begins; gives where, and what was told of the session.
    pub fn looks(&mut self, session: SessionId, now: Duration) -> (SegmentNumber, Option<Heard>) {
        self.tried.insert(session, now);
        let end = self.seen.get(&session).map_or(0, |seen| seen.end);
        (end, self.heard.get(&session).copied())
    }

    /// A look that began at `began` and ended at `now` found segments below `end`, and none at it.
    pub fn looked(&mut self, session: SessionId, end: SegmentNumber, told: Told, began: Duration, now: Duration) {
        let new = Seen { end, since: now, looked_at: Duration::ZERO, grew_at: None, lied: false };
        let known = self.seen.contains_key(&session);
        let seen = self.seen.entry(session).or_insert(new);
        let gap = began.saturating_sub(seen.looked_at) > self.ttl / 3 && !mutant::on(Mutant::CloseAfterOutage);
        if known && !gap && end > seen.end {
            seen.grew_at = Some(now);
        }
        if end > seen.end || gap {
            let told_at = match told {
                Told::True(heard) if heard.committed == end => Some(heard.since),
                _ => None,
            };
            let recent = told_at.filter(|at| now.saturating_sub(*at) <= self.ttl * 2 / 3);
            (seen.end, seen.since) = (seen.end.max(end), recent.unwrap_or(now));
        }
        seen.looked_at = now;
        if told != Told::Nothing {
            seen.lied = told == Told::False;
        }
    }

    /// Sessions that wrote not long ago: who lives writes every third of a ttl. That was seen, by looks twice as often, or told: who tells of
    /// more segments than before wrote them. Leases may be handed to a session that lives, nothing more: one who lies or dies a moment
    /// later gets them, and is closed in time as he would be without.
    pub fn alive(&self, now: Duration) -> impl Iterator<Item = SessionId> {
        let recent = move |at: Option<Duration>| at.is_some_and(|at| now.saturating_sub(at) <= self.ttl * 2 / 3);
        let told = move |id: &SessionId| self.heard.get(id).and_then(|heard| heard.grew_at);
        let lives = move |(id, seen): &(&SessionId, &Seen)| recent(seen.grew_at) || (!seen.lied && recent(told(id)));
        self.seen.iter().filter(lives).map(|(id, _)| *id)
    }

    /// Whether a session may be closed at its end. `proven`: when the newest of our own committed segments was first sent.
    pub fn is_dead(&self, session: SessionId, proven: Duration, now: Duration) -> bool {
        let Some(seen) = self.seen.get(&session) else { return false };
        let wait = if mutant::on(Mutant::CloseEarly) { self.ttl * 2 / 5 } else { self.ttl };
        let silent = now.saturating_sub(seen.since) >= wait;
        let watched = now.saturating_sub(seen.looked_at) <= self.ttl / 3;
        silent && watched && (proven > seen.since || mutant::on(Mutant::CloseAfterOutage))
    }

    /// The sessions to be fenced now.
    pub fn dead(&mut self, proven: Duration, now: Duration) -> Vec<SessionId> {
        let mut dead: Vec<_> = self.seen.keys().copied().filter(|id| self.is_dead(*id, proven, now)).collect();
        if dead.len() > 1 && dead.len() * 2 >= self.seen.len() {
            if self.taken_at.is_some_and(|taken| now.saturating_sub(taken) < self.ttl) {
                return Vec::new();
            }
            self.taken_at = Some(now);
            dead.truncate(1);
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(12);

    fn id(random: u64) -> SessionId {
        SessionId { revision: 1, random }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(100 + seconds)
    }

    /// Looks at sessions at these seconds, each of which finds this end; a look takes no time.
    fn watched(looks: &[(u64, SegmentNumber)]) -> Suspicion {
        let mut suspicion = Suspicion::new(TTL);
        for (seconds, end) in looks {
            suspicion.looked(id(1), *end, Told::Nothing, at(*seconds), at(*seconds));
        }
        suspicion
    }

    #[test]
    fn who_stands_still_for_a_ttl_is_dead() {
        let steady: Vec<_> = (0..=12).step_by(2).map(|second| (second, 5)).collect();
        let with = |second: u64, end| {
            let mut looks = steady.clone();
            looks[(second / 2) as usize].1 = end;
            looks
        };
        type Looks = Vec<(u64, SegmentNumber)>;
        let table: [(&str, Looks, u64, u64, bool); 10] = [
            ("a whole ttl", steady.clone(), 12, 12, true),
            ("a little less", steady.clone(), 12, 11, false),
            ("never seen", vec![], 12, 12, false),
            ("seen once, long ago", vec![(0, 5)], 12, 12, false),
            ("we committed nothing ourselves", steady.clone(), 0, 12, false),
            ("we committed a moment after", steady.clone(), 1, 12, true),
            ("it moved in the end", with(12, 6), 12, 12, false),
            ("looks a third of the ttl apart", vec![(0, 5), (4, 5), (8, 5), (12, 5)], 12, 12, true),
            ("a gap", vec![(0, 5), (4, 5), (9, 5), (12, 5)], 12, 12, false),
            ("the last look is too old", steady.clone(), 12, 17, false),
        ];
        for (name, looks, proven, now, dead) in table {
            let mut suspicion = watched(&looks);
            assert_eq!(suspicion.is_dead(id(1), at(proven), at(now)), dead, "{name}");
            assert_eq!(suspicion.dead(at(proven), at(now)) == [id(1)], dead, "{name}");
        }
    }

    #[test]
    fn an_end_never_goes_back_and_a_slow_look_counts_from_its_end() {
        let mut suspicion = watched(&[(0, 5), (2, 3)]);
        assert_eq!(suspicion.looks(id(1), at(3)), (5, None));
        suspicion.looked(id(1), 7, Told::Nothing, at(3), at(6));
        for second in [8, 10, 12, 14, 16] {
            suspicion.looked(id(1), 7, Told::Nothing, at(second), at(second));
        }
        assert!(!suspicion.is_dead(id(1), at(17), at(17)));
        suspicion.looked(id(1), 7, Told::Nothing, at(18), at(18));
        assert!(suspicion.is_dead(id(1), at(18), at(18)));
        suspicion.follow(&[id(2)], BTreeMap::new());
        assert_eq!(suspicion.looks(id(1), at(18)), (0, None));
    }

    #[test]
    fn who_was_seen_to_write_not_long_ago_lives() {
        // (looks, now, alive)
        type Looks<'a> = &'a [(u64, SegmentNumber)];
        let table: [(Looks, u64, bool); 6] = [
            (&[], 0, false),
            (&[(0, 5)], 0, false),
            (&[(0, 5), (2, 6)], 10, true),
            (&[(0, 5), (2, 6), (8, 6)], 11, false),
            (&[(0, 5), (2, 6), (6, 7)], 11, true),
            (&[(0, 5), (9, 7)], 11, false),
        ];
        for (looks, now, alive) in table {
            assert_eq!(watched(looks).alive(at(now)).any(|found| found == id(1)), alive, "{looks:?} at {now}");
        }
    }

    /// Nobody can write for a while, then everybody can: who writes first must not take the others for dead.
    #[test]
    fn an_outage_of_the_store_is_nobodys_death() {
        // (seconds at which our own segments were sent that landed, when the other is dead to us: it never writes again)
        let table: [(&[u64], u64); 3] = [
            (&[2, 4, 6, 8, 10, 12, 14, 16, 18, 20], 12),
            (&[2, 4, 12, 14, 16, 18, 20, 22, 24, 26], 24),
            (&[2, 20, 22], 40),
        ];
        for (own, expected) in table {
            let mut suspicion = Suspicion::new(TTL);
            let dead = (0..40).find(|second| {
                let proven = own.iter().rfind(|sent| *sent <= second).map_or(at(0), |sent| at(*sent));
                suspicion.committed(proven, at(*second));
                suspicion.looked(id(1), 5, Told::Nothing, at(*second), at(*second));
                suspicion.is_dead(id(1), proven, at(*second))
            });
            assert_eq!(dead.unwrap_or(40), expected, "{own:?}");
        }
    }

    /// (open sessions, of which these are silent, so many are taken at once)
    #[test]
    fn who_sees_half_of_the_others_dead_takes_one_a_ttl() {
        for (open, silent, taken) in
            [(1, 1, 1), (2, 2, 1), (3, 1, 1), (3, 2, 1), (4, 2, 1), (5, 2, 2), (9, 4, 4), (9, 5, 1)]
        {
            let mut suspicion = Suspicion::new(TTL);
            let look = |suspicion: &mut Suspicion, second: u64| {
                for random in 0..open {
                    let end = if random < silent { 5 } else { second };
                    suspicion.looked(id(random), end, Told::Nothing, at(second), at(second));
                }
                suspicion.dead(at(second), at(second)).len() as u64
            };
            for second in 5..17 {
                assert_eq!(look(&mut suspicion, second), 0, "{open}, {silent}");
            }
            assert_eq!(look(&mut suspicion, 17), taken, "{open}, {silent}");
            let again: Vec<_> = (18..30).map(|second| look(&mut suspicion, second)).collect();
            let next = if taken == silent { silent } else { 0 };
            assert!(again[..11].iter().all(|more| *more == next), "{open}, {silent}: {again:?}");
            assert_eq!(again[11], taken, "{open}, {silent}: the next ttl");
        }
    }

    fn heard(up: bool, committed: SegmentNumber, since: u64, age: u64) -> Heard {
        let age = Duration::from_secs(age);
        Heard { up, committed, nonce: committed, since: at(since), age, grew_at: None }
    }

    #[test]
    fn who_tells_that_it_writes_lives() {
        // (grown as was told, last look found that to be a lie, now, alive)
        for (grew_at, told, now, alive) in [
            (None, Told::Nothing, 10, false),
            (Some(4), Told::Nothing, 10, true),
            (Some(4), Told::Nothing, 13, false),
            (Some(4), Told::False, 10, false),
        ] {
            let mut suspicion = watched(&[(0, 5)]);
            let heard = Heard { grew_at: grew_at.map(at), ..heard(true, 6, 4, 0) };
            suspicion.follow(&[id(1)], BTreeMap::from([(id(1), heard)]));
            suspicion.looked(id(1), 5, told, at(1), at(1));
            assert_eq!(suspicion.alive(at(now)).count() == 1, alive, "{grew_at:?} {told:?} {now}");
        }
    }

    #[test]
    fn who_tells_is_hardly_looked_at() {
        // (what was told, what the last look at second 10 found of that; the second of the next)
        let table = [
            (None, Told::Nothing, 12),
            (Some(heard(true, 5, 10, 0)), Told::True(heard(true, 5, 10, 0)), 16),
            (Some(heard(true, 5, 10, 3)), Told::Nothing, 13),
            (Some(heard(true, 6, 70, 0)), Told::Nothing, 76),
            (Some(heard(true, 7, 90, 0)), Told::Nothing, 82),
            (Some(heard(true, 5, 2, 0)), Told::Nothing, 12),
            (Some(heard(false, 5, 10, 0)), Told::Nothing, 12),
            (Some(heard(true, 5, 10, 0)), Told::False, 12),
        ];
        for (told, found, next) in table {
            let mut suspicion = Suspicion::new(TTL);
            let open = [id(1)];
            suspicion.follow(&open, BTreeMap::new());
            assert_eq!((suspicion.pause(&open, at(10)), suspicion.due(&open, at(10))), (Duration::ZERO, vec![id(1)]));
            suspicion.looks(id(1), at(10));
            suspicion.looked(id(1), 5, found, at(10), at(10));
            suspicion.follow(&open, told.map(|told| (id(1), told)).into_iter().collect());
            assert_eq!(suspicion.due(&open, at(next - 1)), [], "{told:?} {found:?}");
            assert_eq!(suspicion.due(&open, at(next)), [id(1)], "{told:?} {found:?}");
            let pause = Duration::from_secs((next - 10).min(2));
            assert_eq!(suspicion.pause(&open, at(10)), pause, "{told:?} {found:?}");
        }
        assert_eq!(Suspicion::new(TTL).pause(&[], at(0)), TTL / 6);
    }

    #[test]
    fn a_wait_counts_from_when_the_last_segment_was_told() {
        let table = [
            ("told and found", Told::True(heard(false, 5, 4, 0)), 5, 4),
            ("too long ago", Told::True(heard(false, 5, 1, 0)), 5, 10),
            ("more stands", Told::True(heard(false, 5, 4, 0)), 6, 10),
            ("another stands", Told::False, 5, 10),
            ("nothing was told", Told::Nothing, 5, 10),
        ];
        for (name, told, end, since) in table {
            for before in [&[][..], &[(0, 3)], &[(0, 5)]] {
                let mut suspicion = watched(before);
                for second in 10..40 {
                    suspicion.looked(id(1), end, told, at(second), at(second));
                    assert_eq!(suspicion.is_dead(id(1), at(11), at(second)), second >= since + 12, "{name}, {second}");
                }
            }
        }
        let mut watched = watched(&[(0, 5), (2, 5), (4, 5), (6, 5)]);
        watched.looked(id(1), 5, Told::True(heard(false, 5, 6, 0)), at(8), at(8));
        assert_eq!(watched.seen[&id(1)].since, at(0), "looks that saw it earlier count");
    }

    /// One that writes every third of a ttl, and tells, for a minute; then it ends in some way.
    #[test]
    fn who_ends_is_looked_at_and_dead_in_time() {
        // (what ends at second 60: its writing, its connection; then the latest second at which it is dead)
        for (writes, connected, dead) in [(false, false, 72), (false, true, 74), (true, false, 0), (true, true, 0)] {
            let (open, mut suspicion, mut told) = ([id(1)], Suspicion::new(TTL), heard(true, 1, 0, 0));
            let (mut end, mut looks, mut dead_at) = (1, [0, 0], 0);
            for second in 0..120 {
                let ended = second >= 60;
                if second % 4 == 0 && (!ended || writes) {
                    end += 1;
                }
                told.up = !ended || connected;
                if told.up && told.committed != end {
                    told = heard(true, end, second, 0);
                }
                suspicion.follow(&open, BTreeMap::from([(id(1), told)]));
                suspicion.committed(at(second), at(second));
                for session in suspicion.due(&open, at(second)) {
                    suspicion.looks(session, at(second));
                    let found = if told.committed <= end { Told::True(told) } else { Told::False };
                    suspicion.looked(session, end, found, at(second), at(second));
                    looks[usize::from(ended)] += 1;
                }
                if dead_at == 0 && !suspicion.dead(at(second), at(second)).is_empty() {
                    dead_at = second;
                }
            }
            assert!(looks[0] == 1, "{writes} {connected}: {looks:?}");
            assert!(
                looks[1] == if writes && connected { 1 } else { looks[1].max(20) },
                "{writes} {connected}: {looks:?}"
            );
            assert!(dead_at <= dead && (dead_at > 60) == (dead > 0), "{writes} {connected}: {dead_at}");
        }
    }
}

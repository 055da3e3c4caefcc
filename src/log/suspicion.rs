//! Which sessions of other brokers are dead. Pure.
//!
//! The segment sequence is the heartbeat: a session that lives writes a segment every ttl/3, so one whose end has stood still for a
//! whole ttl, seen again and again by somebody whose own segments were committed meanwhile, is dead or can't be told from it. It may be
//! fenced, and a fence is always safe: whatever it still has under way does not count then. Looks that failed are no evidence, and
//! after a gap between looks, or between segments of our own, the wait begins anew, for the gap may be ours or everybody's. Who sees half of the others dead is more likely to be the
//! odd one himself, and takes one per ttl.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::mutant::{self, Mutant};
use crate::types::{SegmentNumber, SessionId};

/// What one broker has seen of the others. Times are of the boot clock.
pub struct Suspicion {
    ttl: Duration,
    seen: BTreeMap<SessionId, Seen>,
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
}

impl Suspicion {
    pub fn new(ttl: Duration) -> Suspicion {
        Suspicion { ttl, seen: BTreeMap::new(), taken_at: None, proven: Duration::ZERO }
    }

    /// These sessions are open besides our own; what is known of others is forgotten.
    pub fn follow(&mut self, open: &[SessionId]) {
        self.seen.retain(|id, _| open.contains(id));
    }

    /// Before looks: `proven` is when the newest of our own committed segments was first sent. Where none landed for half a ttl nobody's
    /// may have, and the wait for all begins anew: one segment of ours after a long outage does not tell that they had the time.
    pub fn committed(&mut self, proven: Duration, now: Duration) {
        let newest = if proven > self.proven { proven } else { now };
        if newest.saturating_sub(self.proven) > self.ttl / 2 {
            self.seen.values_mut().for_each(|seen| seen.since = now);
        }
        self.proven = proven.max(self.proven);
    }

    /// Where the next look at a session begins.
    pub fn end_seen(&self, session: SessionId) -> SegmentNumber {
        self.seen.get(&session).map_or(0, |seen| seen.end)
    }

    /// A look that began at `began` and ended at `now` found segments below `end`, and none at it.
    pub fn looked(&mut self, session: SessionId, end: SegmentNumber, began: Duration, now: Duration) {
        let seen = self.seen.entry(session).or_insert(Seen { end, since: now, looked_at: now, grew_at: None });
        let gap = began.saturating_sub(seen.looked_at) > self.ttl / 3;
        if end > seen.end {
            seen.grew_at = Some(now);
        }
        if end > seen.end || gap {
            (seen.end, seen.since) = (seen.end.max(end), now);
        }
        seen.looked_at = now;
    }

    /// Sessions that were seen to write not long ago: who lives writes every third of a ttl, and is looked at twice as often.
    pub fn alive(&self, now: Duration) -> impl Iterator<Item = SessionId> {
        let lives = move |seen: &Seen| seen.grew_at.is_some_and(|at| now.saturating_sub(at) <= self.ttl * 2 / 3);
        self.seen.iter().filter(move |(_, seen)| lives(seen)).map(|(id, _)| *id)
    }

    /// Whether a session may be closed at its end. `proven`: when the newest of our own committed segments was first sent.
    pub fn is_dead(&self, session: SessionId, proven: Duration, now: Duration) -> bool {
        let Some(seen) = self.seen.get(&session) else { return false };
        let wait = if mutant::on(Mutant::CloseEarly) { self.ttl * 2 / 5 } else { self.ttl };
        let silent = now.saturating_sub(seen.since) >= wait;
        let watched = now.saturating_sub(seen.looked_at) <= self.ttl / 3;
        silent && watched && proven > seen.since
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
            suspicion.looked(id(1), *end, at(*seconds), at(*seconds));
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
        assert_eq!(suspicion.end_seen(id(1)), 5);
        suspicion.looked(id(1), 7, at(3), at(6));
        for second in [8, 10, 12, 14, 16] {
            suspicion.looked(id(1), 7, at(second), at(second));
        }
        assert!(!suspicion.is_dead(id(1), at(17), at(17)));
        suspicion.looked(id(1), 7, at(18), at(18));
        assert!(suspicion.is_dead(id(1), at(18), at(18)));
        suspicion.follow(&[id(2)]);
        assert_eq!(suspicion.end_seen(id(1)), 0);
    }

    #[test]
    fn who_was_seen_to_write_not_long_ago_lives() {
        // (looks, now, alive)
        type Looks<'a> = &'a [(u64, SegmentNumber)];
        let table: [(Looks, u64, bool); 5] = [
            (&[], 0, false),
            (&[(0, 5)], 0, false),
            (&[(0, 5), (2, 6)], 10, true),
            (&[(0, 5), (2, 6), (8, 6)], 11, false),
            (&[(0, 5), (2, 6), (9, 7)], 11, true),
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
                suspicion.looked(id(1), 5, at(*second), at(*second));
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
                    suspicion.looked(id(random), end, at(second), at(second));
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
}

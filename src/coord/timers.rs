//! The timers of one group: a deadline per key, the nearest first.

use std::collections::{BTreeMap, BTreeSet};

/// What a timer is for. Keys order timers that fall due at the same moment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKey {
    /// The join phase has to end.
    Join,
    /// Members that have not synced yet are to leave.
    Sync,
    /// A member's session, or a pending member's time to come back, is over.
    Member(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timers {
    by_key: BTreeMap<TimerKey, i64>,
    by_time: BTreeSet<(i64, TimerKey)>,
}

impl Timers {
    /// Sets or moves a timer; milliseconds of the steady clock.
    pub fn set(&mut self, key: TimerKey, at_ms: i64) {
        self.cancel(&key);
        self.by_time.insert((at_ms, key.clone()));
        self.by_key.insert(key, at_ms);
    }

    pub fn cancel(&mut self, key: &TimerKey) {
        if let Some(at_ms) = self.by_key.remove(key) {
            self.by_time.remove(&(at_ms, key.clone()));
        }
    }

    pub fn cancel_member(&mut self, member_id: &str) {
        self.cancel(&TimerKey::Member(member_id.to_owned()));
    }

    pub fn next_deadline(&self) -> Option<i64> {
        self.by_time.first().map(|(at_ms, _)| *at_ms)
    }

    /// Takes out the first timer that is due.
    pub fn pop_due(&mut self, now_ms: i64) -> Option<TimerKey> {
        if self.next_deadline()? > now_ms {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_timers_come_in_order_and_once() {
        let mut timers = Timers::default();
        timers.set(TimerKey::Sync, 5);
        timers.set(TimerKey::Join, 5);
        timers.set(TimerKey::Member("b".to_owned()), 9);
        timers.set(TimerKey::Member("a".to_owned()), 3);
        timers.set(TimerKey::Member("a".to_owned()), 7);
        timers.cancel_member("b");
        assert_eq!(timers.next_deadline(), Some(5));
        assert_eq!(timers.pop_due(4), None);
        assert_eq!(timers.pop_due(9), Some(TimerKey::Join));
        assert_eq!(timers.pop_due(9), Some(TimerKey::Sync));
        assert_eq!(timers.pop_due(9), Some(TimerKey::Member("a".to_owned())));
        assert_eq!(timers.pop_due(9), None);
        assert_eq!(timers.next_deadline(), None);
    }
}

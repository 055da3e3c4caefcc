//! Few log lines where many things go wrong at once.

use std::time::Duration;

use parking_lot::Mutex;

/// Lets one pass per interval and counts the others.
pub struct Pace {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Duration>,
    held_back: u64,
}

impl Pace {
    pub fn new(interval: Duration) -> Pace {
        Pace { interval, state: Mutex::default() }
    }

    /// Whether this one passes, at boot time `now`; with how many were held back before it.
    pub fn pass(&self, now: Duration) -> Option<u64> {
        let mut state = self.state.lock();
        if state.last.is_some_and(|last| now < last + self.interval) {
            state.held_back += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_per_interval() {
        let pace = Pace::new(Duration::from_secs(1));
        let at = |ms| pace.pass(Duration::from_millis(ms));
        assert_eq!((at(0), at(10), at(999), at(1000), at(2500)), (Some(0), None, None, Some(2), Some(0)));
    }
}

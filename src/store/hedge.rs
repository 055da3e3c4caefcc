//! When to send a slow create a second time. Live latencies stand in a small histogram that forgets; the budget is 5 % of
//! requests, and a store that said "slow down" gets no second requests for five seconds.

use std::time::Duration;

use parking_lot::Mutex;

/// Below so many samples nothing is known of the 99th percentile.
const MIN_SAMPLES: u64 = 100;
/// At so many samples all counts are halved, so that the figure follows the store's mood.
const DECAY_AT_SAMPLES: u64 = 2_000;
const MIN_HEDGE_DELAY: Duration = Duration::from_millis(10);
const QUIET_AFTER_BUSY: Duration = Duration::from_secs(5);
/// One hedge in so many requests at most.
const REQUESTS_PER_HEDGE: u64 = 20;
/// Sub-buckets in each power of two: steps of an eighth.
const STEPS: u32 = 8;
const BUCKETS: usize = 40 * STEPS as usize;

/// Latencies of creates, and permission for second attempts. Shared by all creates of one store.
pub struct HedgeTracker {
    state: Mutex<State>,
}

struct State {
    counts: Vec<u32>,
    samples: u64,
    requests: u64,
    hedges: u64,
    busy_at: Option<Duration>,
    hedges_sent: u64,
}

impl HedgeTracker {
    pub fn new() -> HedgeTracker {
        HedgeTracker {
            state: Mutex::new(State {
                counts: vec![0; BUCKETS],
                samples: 0,
                requests: 0,
                hedges: 0,
                busy_at: None,
                hedges_sent: 0,
            }),
        }
    }

    /// Counts a request; says how long to wait for its answer before [`HedgeTracker::take_permit`] is asked.
    pub fn request(&self) -> Option<Duration> {
        let mut state = self.state.lock();
        state.requests += 1;
        if state.requests >= DECAY_AT_SAMPLES {
            state.requests /= 2;
            state.hedges /= 2;
        }
        (state.samples >= MIN_SAMPLES).then(|| percentile_99(&state).max(MIN_HEDGE_DELAY))
    }

    /// Whether a second attempt may go out at `now` (boot clock); a yes is counted.
    pub fn take_permit(&self, now: Duration) -> bool {
        let mut state = self.state.lock();
        let quiet = state.busy_at.is_some_and(|at| now.saturating_sub(at) < QUIET_AFTER_BUSY);
        if quiet || (state.hedges + 1) * REQUESTS_PER_HEDGE > state.requests {
            return false;
        }
        state.hedges += 1;
        state.hedges_sent += 1;
        true
    }

    /// How long a create took, or has taken so far when its hedge answered first.
    pub fn record(&self, latency: Duration) {
        let mut state = self.state.lock();
        state.counts[bucket_of(latency)] += 1;
        state.samples += 1;
        if state.samples >= DECAY_AT_SAMPLES {
            state.counts.iter_mut().for_each(|count| *count /= 2);
            state.samples = state.counts.iter().map(|count| u64::from(*count)).sum();
        }
    }

    /// The store asked to slow down.
    pub fn busy(&self, now: Duration) {
        self.state.lock().busy_at = Some(now);
    }

    /// Second attempts sent since the start.
    pub fn hedges_sent(&self) -> u64 {
        self.state.lock().hedges_sent
    }
}

impl Default for HedgeTracker {
    fn default() -> Self {
        HedgeTracker::new()
    }
}

fn percentile_99(state: &State) -> Duration {
    let rank = state.samples - state.samples / 100;
    let mut seen = 0;
    for (bucket, count) in state.counts.iter().enumerate() {
        seen += u64::from(*count);
        if seen >= rank {
            return upper_bound(bucket);
        }
    }
    upper_bound(BUCKETS - 1)
}

/// Buckets are linear below 8 µs, then eight to each power of two.
fn bucket_of(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    if micros < u64::from(STEPS) {
        return usize::try_from(micros).unwrap_or(0);
    }
    let power = micros.ilog2();
    let step = (micros >> (power - 3)) & 7;
    let bucket = (power - 2) * STEPS + u32::try_from(step).unwrap_or(0);
    (bucket as usize).min(BUCKETS - 1)
}

/// The first latency above the bucket.
fn upper_bound(bucket: usize) -> Duration {
    let bucket = bucket as u64;
    let steps = u64::from(STEPS);
    if bucket < steps {
        return Duration::from_micros(bucket + 1);
    }
    let shift = bucket / steps - 1;
    Duration::from_micros((steps + bucket % steps + 1) << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn buckets_hold_what_they_say() {
        for micros in (0..5_000).chain([70_000, 1_000_000, 29_999_999]) {
            let bucket = bucket_of(Duration::from_micros(micros));
            assert!(Duration::from_micros(micros) < upper_bound(bucket), "{micros}");
            assert!(bucket == 0 || upper_bound(bucket - 1) <= Duration::from_micros(micros), "{micros}");
        }
    }

    #[test]
    fn waits_for_samples_then_for_the_99th_percentile() {
        let tracker = HedgeTracker::new();
        (0..99).for_each(|_| tracker.record(MS(30)));
        assert_eq!(tracker.request(), None);
        tracker.record(MS(500));
        let delay = tracker.request().expect("100 samples");
        assert!(delay >= MS(30) && delay < MS(35), "{delay:?}");
        (0..100).for_each(|_| tracker.record(MS(500)));
        assert!(tracker.request().expect("samples") >= MS(500));
    }

    #[test]
    fn never_below_ten_milliseconds() {
        let tracker = HedgeTracker::new();
        (0..200).for_each(|_| tracker.record(MS(1)));
        assert_eq!(tracker.request(), Some(MS(10)));
    }

    #[test]
    fn permits_one_in_twenty_and_none_after_busy() {
        let tracker = HedgeTracker::new();
        let mut granted = 0;
        for _ in 0..1000 {
            tracker.request();
            granted += u32::from(tracker.take_permit(MS(0)));
        }
        assert_eq!(granted, 50);
        for _ in 0..40 {
            tracker.request();
        }
        tracker.busy(MS(1_000));
        assert!(!tracker.take_permit(MS(5_999)));
        assert!(tracker.take_permit(MS(6_000)));
    }
}

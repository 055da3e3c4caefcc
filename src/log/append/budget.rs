//! One budget for every byte that was received and is not yet committed (guarantee 6).
//!
//! A charge is taken as bytes arrive and travels with them: from the frame to the open segment to the upload. It ends when the last
//! holder drops it. When nothing is left, sockets are not read from.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[derive(Clone)]
pub struct Budget {
    total: usize,
    free: Arc<Semaphore>,
}

/// A part of the budget, given back on drop.
pub struct Charge {
    permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    pub fn new(bytes: usize) -> Budget {
        let total = bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Budget { total, free: Arc::new(Semaphore::new(total)) }
    }

    /// Waits for `bytes` (at most the whole budget). Cancellation safe; first come, first served.
    pub async fn charge(&self, bytes: usize) -> Charge {
        let bytes = u32::try_from(bytes.min(self.total)).unwrap_or(u32::MAX);
        let permit = self.free.clone().acquire_many_owned(bytes).await;
        Charge { permit: Some(permit.expect("the budget is never closed")) }
    }

    pub fn try_charge(&self, bytes: usize) -> Option<Charge> {
        let bytes = u32::try_from(bytes.min(self.total)).unwrap_or(u32::MAX);
        let permit = self.free.clone().try_acquire_many_owned(bytes).ok()?;
        Some(Charge { permit: Some(permit) })
    }

    pub fn total(&self) -> usize {
        self.total
    }

    pub fn used(&self) -> usize {
        self.total - self.free.available_permits()
    }

    /// Less than half is left: holders are held to [`Self::is_fair`].
    pub fn under_pressure(&self) -> bool {
        self.free.available_permits() < self.total / 2
    }

    /// Whether a single connection may hold `bytes`. Under pressure that is twice what is left to all others (of n that want all they can
    /// get, each gets 2 parts of 2n+1 and one part stays free for who comes), or a sixteenth of the whole. So who is alone with
    /// a large request is not stopped by what merging holds. Source: Choudhury and Hahne, "Dynamic Queue Length Thresholds".
    pub fn is_fair(&self, bytes: usize) -> bool {
        let free = self.free.available_permits();
        free >= self.total / 2 || bytes <= (self.total / 16).max(2 * free)
    }
}

impl Charge {
    pub fn none() -> Charge {
        Charge { permit: None }
    }

    pub fn bytes(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Joins another charge of the same budget to this one.
    pub fn add(&mut self, mut other: Charge) {
        match (&mut self.permit, other.permit.take()) {
            (Some(mine), Some(more)) => mine.merge(more),
            (mine @ None, more) => *mine = more,
            (Some(_), None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_back_what_was_taken() {
        let budget = Budget::new(100);
        let mut first = budget.charge(30).await;
        first.add(budget.charge(30).await);
        assert_eq!((first.bytes(), budget.used()), (60, 60));
        assert!(budget.try_charge(41).is_none());
        assert!(budget.under_pressure());
        drop(first);
        assert_eq!(budget.used(), 0);
        assert_eq!(budget.charge(1000).await.bytes(), 100, "more than all waits for all");
    }

    #[tokio::test]
    async fn under_pressure_a_single_one_may_hold_twice_what_is_left() {
        // (taken of 160, held by one, may it)
        let table = [
            (0, 160, true),
            (80, 160, true),
            (81, 159, false),
            (81, 158, true),
            (120, 80, true),
            (120, 81, false),
            (156, 10, true),
            (156, 11, false),
            (160, 10, true),
            (160, 11, false),
        ];
        for (taken, held, expected) in table {
            let budget = Budget::new(160);
            let _taken = budget.charge(taken).await;
            assert_eq!(budget.is_fair(held), expected, "{held} with {taken} taken");
        }
    }
}

//! Reminds the owner to read the table's tail: now and then, and soon after somebody told of something new.
//!
//! Hints come from the table itself, where it can tell, and from other brokers. They carry no truth. However many come, the tail is read
//! once in 50 ms; and where the revision that was told of is not found, hints wait twice as long the next time, up to the interval of
//! polls: who lies all the time doubles the polls at most, and who told the truth is heard at once again.
//!
//! The table is polled once per interval (shortened by up to a tenth at random). While all other brokers answer over their connections
//! that is 9 s: any of them tells of what it appended within a moment, and of what it knows several times in a ttl, whichever of the
//! two connections between a pair is up. What the table holds and nobody told of is found then, too, and earlier by whoever is asked
//! for what it does not know ([`super::Metadata::catch_up_hint`]); nothing that must be right depends on when an image is read. A
//! broker that is alone has nobody to hear of, and one that comes tells itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::HINT_PAUSE;
use super::error::MetaError;
use super::history::{LIKELY, LIKELY_AFTER_HINT};
use super::owner::{Command, IMAGE_MAX_AGE, Shared};
use super::table::TableRef;
use crate::types::Revision;
use crate::types::env::Entropy;

/// What other brokers told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The highest revision that was not looked for yet; 0: none.
    revision: Revision,
    /// All of them tell.
    pub by_all: bool,
}

impl Told {
    /// Whether this is news.
    pub fn hear(&mut self, revision: Revision) -> bool {
        let higher = revision > self.revision;
        self.revision = self.revision.max(revision);
        higher
    }

    /// What was looked for is told no more.
    fn looked_for(&mut self, revision: Revision) -> bool {
        if self.revision <= revision {
            self.revision = 0;
        }
        false
    }
}

/// The read for a hint has come back.
type Answer = oneshot::Receiver<Result<Revision, MetaError>>;

/// How long hints wait.
struct Patience {
    pause: Duration,
    most: Duration,
}

impl Patience {
    /// Who told the truth the last time is believed that there is one entry: the read looks behind it at the same time.
    fn likely(&self) -> usize {
        if self.pause <= HINT_PAUSE { LIKELY_AFTER_HINT } else { LIKELY }
    }

    /// After a read for a hint: `found` what was told of, or not.
    fn judge(&mut self, found: bool) {
        self.pause = if found { HINT_PAUSE } else { (self.pause * 2).min(self.most.max(HINT_PAUSE)) };
    }
}

pub(super) struct Poller {
    pub interval: Duration,
    pub commands: mpsc::WeakSender<Command>,
    pub shared: Arc<Shared>,
    pub table: TableRef,
    pub entropy: Arc<dyn Entropy>,
    pub told: watch::Sender<Told>,
}

impl Poller {
    pub async fn run(self) {
        let mut patience = Patience { pause: HINT_PAUSE, most: self.interval };
        let mut looked_for = None;
        loop {
            let begun = Instant::now();
            let command = tokio::select! {
                biased;
                told = self.hinted(begun, &mut patience, &mut looked_for) => {
                    let (reader, answer) = oneshot::channel();
                    looked_for = told.map(|told| (told, answer));
                    let told = told.unwrap_or(0);
                    self.told.send_if_modified(|hint| hint.looked_for(told));
                    Command::CatchUp { reader, look: false, likely: patience.likely() }
                }
                () = self.due(begun) => Command::Poll,
            };
            let Some(commands) = self.commands.upgrade() else { return };
            if let Err(mpsc::error::TrySendError::Closed(_)) = commands.try_send(command) {
                return;
            }
        }
    }

    /// Waits for a hint, and gives the revision that another broker told of.
    async fn hinted(
        &self,
        begun: Instant,
        patience: &mut Patience,
        looked_for: &mut Option<(Revision, Answer)>,
    ) -> Option<Revision> {
        sleep(HINT_PAUSE).await;
        let known = || self.shared.image.read().revision;
        if let Some((told, answer)) = looked_for {
            // On a store that is far away the read takes longer than the pause: who told the truth is not to be judged before.
            let _owner_may_be_gone = answer.await;
            patience.judge(known() >= *told);
            *looked_for = None;
        }
        sleep_until(begun + patience.pause).await;
        let known = known();
        let mut told = self.told.subscribe();
        tokio::select! {
            biased;
            told = told.wait_for(|told| told.revision > known) => told.ok().map(|told| told.revision),
            () = self.table.changed(known) => None,
        }
    }

    /// Waits for the next poll.
    async fn due(&self, begun: Instant) {
        let permille = 1000 - u32::try_from(self.entropy.next_u64() % 100).unwrap_or(0);
        let mut told = self.told.subscribe();
        loop {
            let by_all = told.borrow_and_update().by_all;
            let interval = if by_all { self.interval.max(IMAGE_MAX_AGE * 9 / 10) } else { self.interval };
            tokio::select! {
                biased;
                () = sleep_until(begun + interval * permille / 1000) => return,
                // The sender is ours.
                _ = told.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_that_find_nothing_wait_longer() {
        let mut patience = Patience { pause: HINT_PAUSE, most: Duration::from_millis(300) };
        for (found, ms) in [(true, 50), (false, 100), (false, 200), (false, 300), (false, 300), (true, 50)] {
            patience.judge(found);
            assert_eq!(patience.pause.as_millis(), ms);
            assert_eq!(patience.likely(), if found { LIKELY_AFTER_HINT } else { LIKELY });
        }
        let mut short = Patience { pause: HINT_PAUSE, most: Duration::from_millis(10) };
        short.judge(false);
        assert_eq!(short.pause, HINT_PAUSE);
    }

    #[test]
    fn the_highest_counts_until_it_was_looked_for() {
        let mut told = Told::default();
        assert_eq!([5, 3, 5, 9].map(|revision| told.hear(revision)), [true, false, false, true]);
        assert!(!told.looked_for(5) && told.revision == 9);
        told.looked_for(9);
        assert_eq!((told.revision, told.hear(9)), (0, true));
    }
}

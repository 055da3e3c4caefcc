//! Situations that schedules are meant to reach, and how often they did. What no schedule reaches is not tested, however many run.
//!
//! Two sources: what lands in the bucket ([`crate::truth`]), and what the broker itself says in its log.

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// How a count of a situation is called among other counters.
pub const PREFIX: &str = "reached: ";

/// All of them, in the order in which they are shown.
pub const ALL: &[&str] = &[
    "lease: handed over",
    "lease: handed over during the upload of its last segment",
    "lease: handed over by a session with a fence in its way",
    "lease: hand-over of unknown outcome",
    "lease: comes back to a session that had it",
    "lease: was another's between two looks",
    "lease: of a vacant partition",
    "recovery: waits for the last segments of who had it",
    "recovery: waits for the store or the table",
    "recovery: stopped at what is damaged",
    "recovery: what seemed damaged was whole",
    "session: closed",
    "session: closed, nobody is ready",
    "session: closed below what it handed over through",
    "session: of the broker's own last life closed",
    "session: looked dead, had written more",
    "session: closed by neighbours, another one follows",
    "session: ended by a denial, another one follows",
    "session: gave up what it held, and left",
    "session: closed at level 1",
    "level: raised while there is something",
    "level: an older program ended at what it does not know",
    "fence: in the way of a session that writes",
    "fence: two brokers fenced one session",
    "fence: by the broker itself, or its next life",
    "late write: after a fence, below it or above",
    "late write: behind the end of its session",
    "late write: below what is merged",
    "late write: where its name was collected",
    "write: hedged",
    "write: its name has an object that can't be read yet",
    "merge: committed",
    "merge: of another broker's session",
    "merge: under way on a session that is closed",
    "merge: came to nothing",
    "reader: object missing, looked where its records are now",
    "metadata: outcome of an append unknown",
    "metadata: a no-op settled an append",
    "metadata: a generation was closed",
    "metadata: truncated behind a broker, snapshot loaded",
    "metadata: a late append landed in a closed generation",
    "metadata: away, and back",
    "garbage: segments deleted",
    "garbage: what is left of a merge deleted",
    "group: lease of its partition ended",
];

/// What the broker says in its log when it is there.
const SAID: &[(&str, &str)] = &[
    ("leases are on their way to other brokers", "lease: hand-over of unknown outcome"),
    ("was another broker's meanwhile", "lease: was another's between two looks"),
    ("waits for the last segments of the broker that had it", "recovery: waits for the last segments of who had it"),
    ("the store or the table does not give what recovery needs", "recovery: waits for the store or the table"),
    ("recovery stopped: the partition is closed", "recovery: stopped at what is damaged"),
    ("what seemed damaged is whole", "recovery: what seemed damaged was whole"),
    ("closed an earlier session of this node", "session: of the broker's own last life closed"),
    ("a session that looked dead had written more", "session: looked dead, had written more"),
    ("gave up what it held", "session: gave up what it held, and left"),
    ("and can't be read yet", "write: its name has an object that can't be read yet"),
    ("ended the claim of a merge", "merge: came to nothing"),
    ("looked where its records are now", "reader: object missing, looked where its records are now"),
    ("the outcome of an append to the metadata table is unknown", "metadata: outcome of an append unknown"),
    ("the metadata table was truncated; snapshot loaded", "metadata: truncated behind a broker, snapshot loaded"),
    ("the metadata table answers again", "metadata: away, and back"),
    ("deleted segments that are merged", "garbage: segments deleted"),
    ("deleted what is left of a merge", "garbage: what is left of a merge deleted"),
    ("the lease of a group partition ended", "group: lease of its partition ended"),
];

/// The same by the reason that is given why another session follows.
const REASONS: &[(&str, &str)] = &[
    ("another broker closed it", "session: closed by neighbours, another one follows"),
    ("the store refuses writes", "session: ended by a denial, another one follows"),
];

static REACHED: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// One run per process, so the counts are the run's.
pub fn reached(what: &'static str) {
    debug_assert!(ALL.contains(&what), "{what} is not in the list");
    *REACHED.lock().entry(what).or_default() += 1;
}

pub fn take() -> BTreeMap<&'static str, u64> {
    std::mem::take(&mut REACHED.lock())
}

/// Listens to the broker's log.
pub struct Listener;

struct Words(Vec<&'static str>);

impl Words {
    fn look(&mut self, text: &str, table: &'static [(&'static str, &'static str)]) {
        self.0.extend(table.iter().filter(|(said, _)| text.contains(said)).map(|(_, state)| *state));
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "reason" {
            self.look(value, REASONS);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.look(&format!("{value:?}"), SAID),
            "reason" => self.look(&format!("{value:?}"), REASONS),
            _ => {}
        }
    }
}

impl<S: Subscriber> Layer<S> for Listener {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.target().starts_with("alluvium")
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut words = Words(Vec::new());
        event.record(&mut words);
        words.0.into_iter().for_each(reached);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A message that was reworded would leave its situation unseen.
    #[test]
    fn the_broker_still_says_what_is_listened_for() {
        let mut texts = String::new();
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("the broker's source") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    texts.push_str(&std::fs::read_to_string(path).expect("a text"));
                }
            }
        }
        for (said, state) in SAID.iter().chain(REASONS) {
            assert!(texts.contains(said), "nothing in the broker says {said:?} any more");
            assert!(ALL.contains(state), "{state} is not in the list");
        }
    }
}

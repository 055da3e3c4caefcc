//! Series that are read off the rooms themselves rather than counted: what is buffered, topics, leases, groups.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tikv_jemalloc_ctl::{epoch, stats};

use crate::api::Services;
use crate::coord::group::{Group, State};
use crate::log::append::budget::Budget;

/// Groups are counted so often.
const GROUPS_PAUSE: Duration = Duration::from_secs(5);

/// Shows the gauges of a session; those of the next one take their place.
pub fn show(services: &Services) {
    let metrics = &services.metrics;
    let budgets = [services.log.budget.clone(), services.log.internal_budget.clone()];
    let used = move || count(budgets.iter().map(Budget::used).sum());
    metrics.show_gauge("buffered_bytes", "Received and not yet committed", used);
    let meta = services.meta.clone();
    let topics = move || count(meta.read(|image| image.topics.len()));
    metrics.show_gauge("topics", "Topics of the cluster", topics);
    let (meta, session) = (services.meta.clone(), services.log.session);
    let held = move || count(meta.read(|image| image.held_by(session).count()));
    metrics.show_gauge("partitions_held", "Partitions that this broker leads", held);
    metrics.show_gauge("memory_allocated_bytes", "In use, by the allocator's count", || {
        count(memory(stats::allocated::read))
    });
    let help = "In physical memory, by the allocator's count: in use, and freed but not yet given back";
    metrics.show_gauge("memory_resident_bytes", help, || count(memory(stats::resident::read)));
}

/// A number of the allocator's as it is now; 0 where the program has another one.
fn memory(read: impl Fn() -> tikv_jemalloc_ctl::Result<usize>) -> usize {
    epoch::advance().and_then(|_| read()).unwrap_or(0)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Counts the groups by state, until it is dropped.
pub async fn count_groups(services: Arc<Services>) {
    loop {
        let mut states: BTreeMap<&'static str, usize> = State::ALL.iter().map(|state| (state.name(), 0)).collect();
        // Partitions that are still loading are counted the next time.
        services.groups.survey(|group: &Group| *states.entry(group.state().name()).or_default() += 1);
        states.iter().for_each(|(state, count)| services.metrics.set_groups(state, *count));
        tokio::time::sleep(GROUPS_PAUSE).await;
    }
}

//! Deletions of topics that no loaded partition heard of: each is told once.

use std::time::Duration;

use super::runtime::{commit, home, replayed, start, stored};
use super::*;

async fn moment() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_while_nothing_was_loaded_goes_with_the_next_load() {
    // When the deletion is told: whether an append is in flight, the lease, how often loads fail. Then the lease after it.
    let not_held = (false, None, 0, Some(2));
    let loading = (false, Some(1), 1, Some(1));
    let draining = (true, Some(1), 0, Some(1));
    for (in_flight, lease, failures, later) in [not_held, loading, draining] {
        let (groups, log) = start(limits());
        commit(&groups, 0, 1).await.expect("stored");
        if in_flight {
            log.set_delay(Duration::from_millis(50));
            let unanswered = tokio::time::timeout(Duration::from_millis(1), commit(&groups, 1, 2)).await;
            assert!(unanswered.is_err());
        }
        log.fail_replays(home(), failures);
        log.set_lease(home(), lease);
        moment().await;
        log.delete_topic(TopicId(7));
        groups.topics_deleted(vec![("t".to_owned(), TopicId(7))]);
        log.set_lease(home(), later);
        assert_eq!(stored(&groups, 0).await, Ok(None), "{in_flight}, {lease:?}");
        assert_eq!(replayed(&log).groups().count(), 0, "the log has it as well");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_log_is_spared_until_it_takes_appends() {
    let (groups, log) = start(limits());
    commit(&groups, 0, 1).await.expect("stored");
    log.set_lease(home(), None);
    moment().await;
    log.delete_topic(TopicId(7));
    log.set_full(home(), true);
    log.set_lease(home(), Some(1));
    assert_eq!(stored(&groups, 0).await, Ok(Some(1)));
    log.set_full(home(), false);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(stored(&groups, 0).await, Ok(None));
}

//! Many creators of one name: one wins, the others are told so, and the winner's bytes are the object.

use alluvium::store::{ReadRange, StoreError, StoreRef};
use bytes::Bytes;

use crate::backends::Backend;

crate::on_every_store!(sixteen_writers_of_100_kb, four_writers_of_8_mib);

async fn sixteen_writers_of_100_kb(backend: &Backend) {
    for round in 0..20 {
        race(&backend.store, &format!("races/small-{round}"), 16, 100_000).await;
    }
}

async fn four_writers_of_8_mib(backend: &Backend) {
    for round in 0..5 {
        race(&backend.store, &format!("races/large-{round}"), 4, 8 << 20).await;
    }
}

fn body_of(writer: usize, size: usize) -> Bytes {
    Bytes::from(vec![writer as u8 + 1; size])
}

async fn race(store: &StoreRef, key: &str, writers: usize, size: usize) {
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (store, key) = (store.clone(), key.to_owned());
            tokio::spawn(async move { create_plainly(&store, &key, body_of(writer, size)).await })
        })
        .collect();
    let mut winners = Vec::new();
    for (writer, task) in tasks.into_iter().enumerate() {
        if task.await.expect("the writer ends") {
            winners.push(writer);
        }
    }
    assert_eq!(winners.len(), 1, "{key}: winners {winners:?}");
    let read = store.read(key, ReadRange::Full).await.expect("the winner's object");
    assert_eq!(read.object_size, size as u64, "{key}");
    assert!(read.bytes == body_of(winners[0], size), "{key}: not the winner's bytes");
}

/// Whether we won. "Later" is allowed to be said in a race, then we ask again.
async fn create_plainly(store: &StoreRef, key: &str, body: Bytes) -> bool {
    for _ in 0..100 {
        match store.create(key, body.clone()).await {
            Ok(()) => return true,
            Err(StoreError::Taken { .. }) => return false,
            Err(StoreError::Busy { .. }) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            Err(error) => panic!("{key}: {error}"),
        }
    }
    panic!("{key}: busy for ever")
}

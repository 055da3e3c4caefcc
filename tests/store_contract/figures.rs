//! How long creates take in a local folder and on MinIO. Run by hand:
//! `ALLUVIUM_TEST_FOLDER=/some/disk cargo test --test store_contract figures -- --ignored --nocapture`

use std::sync::Arc;
use std::time::{Duration, Instant};

use alluvium::store::StoreRef;
use alluvium::store::local::LocalStore;
use alluvium::types::aligned::AlignedBuffer;
use bytes::Bytes;

use crate::backends::fatal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn local_creates() {
    let base = std::env::var_os("ALLUVIUM_TEST_FOLDER").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(base).expect("a folder");
    let store: StoreRef = Arc::new(LocalStore::open(folder.path(), fatal()).expect("opens"));
    for (size, count) in [(200, 400), (4 << 10, 400), (64 << 10, 400), (1 << 20, 200), (8 << 20, 60)] {
        for inflight in [1, 4, 8] {
            run(&store, size, count, inflight).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn minio_creates() {
    let Some(backend) = crate::backends::minio() else { return };
    for (size, count) in [(200, 200), (64 << 10, 200), (1 << 20, 100), (8 << 20, 32)] {
        for inflight in [1, 4, 8] {
            run(&backend.store, size, count, inflight).await;
        }
    }
}

async fn run(store: &StoreRef, size: usize, count: usize, inflight: usize) {
    let mut buffer = AlignedBuffer::with_capacity(size);
    buffer.extend(&vec![7; size]);
    let body: Bytes = buffer.freeze();
    let cpu = cpu_time();
    let started = Instant::now();
    let writers: Vec<_> = (0..inflight)
        .map(|writer| {
            let (store, body) = (store.clone(), body.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                for number in 0..count / inflight {
                    let sent = Instant::now();
                    let key = format!("segments/{size}-{inflight}/{writer}-{number:020}");
                    store.create(&key, body.clone()).await.expect("created");
                    latencies.push(sent.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for writer in writers {
        latencies.extend(writer.await.expect("ends"));
    }
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = (cpu_time() - cpu).as_secs_f64();
    latencies.sort_unstable();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
    let per_second = latencies.len() as f64 / elapsed;
    let mib = per_second * size as f64 / f64::from(1 << 20);
    println!(
        "{size:>8} B x {inflight}: p50 {:>9.2?} p99 {:>9.2?}  {per_second:>7.0}/s {mib:>7.1} MiB/s  {:>5.0} us CPU each",
        at(50),
        at(99),
        cpu * 1e6 / latencies.len() as f64,
    );
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

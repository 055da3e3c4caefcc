//! Series of what other rooms count by themselves, read when `/metrics` is asked for: the store, the block cache. The composition root
//! hands them to [`crate::types::metrics::Metrics::show`].

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::cache::BlockCache;
use crate::store::measure::{ERROR_KINDS, LATENCY_BOUNDS_US, OPERATIONS, OperationSnapshot, StoreStats};

/// The series of a store's attempts.
pub struct StoreSeries(pub Arc<StoreStats>);

/// The series of a block cache.
pub struct CacheSeries(pub Arc<dyn BlockCache>);

impl fmt::Debug for StoreSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreSeries")
    }
}

impl fmt::Debug for CacheSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheSeries")
    }
}

impl Collector for StoreSeries {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        encode_store(&self.0, &mut to)
    }
}

impl Collector for CacheSeries {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        let cache = self.0.counters();
        let mut counter = |name, help, value: u64| {
            ConstCounter::new(value).encode(to.encode_descriptor(name, help, None, MetricType::Counter)?)
        };
        counter("cache_hits", "Blocks found in memory", cache.hits)?;
        counter("cache_misses", "Blocks not found in memory", cache.misses)?;
        counter("cache_joined", "Blocks that another reader was fetching already", cache.joined)?;
        counter("cache_gets", "Reads of the store by the block cache", cache.gets)?;
        let bytes = i64::try_from(cache.bytes).unwrap_or(i64::MAX);
        let help = "Blocks held in memory";
        ConstGauge::new(bytes).encode(to.encode_descriptor("cache", help, Some(&Unit::Bytes), MetricType::Gauge)?)
    }
}

fn encode_store(stats: &StoreStats, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let snapshot = stats.snapshot();
    let operations = || OPERATIONS.iter().zip(&snapshot.operations);
    let mut family = to.encode_descriptor("store_operations", "Attempts at the store", None, MetricType::Counter)?;
    for (operation, counts) in operations() {
        let failed: u64 = counts.errors.iter().sum();
        let outcomes = ERROR_KINDS.iter().zip(&counts.errors).map(|(kind, count)| (*kind, *count));
        for (outcome, count) in std::iter::once(("ok", counts.calls.saturating_sub(failed))).chain(outcomes) {
            let labels = [("operation", *operation), ("outcome", outcome)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    let help = "Attempts at the store";
    let mut family = to.encode_descriptor("store_latency", help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for (operation, counts) in operations() {
        encode_latency(counts, family.encode_family(&[("operation", *operation)])?)?;
    }
    for (name, help, bytes) in [
        ("store_created", "Created in the store", snapshot.created_bytes),
        ("store_read", "Read from the store", snapshot.read_bytes),
    ] {
        ConstCounter::new(bytes).encode(to.encode_descriptor(
            name,
            help,
            Some(&Unit::Bytes),
            MetricType::Counter,
        )?)?;
    }
    Ok(())
}

fn encode_latency(counts: &OperationSnapshot, mut to: MetricEncoder<'_>) -> fmt::Result {
    let bounds = LATENCY_BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6).chain(std::iter::once(f64::INFINITY));
    let buckets: Vec<(f64, u64)> = bounds.zip(counts.latency_buckets).collect();
    let count = counts.latency_buckets.iter().sum();
    to.encode_histogram::<NoLabelSet>(counts.latency_sum_us as f64 / 1e6, count, &buckets, None)
}

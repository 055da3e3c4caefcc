//! What a broker counts. One [`Metrics`] is made at start and handed to every room; `/metrics` prints it.
//!
//! Plain counters, gauges and histograms are atomics: counting a record or a batch takes no lock. Families (with labels) take a read
//! lock for a moment and are meant for what happens per request or rarer. Names begin with `alluvium_` and end in their unit.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

const PREFIX: &str = "alluvium";

/// Media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Kafka's name of an API: `Produce`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ApiLabel {
    pub api: &'static str,
}

/// Kafka's name of an error: `NotLeaderOrFollower`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ErrorLabel {
    pub error: String,
}

/// A state of a group, in Kafka's words: `Stable`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct GroupStateLabel {
    pub state: &'static str,
}

/// What a broker's session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "labels are printed as they are spelled")]
pub enum SessionPhase {
    starting,
    recovering,
    ready,
    stopping,
    fenced,
}

impl SessionPhase {
    const ALL: [SessionPhase; 5] = [
        SessionPhase::starting,
        SessionPhase::recovering,
        SessionPhase::ready,
        SessionPhase::stopping,
        SessionPhase::fenced,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: SessionPhase,
}

/// Everything that is counted. Clients' side first, then the way to the store, then state.
pub struct Metrics {
    registry: Registry,
    collectors: Mutex<BTreeMap<&'static str, Arc<dyn Collector>>>,
    pub connections_open: Gauge,
    pub connections_accepted: Counter,
    pub connections_refused: Counter,
    pub requests: Family<ApiLabel, Counter>,
    /// Bytes of all requests.
    pub received_bytes: Counter,
    /// Bytes of all responses.
    pub sent_bytes: Counter,

    pub produce_requests: Counter,
    /// Bytes of accepted record batches.
    pub produce_bytes: Counter,
    pub produce_batches: Counter,
    pub produce_records: Counter,
    /// Partitions of Produce requests answered with an error.
    pub produce_errors: Family<ErrorLabel, Counter>,
    /// From the request read to the answer ready, seconds.
    pub produce_latency: Histogram,
    pub fetch_requests: Counter,
    /// Bytes of record batches sent.
    pub fetch_bytes: Counter,
    /// From the request read to the answer ready, the wait for new data included, seconds.
    pub fetch_latency: Histogram,

    pub segments_committed: Counter,
    /// Of committed segments, bytes.
    pub segment_bytes: Counter,
    pub uploads_in_flight: Gauge,
    /// From sealing to commit, seconds.
    pub flush_latency: Histogram,

    pub runs_committed: Counter,
    pub segments_merged: Counter,
    /// Record batches copied into runs, bytes.
    pub merged_bytes: Counter,
    /// Merges that were given up, to be tried again.
    pub merge_failures: Counter,
    /// From the claim to the commit, seconds.
    pub merge_latency: Histogram,
    /// Of this session, committed and not yet merged.
    pub unmerged_segments: Gauge,
    pub objects_collected: Counter,
    pub collect_failures: Counter,

    session_phase: Family<PhaseLabel, Gauge>,
    pub metadata_revision: Gauge,
    pub feature_level: Gauge,
    pub groups: Family<GroupStateLabel, Gauge>,
}

/// 0.5 ms to 16 s.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 16))
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            registry: Registry::default(),
            collectors: Mutex::default(),
            connections_open: Gauge::default(),
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            requests: Family::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            produce_requests: Counter::default(),
            produce_bytes: Counter::default(),
            produce_batches: Counter::default(),
            produce_records: Counter::default(),
            produce_errors: Family::default(),
            produce_latency: latency(),
            fetch_requests: Counter::default(),
            fetch_bytes: Counter::default(),
            fetch_latency: latency(),
            segments_committed: Counter::default(),
            segment_bytes: Counter::default(),
            uploads_in_flight: Gauge::default(),
            flush_latency: latency(),
            runs_committed: Counter::default(),
            segments_merged: Counter::default(),
            merged_bytes: Counter::default(),
            merge_failures: Counter::default(),
            merge_latency: Histogram::new(exponential_buckets(0.01, 2.0, 16)),
            unmerged_segments: Gauge::default(),
            objects_collected: Counter::default(),
            collect_failures: Counter::default(),
            session_phase: Family::default(),
            metadata_revision: Gauge::default(),
            feature_level: Gauge::default(),
            groups: Family::default(),
        }
    }
}

impl Metrics {
    /// All at zero, registered under their names.
    pub fn new() -> Arc<Metrics> {
        let mut metrics = Metrics::default();
        let mut registry = Registry::with_prefix(PREFIX);
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program", version);
        metrics.register_clients(&mut registry);
        metrics.register_store(&mut registry);
        metrics.register_maintenance(&mut registry);
        metrics.register_state(&mut registry);
        metrics.registry = registry;
        metrics.set_session_phase(SessionPhase::starting);
        Arc::new(metrics)
    }

    fn register_clients(&self, to: &mut Registry) {
        to.register("connections_open", "Connections of Kafka clients", self.connections_open.clone());
        to.register("connections_accepted", "Connections accepted", self.connections_accepted.clone());
        to.register(
            "connections_refused",
            "Connections closed because of what they sent",
            self.connections_refused.clone(),
        );
        to.register("requests", "Requests by API", self.requests.clone());
        to.register_with_unit("received", "All requests", Unit::Bytes, self.received_bytes.clone());
        to.register_with_unit("sent", "All responses", Unit::Bytes, self.sent_bytes.clone());
        to.register("produce_requests", "Produce requests", self.produce_requests.clone());
        to.register_with_unit("produce", "Record batches accepted", Unit::Bytes, self.produce_bytes.clone());
        to.register("produce_batches", "Record batches accepted", self.produce_batches.clone());
        to.register("produce_records", "Records accepted", self.produce_records.clone());
        to.register("produce_errors", "Partitions of Produce requests refused", self.produce_errors.clone());
        let help = "From a Produce request read to its answer ready";
        to.register_with_unit("produce_latency", help, Unit::Seconds, self.produce_latency.clone());
        to.register("fetch_requests", "Fetch requests", self.fetch_requests.clone());
        to.register_with_unit("fetch", "Record batches sent", Unit::Bytes, self.fetch_bytes.clone());
        let help = "From a Fetch request read to its answer ready, the wait for new data included";
        to.register_with_unit("fetch_latency", help, Unit::Seconds, self.fetch_latency.clone());
    }

    fn register_store(&self, to: &mut Registry) {
        to.register("segments_committed", "Segments committed", self.segments_committed.clone());
        to.register_with_unit("segment", "Segments committed", Unit::Bytes, self.segment_bytes.clone());
        to.register("uploads_in_flight", "Segments sealed and not yet committed", self.uploads_in_flight.clone());
        to.register_with_unit(
            "flush_latency",
            "From sealing a segment to its commit",
            Unit::Seconds,
            self.flush_latency.clone(),
        );
    }

    fn register_maintenance(&self, to: &mut Registry) {
        to.register("runs_committed", "Merged windows that hold records", self.runs_committed.clone());
        to.register("segments_merged", "Segments merged", self.segments_merged.clone());
        to.register_with_unit("merged", "Record batches merged", Unit::Bytes, self.merged_bytes.clone());
        to.register("merge_failures", "Merges given up, to be tried again", self.merge_failures.clone());
        let help = "From the claim of a window to the commit of its run";
        to.register_with_unit("merge_latency", help, Unit::Seconds, self.merge_latency.clone());
        let help = "Segments of this session committed and not yet merged";
        to.register("unmerged_segments", help, self.unmerged_segments.clone());
        to.register("objects_collected", "Objects deleted that nothing names any more", self.objects_collected.clone());
        to.register(
            "collect_failures",
            "Passes of the collection that the store cut short",
            self.collect_failures.clone(),
        );
    }

    fn register_state(&self, to: &mut Registry) {
        to.register(
            "session_phase",
            "What this broker's session is doing: 1 for the phase it is in",
            self.session_phase.clone(),
        );
        to.register(
            "metadata_revision",
            "Newest revision of the metadata table applied",
            self.metadata_revision.clone(),
        );
        to.register("feature_level", "Feature level of the cluster", self.feature_level.clone());
        to.register("groups", "Groups that this broker coordinates, by state", self.groups.clone());
    }

    /// Exactly one phase is 1, the others are 0.
    pub fn set_session_phase(&self, phase: SessionPhase) {
        for one in SessionPhase::ALL {
            self.session_phase.get_or_create(&PhaseLabel { phase: one }).set(i64::from(one == phase));
        }
    }

    /// Counts one request by Kafka's name of its API.
    pub fn request(&self, api: &'static str) {
        self.requests.get_or_create(&ApiLabel { api }).inc();
    }

    /// Counts one partition of a Produce request that was refused, by the name of the error.
    pub fn produce_error(&self, error: &dyn std::fmt::Debug) {
        self.produce_errors.get_or_create(&ErrorLabel { error: format!("{error:?}") }).inc();
    }

    /// Sets how many groups are in a state.
    pub fn set_groups(&self, state: &'static str, count: usize) {
        self.groups.get_or_create(&GroupStateLabel { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Shows what another room counts by itself; takes the place of what was shown under the same `source` before.
    pub fn show(&self, source: &'static str, collector: Arc<dyn Collector>) {
        self.collectors.lock().insert(source, collector);
    }

    /// Shows what `read` says at that moment, under `alluvium_<name>`; takes the place of an earlier one of the name.
    pub fn show_gauge(&self, name: &'static str, help: &'static str, read: impl Fn() -> i64 + Send + Sync + 'static) {
        self.show(name, Arc::new(ReadGauge { name, help, read }));
    }

    /// All series as OpenMetrics text.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        let mut shown = Registry::with_prefix(PREFIX);
        for collector in self.collectors.lock().values() {
            shown.register_collector(Box::new(Shown(collector.clone())));
        }
        encode_registry(&mut text, &shown)?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

struct ReadGauge<F> {
    name: &'static str,
    help: &'static str,
    read: F,
}

impl<F> std::fmt::Debug for ReadGauge<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl<F: Fn() -> i64 + Send + Sync + 'static> Collector for ReadGauge<F> {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> std::fmt::Result {
        ConstGauge::new((self.read)()).encode(to.encode_descriptor(self.name, self.help, None, MetricType::Gauge)?)
    }
}

#[derive(Debug)]
struct Shown(Arc<dyn Collector>);

impl Collector for Shown {
    fn encode(&self, to: DescriptorEncoder<'_>) -> std::fmt::Result {
        self.0.encode(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_have_names_and_units() {
        let metrics = Metrics::new();
        metrics.produce_bytes.inc_by(10);
        metrics.set_session_phase(SessionPhase::ready);
        metrics.produce_latency.observe(0.002);
        metrics.set_groups("Stable", 2);
        metrics.show_gauge("buffered_bytes", "Waiting", || 1);
        metrics.show_gauge("buffered_bytes", "Waiting", || 7);
        metrics.request("Produce");
        let text = metrics.encode().unwrap();
        for line in [
            "alluvium_build_info{version=",
            "alluvium_produce_bytes_total 10",
            "alluvium_session_phase{phase=\"ready\"} 1",
            "alluvium_session_phase{phase=\"starting\"} 0",
            "alluvium_produce_latency_seconds_bucket{le=\"0.002\"} 1",
            "alluvium_buffered_bytes 7",
            "alluvium_groups{state=\"Stable\"} 2",
            "alluvium_requests_total{api=\"Produce\"} 1",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(text.matches("# TYPE alluvium_buffered_bytes").count(), 1);
    }
}

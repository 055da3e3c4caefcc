use super::*;
use crate::meta::entry::Endpoint;
use crate::types::SessionId;

fn map(pairs: &[(&str, &str)]) -> Configs {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn node() -> NodeInfo {
    let endpoint = Endpoint { listener: "PLAINTEXT".to_owned(), host: "h".to_owned(), port: 1 };
    let session = SessionId { revision: 1, random: 1 };
    NodeInfo { node_id: 1, session, endpoint, rack: None, store: "memory:".to_owned() }
}

#[test]
fn every_setting_is_a_broker_config_with_the_same_default() {
    for (name, value) in kafka_configs(&KafkaSettings::default()) {
        let definition = broker_config::definition(&name);
        assert_eq!(definition.and_then(|definition| definition.default), Some(value.as_str()), "{name}");
    }
}

/// As Kafka 4.3.1 shows them: `name=value(source)` by rank.
#[test]
fn synonyms_come_by_rank() {
    let kafka = KafkaSettings { message_max_bytes: 5, ..KafkaSettings::default() };
    let at_start = at_start(&kafka, &node());
    let (all, one) =
        (map(&[("message.max.bytes", "6"), ("log.retention.ms", "8")]), map(&[("message.max.bytes", "7")]));
    let layers = Layers { at_start: &at_start, all_brokers: Some(&all), this_broker: Some(&one) };
    let topic = map(&[("max.message.bytes", "9")]);
    let shown = |entries: &[ConfigEntry], name: &str| {
        let entry = entries.iter().find(|entry| entry.name == name).cloned().expect("the table holds it");
        let synonyms = entry.synonyms.iter();
        let synonyms = synonyms.map(|s| format!("{}={}({})", s.name, s.value.clone().unwrap_or_default(), s.source));
        (entry.value.unwrap_or_default(), entry.source, synonyms.collect::<Vec<_>>().join(" "))
    };
    let brokers = "message.max.bytes=7(2) message.max.bytes=6(3) message.max.bytes=5(4) message.max.bytes=1048588(5)";
    let entries = topic_entries(&topic, &layers);
    let own = format!("max.message.bytes=9(1) {brokers}");
    assert_eq!(shown(&entries, "max.message.bytes"), ("9".to_owned(), source::TOPIC, own));
    assert_eq!(
        shown(&entries, "retention.ms"),
        ("8".to_owned(), source::ALL_BROKERS, "log.retention.ms=8(3)".to_owned())
    );
    assert_eq!(shown(&entries, "segment.ms"), ("604800000".to_owned(), source::DEFAULT, String::new()));
    let entries = topic_entries(&Configs::new(), &layers);
    assert_eq!(shown(&entries, "max.message.bytes"), ("7".to_owned(), source::BROKER, brokers.to_owned()));
    assert_eq!(
        shown(&broker_entries(&layers), "message.max.bytes"),
        ("7".to_owned(), source::BROKER, brokers.to_owned())
    );
    let entries = all_brokers_entries(Some(&all));
    assert_eq!(entries.len(), 2);
    assert_eq!(shown(&entries, "message.max.bytes").2, "message.max.bytes=6(3)");
}

#[test]
fn what_the_table_does_not_know_may_be_a_secret() {
    let set = map(&[("plug.in.password", "x")]);
    let entries = all_brokers_entries(Some(&set));
    assert!(entries[0].sensitive && !entries[0].read_only);
}

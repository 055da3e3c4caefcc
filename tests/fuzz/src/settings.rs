//! Settings as files, variables, flags and `--set`, and configs of topics and groups: pieces, each with a letter in front that says
//! what it is. Settings that are taken hold together; those that are not are refused with a text.

use std::collections::BTreeMap;

use alluvium::config::table::SETTINGS;
use alluvium::config::{Given, kafka_configs, load};
use alluvium::types::{broker_config, group_config, topic_config};

use crate::memory;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return pieces(&String::from_utf8_lossy(data));
    };
    pieces(text);
}

fn pieces(text: &str) {
    let mut given = Given::default();
    let mut configs = BTreeMap::new();
    for piece in text.split('\u{1e}') {
        let mut letters = piece.chars();
        let kind = letters.next();
        let rest = letters.as_str();
        let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
        let pair = (name.to_owned(), value.to_owned());
        match kind {
            Some('F') => given.file = Some(("file".to_owned(), rest.to_owned())),
            Some('V') => given.variables.push(pair),
            Some('O') => given.flags.push(pair),
            Some('S') => given.sets.push(rest.to_owned()),
            _ => drop(configs.insert(pair.0, pair.1)),
        }
    }
    // The parser of TOML takes some hundred bytes for a bracket.
    memory::within(512 * text.len() + 256 * 1024, || {
        settings(&given);
        topic_and_group(&configs);
    });
}

fn settings(given: &Given) {
    match load(given) {
        Ok(loaded) => {
            let settings = &loaded.settings;
            assert!(settings.check().is_ok() && settings.store_url().is_ok() && settings.advertised().is_ok());
            assert!(!kafka_configs(&settings.kafka).is_empty());
            for setting in SETTINGS {
                let _ = loaded.source(setting.name).to_string();
                let Some(shown) = (setting.show)(settings) else { continue };
                let mut again = settings.clone();
                assert_eq!((setting.read)(&mut again, &shown), Ok(()), "{} = {shown:?}", setting.name);
                assert_eq!(again, *settings, "{} = {shown:?}", setting.name);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn topic_and_group(configs: &BTreeMap<String, String>) {
    let broker = broker_config::effective(configs, None, None);
    for (name, value) in configs {
        if let Some(definition) = topic_config::definition(name) {
            let shown = definition.shown(value);
            if definition.parse(value).is_ok() {
                assert_eq!(definition.parse(value), definition.parse(&shown), "{name} = {value:?}, shown as {shown:?}");
            }
        }
    }
    let _ = topic_config::validate(configs, &broker);
    let _ = topic_config::TopicConfig::from(configs, &broker);
    let _ = topic_config::TopicConfig::from(&BTreeMap::new(), configs);
    let _ = group_config::validate(configs, &broker);
}

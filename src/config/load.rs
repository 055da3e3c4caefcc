//! Merges what flags, environment and file say over the defaults.

use std::collections::BTreeMap;
use std::fmt;

use super::Settings;
use super::table::{SETTINGS, Setting, find};
use super::units::edit_distance;
use crate::types::table_url::masked;

/// A variable that names the file of settings.
pub const FILE_VARIABLE: &str = "ALLUVIUM_CONFIG";

/// A shorter name of `ALLUVIUM_LOG_LEVEL`.
const LOG_VARIABLE: &str = "ALLUVIUM_LOG";

/// Further than this, a name is no likely mistake for another.
const FARTHEST_NAME: usize = 12;

/// Who said what a setting is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    File(String),
    Variable(String),
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path) => write!(f, "file {path}"),
            Source::Variable(name) => write!(f, "variable {name}"),
            Source::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{source_name}: there is no setting {name:?}{}", nearest_text(.nearest))]
    Unknown { name: String, source_name: String, nearest: Option<String> },
    #[error("{source_name}: {name} = {value:?}: {reason}")]
    Bad { name: String, value: String, source_name: String, reason: String },
    #[error("{name}: {reason}")]
    Conflict { name: &'static str, reason: String },
    #[error("file {path}: {reason}")]
    File { path: String, reason: String },
    #[error("--set {given:?}: say it as name=value")]
    NotAPair { given: String },
}

fn nearest_text(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!("; the nearest is {name:?}"))
}

/// What a user said, before it is understood.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Path and text of the file of settings.
    pub file: Option<(String, String)>,
    /// The process's environment; only `ALLUVIUM_*` is looked at.
    pub variables: Vec<(String, String)>,
    /// Flags of our own settings: (name, value).
    pub flags: Vec<(String, String)>,
    /// `--set name=value`, in order.
    pub sets: Vec<String>,
}

/// Effective settings and where each that is not a default came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    sources: BTreeMap<&'static str, Source>,
}

impl Loaded {
    pub fn source(&self, name: &str) -> &Source {
        self.sources.get(name).unwrap_or(&Source::Default)
    }

    fn set(&mut self, setting: &'static Setting, value: &str, source: Source) -> Result<(), ConfigError> {
        (setting.read)(&mut self.settings, value).map_err(|reason| ConfigError::Bad {
            name: setting.name.to_owned(),
            value: setting.repeatable(value),
            source_name: source.to_string(),
            reason,
        })?;
        self.sources.insert(setting.name, source);
        Ok(())
    }

    fn set_named(&mut self, name: &str, value: &str, source: Source) -> Result<(), ConfigError> {
        let setting = find(name).ok_or_else(|| unknown(name, &source, |setting| setting.name.to_owned()))?;
        self.set(setting, value, source)
    }
}

fn unknown(name: &str, source: &Source, spelling: fn(&Setting) -> String) -> ConfigError {
    // A name much longer or shorter than all has no nearest one, and is not worth a table of letters.
    let similar = SETTINGS.iter().map(spelling).filter(|known| known.len().abs_diff(name.len()) <= FARTHEST_NAME);
    let nearest = similar.min_by_key(|known| edit_distance(known, name));
    let nearest = nearest.filter(|known| edit_distance(known, name) <= FARTHEST_NAME.min(name.len()));
    ConfigError::Unknown { name: masked(name), source_name: source.to_string(), nearest }
}

/// Defaults, then the file, then the environment, then flags, then `--set`; checked together at the end.
///
/// # Errors
/// The first setting that is unknown or bad, by name and source, with the nearest name there is.
pub fn load(given: &Given) -> Result<Loaded, ConfigError> {
    let mut loaded = Loaded { settings: Settings::default(), sources: BTreeMap::new() };
    if let Some((path, text)) = &given.file {
        let file = |reason: String| ConfigError::File { path: path.clone(), reason };
        // The error's own text shows the line, and there may be a password in it.
        let place =
            |error: &toml::de::Error| error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        let table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| file(format!("line {}: {}", place(&error), error.message())))?;
        let mut pairs = Vec::new();
        flatten("", &toml::Value::Table(table), &mut pairs).map_err(file)?;
        for (name, value) in pairs {
            loaded.set_named(&name, &value, Source::File(path.clone()))?;
        }
    }
    for (variable, value) in &given.variables {
        if !is_ours(variable) {
            continue;
        }
        let source = Source::Variable(variable.clone());
        let wanted = if variable == LOG_VARIABLE { "ALLUVIUM_LOG_LEVEL" } else { variable };
        let setting = SETTINGS.iter().find(|setting| setting.variable() == wanted);
        let setting = setting.ok_or_else(|| unknown(variable, &source, Setting::variable))?;
        // The shorter name gives way to the full one.
        if variable != LOG_VARIABLE || !matches!(loaded.source(setting.name), Source::Variable(_)) {
            loaded.set(setting, value, source)?;
        }
    }
    for (name, value) in &given.flags {
        loaded.set_named(name, value, Source::Flag(format!("--{name}")))?;
    }
    for given in &given.sets {
        let (name, value) = given.split_once('=').ok_or_else(|| ConfigError::NotAPair { given: masked(given) })?;
        loaded.set_named(name.trim(), value, Source::Flag("--set".to_owned()))?;
    }
    loaded.settings.check()?;
    Ok(loaded)
}

/// Kubernetes sets variables about every service; one named `alluvium` must not stop the broker of that name.
fn is_ours(variable: &str) -> bool {
    let Some(rest) = variable.strip_prefix("ALLUVIUM_") else { return false };
    let of_kubernetes =
        rest == "PORT" || rest.starts_with("PORT_") || rest == "SERVICE_HOST" || rest.starts_with("SERVICE_PORT");
    variable != FILE_VARIABLE && !of_kubernetes
}

/// Names and values of a file: `num.partitions = 3` and `[kafka] num.partitions = 3` are the same.
fn flatten(name: &str, value: &toml::Value, into: &mut Vec<(String, String)>) -> Result<(), String> {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(&name, value, into)?;
            }
        }
        toml::Value::String(text) => into.push((name.to_owned(), text.clone())),
        toml::Value::Integer(number) => into.push((name.to_owned(), number.to_string())),
        toml::Value::Boolean(truth) => into.push((name.to_owned(), truth.to_string())),
        other => return Err(format!("{name}: no setting takes a value of type {}", other.type_str())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
        given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn flag_over_variable_over_file_over_default() {
        let file = "flush-bytes = \"1MiB\"\nflush_inflight = 3\nnode-id = 7\n[kafka]\nnum.partitions = 4\n\"group.max.size\" = 9";
        let mut given = Given {
            file: Some(("a.toml".to_owned(), file.to_owned())),
            variables: pairs(&[
                ("ALLUVIUM_FLUSH_INFLIGHT", "5"),
                ("ALLUVIUM_NODE_ID", "8"),
                ("ALLUVIUM_KAFKA_NUM_PARTITIONS", "6"),
                ("ALLUVIUM_LOG", "debug"),
                ("ALLUVIUM_SERVICE_HOST", "10.0.0.1"),
                ("ALLUVIUM_PORT_9092_TCP", "tcp://10.0.0.1:9092"),
                ("ALLUVIUM_CONFIG", "a.toml"),
                ("HOME", "/root"),
            ]),
            flags: pairs(&[("node-id", "9")]),
            sets: vec!["num.partitions=12".to_owned(), "flush-interval-ms=2s".to_owned()],
        };
        let loaded = load(&given).unwrap();
        let settings = &loaded.settings;
        assert_eq!((settings.flush_bytes, settings.flush_inflight, settings.node_id), (1 << 20, 5, Some(9)));
        assert_eq!((settings.kafka.num_partitions, settings.kafka.group_max_size), (12, 9));
        assert_eq!((settings.flush_interval_ms, settings.log_level.as_str()), (Some(2000), "debug"));
        assert_eq!(settings.buffer_bytes, Settings::default().buffer_bytes);
        for (name, source) in [
            ("flush-bytes", "file a.toml"),
            ("flush-inflight", "variable ALLUVIUM_FLUSH_INFLIGHT"),
            ("node-id", "flag --node-id"),
            ("num.partitions", "flag --set"),
            ("buffer-bytes", "default"),
        ] {
            assert_eq!(loaded.source(name).to_string(), source, "{name}");
        }
        given.variables.insert(0, ("ALLUVIUM_LOG_LEVEL".to_owned(), "warn".to_owned()));
        assert_eq!(load(&given).unwrap().settings.log_level, "warn");
    }

    #[test]
    fn errors_name_the_setting_and_the_nearest() {
        let set =
            |text: &str| load(&Given { sets: vec![text.to_owned()], ..Given::default() }).unwrap_err().to_string();
        assert_eq!(
            set("flsh-bytes=1"),
            "flag --set: there is no setting \"flsh-bytes\"; the nearest is \"flush-bytes\""
        );
        assert_eq!(
            set("num.partition=1"),
            "flag --set: there is no setting \"num.partition\"; the nearest is \"num.partitions\""
        );
        assert_eq!(set("zq=1"), "flag --set: there is no setting \"zq\"");
        assert_eq!(set("flush-inflight=65"), "flag --set: flush-inflight = \"65\": must be from 1 to 64");
        assert_eq!(set("num.partitions=0"), "flag --set: num.partitions = \"0\": must be from 1 to 2147483647");
        assert_eq!(set("flush-bytes"), "--set \"flush-bytes\": say it as name=value");
        let error = set("metadata=postgres://al:s3cret@/log");
        assert!(!error.contains("s3cret") && error.contains("say the host"), "{error}");
        assert!(set("metadata=buckett").contains("\"buckett\": neither bucket"));
        assert!(set("store=/data").ends_with("(a directory: file:///data)"), "{}", set("store=/data"));
        let variables = pairs(&[("ALLUVIUM_FLUSH_BYTE", "1")]);
        let error = load(&Given { variables, ..Given::default() }).unwrap_err().to_string();
        assert!(error.ends_with("the nearest is \"ALLUVIUM_FLUSH_BYTES\""), "{error}");
        let in_file = |text: &str| {
            load(&Given { file: Some(("f".to_owned(), text.to_owned())), ..Given::default() }).unwrap_err().to_string()
        };
        assert!(in_file("listenn = \"x\"").contains("the nearest is \"listen\""));
        assert!(!in_file(&format!("{} = 1", "n".repeat(100_000))).contains("nearest"));
        assert!(in_file("listen = [").starts_with("file f: "));
        assert_eq!(in_file("listen = [1]"), "file f: listen: no setting takes a value of type array");
    }

    #[test]
    fn passwords_are_shown_nowhere() {
        let given =
            Given { sets: vec!["metadata=postgres://al:s3cret@db/log?sslmode=require".to_owned()], ..Given::default() };
        let settings = load(&given).unwrap().settings;
        let shown = (find("metadata").unwrap().show)(&settings).unwrap();
        assert_eq!(shown, "postgres://al:***@db/log?sslmode=require");
        let everywhere = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
        assert!(everywhere.contains("al:***@db") && !everywhere.contains("s3cret"), "{everywhere}");
        // Nor what can't be understood.
        let url = "postgres://al:s3cret@db/log";
        let file = |text: String| Given { file: Some(("alluvium.toml".to_owned(), text)), ..Given::default() };
        let set = |text: String| Given { sets: vec![text], ..Given::default() };
        for given in [
            file(format!("# a comment\nmetadata = {url}\n")),
            set(url.to_owned()),
            set(format!("{url}?sslmode=require")),
        ] {
            let error = load(&given).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
            assert!(given.file.is_none() || error.contains("line 2"), "{error}");
        }
    }

    #[test]
    fn contradictions_are_found() {
        for (sets, name) in [
            (vec!["listen=0.0.0.0:9092"], "advertise"),
            (vec!["listen=127.0.0.1:9644"], "admin"),
            (vec!["store=memory:", "metadata=dynamodb://table"], "metadata"),
            (vec!["flush-bytes=2MiB", "buffer-bytes=1MiB"], "buffer-bytes"),
            (vec!["message.max.bytes=5MiB", "buffer-bytes=9MiB", "flush-bytes=1MiB"], "buffer-bytes"),
            (vec!["group.min.session.timeout.ms=1h"], "group.min.session.timeout.ms"),
        ] {
            let sets: Vec<String> = sets.into_iter().map(str::to_owned).collect();
            match load(&Given { sets, ..Given::default() }) {
                Err(ConfigError::Conflict { name: found, .. }) => assert_eq!(found, name),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn every_setting_reads_what_it_shows() {
        let mut settings = Settings::default();
        for setting in SETTINGS {
            if let Some(shown) = (setting.show)(&Settings::default()) {
                assert_eq!((setting.read)(&mut settings, &shown), Ok(()), "{}", setting.name);
            }
            assert!(std::ptr::eq(find(setting.name).unwrap(), setting), "{}", setting.name);
        }
        assert_eq!(settings, Settings::default());
        let fields = serde_json::to_value(&settings).unwrap();
        let (ours, kafka) = (fields.as_object().unwrap().len() - 1, fields["kafka"].as_object().unwrap().len());
        assert_eq!(SETTINGS.len(), ours + kafka, "a field without a row in the table");
        for name in fields["kafka"].as_object().unwrap().keys() {
            assert!(find(name).is_some_and(Setting::is_kafka), "{name}");
        }
    }

    #[test]
    fn clients_are_told_where_to_connect() {
        let told =
            |advertise: &str| Settings { advertise: Some(advertise.to_owned()), ..Settings::default() }.advertised();
        assert_eq!(Settings::default().advertised(), Ok(("127.0.0.1".to_owned(), 9092)));
        assert_eq!(told("kafka.example.com:19092"), Ok(("kafka.example.com".to_owned(), 19092)));
        assert_eq!(told("[::1]:9092"), Ok(("::1".to_owned(), 9092)));
        for bad in ["kafka", ":9092", "kafka:0", "kafka:99999", "a b:1", "http://x:1"] {
            assert!(told(bad).is_err(), "{bad}");
        }
    }
}

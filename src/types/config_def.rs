//! One definition of a config: its name, Kafka's type, default and check, and how a text becomes a value.
//!
//! Parsing, checks and messages are those of Kafka's `ConfigDef`: white space around a value is cut, numbers may bear a plus sign,
//! booleans are read in any case, lists are cut at commas. A text that does not pass gives the sentence that Kafka would answer.

/// Kafka's type of a config, as in `ConfigDef.Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

impl Kind {
    /// The number of the type in DescribeConfigs responses.
    pub fn code(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::String => 2,
            Kind::Int => 3,
            Kind::Short => 4,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
            Kind::Class => 8,
            Kind::Password => 9,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "BOOLEAN",
            Kind::String => "STRING",
            Kind::Int => "INT",
            Kind::Short => "SHORT",
            Kind::Long => "LONG",
            Kind::Double => "DOUBLE",
            Kind::List => "LIST",
            Kind::Class => "CLASS",
            Kind::Password => "PASSWORD",
        }
    }
}

/// What a value has to fulfil besides its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Check {
    Any,
    Min(i64),
    Between(i64, i64),
    /// A number from 0 to 1.
    Ratio,
    OneOf(&'static [&'static str]),
    /// A list of these words, which may be empty.
    ListOf(&'static [&'static str]),
    /// 1 to 9, or -1 for the codec's own default.
    GzipLevel,
    /// `*` or `partition:broker,…`.
    ThrottledReplicas,
    /// `earliest`, `latest` or `by_duration:<ISO 8601 duration>`.
    OffsetReset,
}

/// How the value of a synonym becomes one of the config that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Same,
    Minutes,
    Hours,
}

impl Unit {
    /// The value in milliseconds when the synonym counts in minutes or hours; `None` if it is no number. A negative count of minutes
    /// or hours means "for ever", which is -1.
    pub fn convert(self, value: &str) -> Option<String> {
        let factor: i64 = match self {
            Unit::Same => return Some(value.to_owned()),
            Unit::Minutes => 60_000,
            Unit::Hours => 3_600_000,
        };
        let count: i64 = value.trim().parse().ok()?;
        Some(if count < 0 { -1 } else { count.saturating_mul(factor) }.to_string())
    }
}

/// A broker config that gives a topic or group config its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synonym {
    pub name: &'static str,
    pub unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Definition {
    pub name: &'static str,
    pub kind: Kind,
    /// `None`: no value (null) unless somebody sets one.
    pub default: Option<&'static str>,
    pub check: Check,
    /// Broker configs in the order in which they are asked.
    pub synonyms: &'static [Synonym],
    pub documentation: &'static str,
}

/// A row of a table whose configs all have defaults.
pub(super) const fn row(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    check: Check,
    synonyms: &'static [Synonym],
    documentation: &'static str,
) -> Definition {
    Definition { name, kind, default: Some(default), check, synonyms, documentation }
}

/// A broker config of the same meaning, in the same unit.
pub(super) const fn same(name: &'static str) -> Synonym {
    Synonym { name, unit: Unit::Same }
}

/// A value that passed the check of its definition.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Boolean(bool),
    Integer(i64),
    Double(f64),
    Text(String),
    List(Vec<String>),
}

/// A text that is no value of the config. The sentence is the one that Kafka answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl ConfigError {
    pub fn invalid(name: &str, value: impl std::fmt::Display, reason: impl std::fmt::Display) -> Self {
        ConfigError(format!("Invalid value {value} for configuration {name}: {reason}"))
    }
}

/// Finds a definition by name in a table sorted by name.
pub fn find(table: &'static [Definition], name: &str) -> Option<&'static Definition> {
    table.binary_search_by(|definition| definition.name.cmp(name)).ok().map(|index| &table[index])
}

impl Definition {
    /// Reads `text` as this config's type and checks it.
    pub fn parse(&self, text: &str) -> Result<Value, ConfigError> {
        let trimmed = text.trim();
        let no_number =
            || ConfigError::invalid(self.name, text, format_args!("Not a number of type {}", self.kind.name()));
        let value = match self.kind {
            Kind::Boolean if trimmed.eq_ignore_ascii_case("true") => Value::Boolean(true),
            Kind::Boolean if trimmed.eq_ignore_ascii_case("false") => Value::Boolean(false),
            Kind::Boolean => {
                return Err(ConfigError::invalid(self.name, text, "Expected value to be either true or false"));
            }
            Kind::Short => Value::Integer(trimmed.parse::<i16>().map_err(|_| no_number())?.into()),
            Kind::Int => Value::Integer(trimmed.parse::<i32>().map_err(|_| no_number())?.into()),
            Kind::Long => Value::Integer(trimmed.parse::<i64>().map_err(|_| no_number())?),
            Kind::Double => Value::Double(parse_double(trimmed).ok_or_else(no_number)?),
            Kind::List if trimmed.is_empty() => Value::List(Vec::new()),
            Kind::List => Value::List(distinct(trimmed.split(',').map(str::trim))),
            Kind::String | Kind::Class | Kind::Password => Value::Text(trimmed.to_owned()),
        };
        self.check(&value)?;
        Ok(value)
    }

    /// The text that DescribeConfigs shows for a stored text: `Compact , delete` has been refused, ` compact , delete ` shows as
    /// `compact,delete`. A text that does not parse (stored by a newer program) is shown as it is.
    pub fn shown(&self, text: &str) -> String {
        match self.parse(text) {
            Ok(Value::Boolean(value)) => value.to_string(),
            Ok(Value::Integer(value)) => value.to_string(),
            Ok(Value::Double(value)) => java_double(value),
            Ok(Value::Text(value)) => value,
            Ok(Value::List(parts)) => parts.join(","),
            Err(_) => text.to_owned(),
        }
    }

    fn check(&self, value: &Value) -> Result<(), ConfigError> {
        match (self.check, value) {
            (Check::Min(min), Value::Integer(number)) => self.at_least(*number, min),
            (Check::Between(min, max), Value::Integer(number)) => {
                self.at_least(*number, min)?;
                self.at_most(*number, max)
            }
            (Check::Ratio, Value::Double(number)) if *number < 0.0 => {
                Err(ConfigError::invalid(self.name, java_double(*number), "Value must be at least 0"))
            }
            (Check::Ratio, Value::Double(number)) if *number > 1.0 => {
                Err(ConfigError::invalid(self.name, java_double(*number), "Value must be no more than 1"))
            }
            (Check::GzipLevel, Value::Integer(number)) if *number != -1 && !(1..=9).contains(number) => {
                Err(ConfigError::invalid(self.name, number, "Value must be between 1 and 9 or equal to -1"))
            }
            (Check::OneOf(words), Value::Text(text)) => self.one_of(text, words),
            (Check::ListOf(words), Value::List(parts)) => {
                if parts.iter().any(String::is_empty) {
                    return Err(ConfigError(format!("Configuration '{}' values must not be empty.", self.name)));
                }
                parts.iter().try_for_each(|part| self.one_of(part, words))
            }
            (Check::ThrottledReplicas, Value::List(parts)) if !throttled_replicas(parts) => Err(ConfigError::invalid(
                self.name,
                format_args!("[{}]", parts.join(", ")),
                format_args!(
                    "{} must be the literal '*' or a list of replicas in the following format: \
                     [partitionId]:[brokerId],[partitionId]:[brokerId],...",
                    self.name
                ),
            )),
            (Check::OffsetReset, Value::Text(text)) if !offset_reset(text) => Err(ConfigError::invalid(
                self.name,
                text,
                format_args!(
                    "Invalid value `{text}` for configuration {}. The value must be either 'earliest', 'latest' or of the format \
                     'by_duration:<PnDTnHnMn.nS>'.",
                    self.name
                ),
            )),
            _ => Ok(()),
        }
    }

    fn at_least(&self, number: i64, min: i64) -> Result<(), ConfigError> {
        if number >= min {
            return Ok(());
        }
        Err(ConfigError::invalid(self.name, number, format_args!("Value must be at least {min}")))
    }

    fn at_most(&self, number: i64, max: i64) -> Result<(), ConfigError> {
        if number <= max {
            return Ok(());
        }
        Err(ConfigError::invalid(self.name, number, format_args!("Value must be no more than {max}")))
    }

    fn one_of(&self, text: &str, words: &[&str]) -> Result<(), ConfigError> {
        if words.contains(&text) {
            return Ok(());
        }
        Err(ConfigError::invalid(self.name, text, format_args!("String must be one of: {}", words.join(", "))))
    }
}

/// Java's `Double.parseDouble`, without hexadecimal numbers.
fn parse_double(text: &str) -> Option<f64> {
    let number = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let digits = number.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    match number {
        "NaN" => Some(f64::NAN),
        _ if digits && !number.to_ascii_lowercase().contains("inf") && !number.to_ascii_lowercase().contains("nan") => {
            number.parse().ok()
        }
        _ => None,
    }
}

/// A word that stands in a list twice counts once (KIP-1161).
fn distinct<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for word in words {
        if !kept.iter().any(|other| other == word) {
            kept.push(word.to_owned());
        }
    }
    kept
}

/// Java's `Double.toString`: with an exponent below 0.001 and from 10,000,000 on.
fn java_double(number: f64) -> String {
    if number == 0.0 || !number.is_finite() || (1e-3..1e7).contains(&number.abs()) {
        return format!("{number:?}");
    }
    let text = format!("{number:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

/// Like Kafka's validator: words may be missing.
fn throttled_replicas(parts: &[String]) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let pair = |part: &String| {
        part.is_empty() || part.split_once(':').is_some_and(|(partition, broker)| digits(partition) && digits(broker))
    };
    parts.concat() == "*" || parts.iter().all(pair)
}

fn offset_reset(text: &str) -> bool {
    matches!(text, "earliest" | "latest") || text.strip_prefix("by_duration:").is_some_and(duration)
}

/// `PnDTnHnMn.nS`, at least one part, no sign.
fn duration(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('P') else { return false };
    let (days, time) = match rest.split_once('T') {
        Some((days, time)) => (days, Some(time)),
        None => (rest, None),
    };
    let in_order = |text: &str, units: &str| {
        let (mut units, mut number) = (units.chars(), String::new());
        for c in text.chars() {
            if c.is_ascii_digit() || c == '.' {
                number.push(c);
            } else if number.parse::<f64>().is_err()
                || (number.contains('.') && c != 'S')
                || !units.any(|unit| unit == c)
            {
                return false;
            } else {
                number.clear();
            }
        }
        number.is_empty()
    };
    let something = !days.is_empty() || time.is_some();
    something && in_order(days, "D") && time.is_none_or(|time| !time.is_empty() && in_order(time, "HMS"))
}

//! Where the metadata table is, as a user says it: `bucket`, `dynamodb://table`, `postgres://user@host/database`.
//!
//! A password may stand in it. Nothing that this type prints, serializes or says in an error shows one; only
//! [`PostgresUrl::secret_text`] does, for the driver.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// What stands in the place of a password.
const MASK: &str = "***";

const POSTGRES_PORT: &str = "5432";

#[derive(Clone, PartialEq, Eq, Default)]
pub enum TableUrl {
    /// In the bucket (or the local directory), beside the data.
    #[default]
    Bucket,
    Dynamodb {
        table: String,
    },
    Postgres(PostgresUrl),
}

/// A PostgreSQL URL, taken apart as far as it is needed here.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    user: String,
    /// As it stands in the URL, percent-encoded.
    password: Option<String>,
    hosts: String,
    database: String,
    parameters: Vec<(String, String)>,
}

impl TableUrl {
    /// # Errors
    /// What is wrong with it, without repeating it.
    pub fn parse(text: &str) -> Result<TableUrl, String> {
        let text = text.trim();
        if matches!(text, "bucket" | "bucket:" | "bucket://") {
            return Ok(TableUrl::Bucket);
        }
        if let Some(table) = text.strip_prefix("dynamodb://") {
            let plain = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
            if !(3..=255).contains(&table.len()) || !table.chars().all(plain) {
                return Err("a DynamoDB table's name has 3 to 255 letters, digits and _.-".to_owned());
            }
            return Ok(TableUrl::Dynamodb { table: table.to_owned() });
        }
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let rest = rest.ok_or("neither bucket, dynamodb://table nor postgres://user@host/database")?;
        PostgresUrl::parse(rest).map(TableUrl::Postgres)
    }

    /// The backend and its address, without user, password and options: what `meta/cluster` calls it.
    pub fn address(&self) -> String {
        match self {
            TableUrl::Bucket => "bucket".to_owned(),
            TableUrl::Dynamodb { table } => format!("dynamodb://{table}"),
            TableUrl::Postgres(url) => url.address(),
        }
    }
}

impl PostgresUrl {
    fn parse(rest: &str) -> Result<PostgresUrl, String> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may hold an unescaped `@` or `/`; a host never does.
        let (login, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
        let (user, password) =
            login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password.to_owned())));
        let named = |part: &str, what: &str| {
            if part.is_empty() {
                Err(format!("say {what}: postgres://user@host/database"))
            } else {
                Ok(part.to_owned())
            }
        };
        let mut parameters = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or("a parameter behind the ? is no name=value")?;
            parameters.push((name.to_owned(), value.to_owned()));
        }
        Ok(PostgresUrl {
            user: named(user, "the user")?,
            password,
            hosts: named(hosts, "the host")?.to_ascii_lowercase(),
            database: named(database, "the database")?,
            parameters,
        })
    }

    fn address(&self) -> String {
        let hosts: Vec<String> = self.hosts.split(',').map(with_port).collect();
        format!("postgres://{}/{}", hosts.join(","), self.database)
    }

    fn text(&self, password: Option<&str>, shown: impl Fn(&str, &str) -> Option<String>) -> String {
        let password = password.map_or_else(String::new, |password| format!(":{password}"));
        let parameters: Vec<String> = self
            .parameters
            .iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", shown(name, value)?)))
            .collect();
        let query = if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };
        format!("postgres://{}{password}@{}/{}{query}", self.user, self.hosts, self.database)
    }

    /// The URL with its password and without the parameters named: for the driver, never for people.
    pub fn secret_text(&self, without: &[&str]) -> String {
        let shown = |name: &str, value: &str| (!without.contains(&name)).then(|| value.to_owned());
        self.text(self.password.as_deref(), shown)
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn has_password(&self) -> bool {
        self.password.is_some() || self.parameter("password").is_some()
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    pub fn hosts(&self) -> &str {
        &self.hosts
    }

    pub fn database(&self) -> &str {
        &self.database
    }
}

fn with_port(host: &str) -> String {
    let bracketed = host.ends_with(']');
    if !bracketed && host.contains(':') { host.to_owned() } else { format!("{host}:{POSTGRES_PORT}") }
}

impl fmt::Display for TableUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TableUrl::Postgres(url) => url.fmt(f),
            other => f.write_str(&other.address()),
        }
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |name: &str, value: &str| Some(if name == "password" { MASK } else { value }.to_owned());
        f.write_str(&self.text(self.password.as_ref().map(|_| MASK), hidden))
    }
}

impl fmt::Debug for TableUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for TableUrl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TableUrl {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        TableUrl::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// The text with everything taken out that might be a secret, also when it is no URL at all: for errors that repeat it.
pub fn masked(text: &str) -> String {
    match TableUrl::parse(text) {
        Ok(url) => url.to_string(),
        Err(_) if text.contains(['@', '?', ':']) => {
            let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}://{MASK}")
        }
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_one_address_whatever_the_login() {
        for (url, address, shown) in [
            ("bucket", "bucket", "bucket"),
            ("dynamodb://my-table", "dynamodb://my-table", "dynamodb://my-table"),
            (
                "postgres://al:p%40ss@DB.example.com/log?sslmode=verify-full",
                "postgres://db.example.com:5432/log",
                "postgres://al:***@db.example.com/log?sslmode=verify-full",
            ),
            ("postgresql://al@db:5433/log", "postgres://db:5433/log", "postgres://al@db:5433/log"),
            ("postgres://al:a@b/c:d@db/log", "postgres://db:5432/log", "postgres://al:***@db/log"),
            ("postgres://al@[::1]/log", "postgres://[::1]:5432/log", "postgres://al@[::1]/log"),
            ("postgres://al@a,b:6/log", "postgres://a:5432,b:6/log", "postgres://al@a,b:6/log"),
            (
                "postgres://al@db/log?password=x&sslmode=require",
                "postgres://db:5432/log",
                "postgres://al@db/log?password=***&sslmode=require",
            ),
        ] {
            let parsed = TableUrl::parse(url).unwrap();
            assert_eq!(parsed.address(), address);
            assert_eq!((format!("{parsed}"), format!("{parsed:?}")), (shown.to_owned(), shown.to_owned()));
            assert_eq!(serde_json::to_value(&parsed).unwrap(), shown);
        }
    }

    #[test]
    fn the_driver_gets_the_password_and_nobody_else() {
        let TableUrl::Postgres(url) =
            TableUrl::parse("postgres://al:s3cret@db/log?sslmode=require&sslrootcert=/x").unwrap()
        else {
            panic!("not postgres")
        };
        assert_eq!(url.secret_text(&["sslrootcert"]), "postgres://al:s3cret@db/log?sslmode=require");
        assert_eq!((url.parameter("sslrootcert"), url.has_password()), (Some("/x"), true));
    }

    #[test]
    fn errors_repeat_no_secret() {
        for bad in [
            "",
            "dynamo://x",
            "dynamodb://",
            "dynamodb://a/b",
            "postgres://",
            "postgres://al:s3cret@/log",
            "postgres://al:s3cret@host",
            "postgres://:s3cret@host/log",
            "postgres://al:s3cret@host/log?sslmode",
            "mysql://al:s3cret@host/log",
            "al:s3cret",
        ] {
            let error = TableUrl::parse(bad).unwrap_err();
            assert!(!error.contains("s3cret") && !masked(bad).contains("s3cret"), "{bad}: {error}");
        }
        assert_eq!(masked("buckett"), "buckett");
    }
}

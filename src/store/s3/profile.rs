//! What the AWS files say of a user's profile: `~/.aws/credentials` and `~/.aws/config`, as the AWS tools write and read them.
//!
//! Static keys, region and endpoint only. A profile that asks for a role, a login or a program is refused with advice when its keys
//! are needed, so that nobody writes with other rights than he thinks. [`choose`] is pure; [`load`] brings environment and files.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

/// An access key that does not change while the process lives.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    pub id: String,
    pub secret: String,
    /// Of temporary credentials.
    pub token: Option<String>,
}

/// Shows who, never the secret.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({}, {} token)", self.id, if self.token.is_some() { "with" } else { "no" })
    }
}

/// What a profile says, as far as it is of use here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    pub keys: Option<Keys>,
    pub region: Option<String>,
    pub endpoint: Option<String>,
}

/// How a profile is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// By `AWS_PROFILE`: it must exist and be of use.
    ByName(&'a str),
    /// Nobody named one: the profile `default`, if there is one.
    Default,
}

/// One of the two files.
#[derive(Clone, Debug, Default)]
pub struct File {
    pub path: String,
    /// `None`: there is none.
    pub text: Option<String>,
}

/// Why a profile is of no use. For people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("{path}: {reason}")]
    Unreadable { path: String, reason: String },
    #[error("{path}, line {line}: neither [a section] nor a key = a value")]
    Line { path: String, line: usize },
    #[error("AWS_PROFILE is {name}, and neither {credentials} nor {config} has such a profile")]
    Absent { name: String, credentials: String, config: String },
    #[error(
        "the AWS profile {name} {what}, which Alluvium does not do: set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and \
         AWS_SESSION_TOKEN instead (`aws configure export-credentials --profile {name} --format env` prints them)"
    )]
    Unusable { name: String, what: &'static str },
}

/// Section → key → value. A nested key is `outer.inner`.
type Sections = BTreeMap<String, BTreeMap<String, String>>;

/// Reads the profile that the environment names, from the files that it names. `needs_keys`: no other source has the keys.
///
/// # Errors
/// Only when the keys are needed: else the files are a help, not a condition.
pub fn load(variable: &dyn Fn(&str) -> Option<String>, needs_keys: bool) -> Result<Profile, ProfileError> {
    let named = variable("AWS_PROFILE").or_else(|| variable("AWS_DEFAULT_PROFILE"));
    let asked = named.as_deref().map_or(Asked::Default, Asked::ByName);
    let file = |set: &str, name: &str| {
        let home = || Some(PathBuf::from(variable("HOME")?).join(".aws").join(name));
        variable(set).map(PathBuf::from).or_else(home)
    };
    let read = || {
        let credentials = read(file("AWS_SHARED_CREDENTIALS_FILE", "credentials"))?;
        let config = read(file("AWS_CONFIG_FILE", "config"))?;
        choose(asked, &credentials, &config, needs_keys)
    };
    let mut profile = match read() {
        Err(error) if !needs_keys => {
            tracing::debug!(%error, "the AWS profile is left aside");
            Profile::default()
        }
        result => result?,
    };
    if variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        profile.endpoint = None;
    }
    Ok(profile)
}

fn read(path: Option<PathBuf>) -> Result<File, ProfileError> {
    let Some(path) = path else { return Ok(File::default()) };
    let shown = path.display().to_string();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(File { path: shown, text: Some(text) }),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(File { path: shown, text: None })
        }
        Err(error) => Err(ProfileError::Unreadable { path: shown, reason: error.to_string() }),
    }
}

/// Finds a profile. The credentials file comes before the config file, as in the AWS tools.
pub fn choose(asked: Asked<'_>, credentials: &File, config: &File, needs_keys: bool) -> Result<Profile, ProfileError> {
    let name = match asked {
        Asked::ByName(name) => name,
        Asked::Default => "default",
    };
    let (secrets, settings) = (sections(credentials)?, sections(config)?);
    let in_config =
        settings.get(&format!("profile {name}")).or_else(|| settings.get(name).filter(|_| name == "default"));
    let found = [secrets.get(name), in_config];
    if found == [None, None] {
        return match asked {
            Asked::ByName(_) if needs_keys => Err(ProfileError::Absent {
                name: name.to_owned(),
                credentials: credentials.path.clone(),
                config: config.path.clone(),
            }),
            _ => Ok(Profile::default()),
        };
    }
    let get = |key: &str| {
        found.iter().flatten().find_map(|section| section.get(key)).filter(|value| !value.is_empty()).cloned()
    };
    let keys = match (get("aws_access_key_id"), get("aws_secret_access_key")) {
        (Some(id), Some(secret)) => Some(Keys { id, secret, token: get("aws_session_token") }),
        _ => None,
    };
    if needs_keys {
        // A role is meant even where there are keys: with them it would be assumed.
        let asks = |key: &str| get(key).is_some();
        let what = match () {
            () if asks("role_arn") => Some("asks for a role to be assumed"),
            () if keys.is_some() => None,
            () if asks("sso_session") || asks("sso_start_url") => Some("asks for an SSO login"),
            () if asks("credential_process") => Some("gets its keys from a program"),
            () if asks("credential_source") => Some("gets its keys from another source"),
            () if asked != Asked::Default => Some("has no aws_access_key_id and aws_secret_access_key"),
            () => None,
        };
        if let Some(what) = what {
            return Err(ProfileError::Unusable { name: name.to_owned(), what });
        }
    }
    let service = get("services").and_then(|services| settings.get(&format!("services {services}")));
    let endpoint = service.and_then(|service| service.get("s3.endpoint_url")).cloned();
    Ok(Profile { keys, region: get("region"), endpoint: endpoint.or_else(|| get("endpoint_url")) })
}

/// Takes a file apart. Comments begin with `#` or `;`, at the beginning of a line or behind white space; indented lines belong to the
/// key above them.
fn sections(file: &File) -> Result<Sections, ProfileError> {
    let mut sections = Sections::new();
    let (mut section, mut outer) = (None, String::new());
    for (at, line) in file.text.as_deref().unwrap_or("").lines().enumerate() {
        let wrong = || ProfileError::Line { path: file.path.clone(), line: at + 1 };
        let indented = line.starts_with([' ', '\t']);
        let text = without_comment(line).trim();
        if text.is_empty() {
            continue;
        }
        if let Some(name) = text.strip_prefix('[') {
            let name = name.strip_suffix(']').ok_or_else(wrong)?;
            let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
            sections.entry(name.clone()).or_default();
            section = Some(name);
            outer.clear();
            continue;
        }
        let entries = section.as_ref().and_then(|name| sections.get_mut(name)).ok_or_else(wrong)?;
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), value.trim().to_owned()),
            // The value goes on in this line; no value that is of use here does.
            None if indented => continue,
            None => return Err(wrong()),
        };
        if indented && !outer.is_empty() {
            entries.insert(format!("{outer}.{key}"), value);
        } else {
            outer = if value.is_empty() { key.clone() } else { String::new() };
            entries.insert(key, value);
        }
    }
    Ok(sections)
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with(['#', ';']) {
        return "";
    }
    let comment = [" #", " ;", "\t#", "\t;"].into_iter().filter_map(|mark| line.find(mark)).min();
    comment.map_or(line, |at| &line[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "
        # written by hand
[default]
aws_access_key_id = DEFAULTKEY
aws_secret_access_key = default/secret+=  # of the default
[ temporary ]
AWS_ACCESS_KEY_ID=TEMPKEY
aws_secret_access_key=temp
aws_session_token = tok=en==
[half]
aws_access_key_id = HALF
[mixed]
aws_access_key_id = MIXEDKEY
aws_secret_access_key = mixed
";

    const CONFIG: &str = "
[default]
region = eu-central-1
s3 =
    max_concurrent_requests = 20
    addressing_style = path
output = json
[profile temporary]
region = eu-west-1
endpoint_url = http://127.0.0.1:9000
[profile in-config]
aws_access_key_id = CONFIGKEY
aws_secret_access_key = config
services = local
endpoint_url = http://all
[services local]
dynamodb =
  endpoint_url = http://dynamo
s3 =
  endpoint_url = http://only-s3
; roles
[profile role]
role_arn = arn:aws:iam::1:role/x
source_profile = default
[profile mixed]
role_arn = arn:aws:iam::1:role/x
[profile sso]
sso_session = company
[profile program]
credential_process = /bin/keys
[profile region-only]
region = us-west-2
[sso-session company]
sso_start_url = https://example.com
[profile]
region = nowhere
[plain]
aws_access_key_id = NOTAPROFILE
aws_secret_access_key = x
";

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: Some(text.to_owned()) }
    }

    fn found(asked: Asked<'_>, needs_keys: bool) -> Result<Profile, ProfileError> {
        choose(asked, &file("CREDENTIALS", CREDENTIALS), &file("CONFIG", CONFIG), needs_keys)
    }

    fn profile(keys: Option<(&str, &str, Option<&str>)>, region: Option<&str>, endpoint: Option<&str>) -> Profile {
        let keys = keys.map(|(id, secret, token)| Keys {
            id: id.to_owned(),
            secret: secret.to_owned(),
            token: token.map(str::to_owned),
        });
        Profile { keys, region: region.map(str::to_owned), endpoint: endpoint.map(str::to_owned) }
    }

    #[test]
    fn profiles_are_found() {
        for (asked, expected) in [
            (Asked::Default, profile(Some(("DEFAULTKEY", "default/secret+=", None)), Some("eu-central-1"), None)),
            (
                Asked::ByName("default"),
                profile(Some(("DEFAULTKEY", "default/secret+=", None)), Some("eu-central-1"), None),
            ),
            (
                Asked::ByName("temporary"),
                profile(Some(("TEMPKEY", "temp", Some("tok=en=="))), Some("eu-west-1"), Some("http://127.0.0.1:9000")),
            ),
            (Asked::ByName("in-config"), profile(Some(("CONFIGKEY", "config", None)), None, Some("http://only-s3"))),
        ] {
            assert_eq!(found(asked, true), Ok(expected), "{asked:?}");
        }
    }

    #[test]
    fn what_is_of_no_use_is_said_when_keys_are_needed() {
        for (name, words) in [
            ("role", "role to be assumed"),
            ("mixed", "role to be assumed"),
            ("sso", "SSO login"),
            ("program", "from a program"),
            ("half", "has no aws_access_key_id and"),
            ("region-only", "has no aws_access_key_id and"),
            ("nobody", "neither CREDENTIALS nor CONFIG has such a profile"),
            ("plain", "neither CREDENTIALS nor CONFIG has such a profile"),
        ] {
            let error = found(Asked::ByName(name), true).expect_err(name).to_string();
            assert!(error.contains(words) && error.contains(name), "{error}");
            assert!(found(Asked::ByName(name), false).is_ok(), "{name}: the keys come from elsewhere");
        }
        assert_eq!(found(Asked::ByName("role"), false).map(|profile| profile.keys), Ok(None));
    }

    #[test]
    fn nobody_asked_and_nothing_there_is_no_error() {
        let none = File::default();
        assert_eq!(choose(Asked::Default, &none, &none, true), Ok(Profile::default()));
        let region = file("CONFIG", "[default]\nregion = eu-north-1\n");
        assert_eq!(choose(Asked::Default, &none, &region, true), Ok(profile(None, Some("eu-north-1"), None)));
        let sso = file("CONFIG", "[default]\nsso_start_url = https://example.com\n");
        assert!(matches!(choose(Asked::Default, &none, &sso, true), Err(ProfileError::Unusable { .. })));
    }

    #[test]
    fn broken_files_are_named() {
        for (text, line) in [("[default\n", 1), ("\nkey = value\n", 2), ("[default]\naws_access_key_id\n", 2)] {
            let error = choose(Asked::Default, &file("F", text), &File::default(), true);
            assert_eq!(error, Err(ProfileError::Line { path: "F".to_owned(), line }), "{text:?}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", found(Asked::ByName("temporary"), true));
        assert!(shown.contains("TEMPKEY") && !shown.contains("tok=en") && !shown.contains("\"temp\""), "{shown}");
    }

    #[test]
    fn the_environment_names_profile_and_files() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join(".aws")).expect("made");
        std::fs::write(folder.path().join(".aws/credentials"), CREDENTIALS).expect("written");
        std::fs::write(folder.path().join("elsewhere"), CONFIG).expect("written");
        let home = folder.path().display().to_string();
        let elsewhere = format!("{home}/elsewhere");
        let id = |set: &[(&str, &str)]| {
            let variable = |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
            load(&variable, true).map(|profile| (profile.keys.map(|keys| keys.id), profile.endpoint))
        };
        let home = ("HOME", home.as_str());
        let config = ("AWS_CONFIG_FILE", elsewhere.as_str());
        let key = |id: &str| Some(id.to_owned());
        assert_eq!(id(&[]), Ok((None, None)));
        assert_eq!(id(&[home]), Ok((key("DEFAULTKEY"), None)));
        assert_eq!(id(&[home, ("AWS_PROFILE", "temporary")]), Ok((key("TEMPKEY"), None)));
        let temporary = [home, config, ("AWS_PROFILE", "temporary")];
        assert_eq!(id(&temporary), Ok((key("TEMPKEY"), key("http://127.0.0.1:9000"))));
        let ignoring = [&temporary[..], &[("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")]].concat();
        assert_eq!(id(&ignoring), Ok((key("TEMPKEY"), None)));
        assert!(id(&[home, ("AWS_PROFILE", "in-config")]).is_err());
    }
}

//! What clap is told: one flag for each setting of our own in the table, and the subcommands.

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::table::{SETTINGS, Setting, Unit};

const SETTINGS_HEADING: &str = "Settings";

pub fn command() -> Command {
    let json = || Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON");
    let inspect = Command::new("inspect")
        .about("Print what is in an object: a segment, a fence, a metadata revision or snapshot")
        .arg(
            Arg::new("object")
                .required(true)
                .value_name("KEY|FILE|REVISION")
                .help("Key in the store, path of a file, or number of a metadata revision"),
        )
        .arg(json());
    Command::new("alluvium")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A Kafka-compatible log whose only disk is an object store")
        .after_help("Without a command it serves. Settings: flag over ALLUVIUM_* variable over file over default.")
        .subcommand(Command::new("serve").about("Run a broker (the default)"))
        .subcommand(
            Command::new("config")
                .about("Print the effective settings, where each comes from, defaults and units")
                .arg(json()),
        )
        .subcommand(inspect)
        .subcommand(metadata(json()))
        .args(SETTINGS.iter().filter(|setting| !setting.is_kafka()).map(flag))
        .arg(
            Arg::new("set")
                .long("set")
                .value_name("NAME=VALUE")
                .action(ArgAction::Append)
                .global(true)
                .help_heading(SETTINGS_HEADING)
                .help("Any setting, also Kafka's by Kafka's name: --set num.partitions=3"),
        )
        .arg(
            Arg::new("config-file")
                .long("config")
                .value_name("FILE")
                .global(true)
                .help_heading(SETTINGS_HEADING)
                .help("TOML file of settings (variable ALLUVIUM_CONFIG)"),
        )
}

fn metadata(json: Arg) -> Command {
    let from = || {
        Arg::new("from")
            .long("from")
            .value_name("REVISION")
            .value_parser(clap::value_parser!(u64))
            .help("Begin with this revision")
    };
    Command::new("metadata")
        .about("Look at the metadata table, or move it")
        .subcommand_required(true)
        .subcommand(Command::new("dump").about("Print all entries, one line of JSON each").arg(from()))
        .subcommand(Command::new("tail").about("Print the last entries, and new ones as they come").arg(from()))
        .subcommand(Command::new("verify").about("Replay all entries and report gaps and damage").arg(json))
        .subcommand(
            Command::new("copy")
                .about("Move the table of a stopped cluster; afterwards the brokers use the new one")
                .arg(
                    Arg::new("to")
                        .long("to")
                        .required(true)
                        .value_name("TABLE")
                        .help("bucket, dynamodb://table or postgres://user@host/database"),
                ),
        )
}

fn flag(setting: &'static Setting) -> Arg {
    let flag = Arg::new(setting.name)
        .long(setting.name)
        .value_name(if setting.unit == Unit::None { "VALUE" } else { setting.unit.name() })
        .allow_hyphen_values(true)
        .global(true)
        .help_heading(SETTINGS_HEADING)
        .help(StyledStr::from(sentence(setting)));
    if setting.is_switch() { flag.num_args(0..=1).require_equals(true).default_missing_value("true") } else { flag }
}

fn sentence(setting: &Setting) -> String {
    let default = (setting.show)(&crate::config::Settings::default());
    let default = default.map_or_else(String::new, |value| format!(" [default: {value}]"));
    format!("{}{default}", setting.description)
}

/// Values of the flags that were given: (setting, value).
pub fn flags(matches: &ArgMatches) -> Vec<(String, String)> {
    let ours = SETTINGS.iter().filter(|setting| !setting.is_kafka());
    ours.filter_map(|setting| Some((setting.name.to_owned(), matches.get_one::<String>(setting.name)?.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_stand_before_or_behind_the_command() {
        command().debug_assert();
        for arguments in [
            vec!["alluvium", "--flush-bytes", "1MiB", "--set", "num.partitions=3"],
            vec!["alluvium", "--flush-bytes", "1MiB", "--set", "num.partitions=3", "serve"],
            vec!["alluvium", "serve", "--flush-bytes", "1MiB", "--set=num.partitions=3"],
        ] {
            let matches = command().try_get_matches_from(&arguments).unwrap();
            let matches = matches.subcommand().map_or(&matches, |(_, matches)| matches);
            assert_eq!(flags(matches), [("flush-bytes".to_owned(), "1MiB".to_owned())], "{arguments:?}");
            assert_eq!(matches.get_many::<String>("set").unwrap().collect::<Vec<_>>(), ["num.partitions=3"]);
        }
        let nested = ["alluvium", "--store", "memory:", "metadata", "dump", "--from", "3", "--node-id=7"];
        let matches = command().try_get_matches_from(nested).unwrap();
        let inner = matches.subcommand().and_then(|(_, matches)| matches.subcommand()).unwrap().1;
        let given = flags(inner);
        assert_eq!(given.len(), 2, "{given:?}");
        let path_style = |arguments: &[&str]| flags(&command().try_get_matches_from(arguments).unwrap())[0].1.clone();
        assert_eq!(path_style(&["alluvium", "--s3-path-style"]), "true");
        assert_eq!(path_style(&["alluvium", "--s3-path-style=false"]), "false");
        let unknown = command().try_get_matches_from(["alluvium", "--flsh-bytes", "1"]).unwrap_err();
        assert!(unknown.to_string().contains("--flush-bytes"), "{unknown}");
        assert_eq!(unknown.exit_code(), 2);
    }
}

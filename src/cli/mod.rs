//! The command line: reads arguments, environment and file, calls one thing, prints. No logic of its own.
//!
//! Exit codes: 0 done, 1 it went wrong while running or the object is damaged, 2 it was asked wrongly (an unknown flag or setting).

mod args;
mod banner;
mod config;
mod folder;
mod inspect;
mod metadata;
mod render;
mod render_run;
mod serve;

pub use banner::banner;
pub use inspect::describe;

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;

use crate::config::{Given, LogFormat, Settings, load};

/// Why a command failed, and with it the exit code.
#[derive(Debug)]
pub enum Failure {
    /// The user asked for something that can't be: exit code 2.
    Usage(String),
    /// It went wrong: exit code 1.
    Run(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failure::Usage(text) | Failure::Run(text)) = self;
        f.write_str(text)
    }
}

/// Runs the program with these arguments, the first being its name.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let matches = match args::command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are errors to clap, that go to stdout with code 0.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("alluvium: {failure}");
            ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 })
        }
    }
}

fn run(matches: &clap::ArgMatches) -> Result<(), Failure> {
    let (name, matches) = matches.subcommand().unwrap_or(("serve", matches));
    // Flags may stand behind the innermost command.
    let (inner, matches) = matches.subcommand().unwrap_or(("", matches));
    let loaded = load(&given(matches)?).map_err(|error| Failure::Usage(error.to_string()))?;
    match name {
        "config" => config::print(&loaded, matches.get_flag("json")),
        "inspect" => {
            let what: &String = matches.get_one("object").expect("clap requires it");
            inspect::inspect(&loaded.settings, what, matches.get_flag("json"))
        }
        "metadata" => {
            set_up_logs(&loaded.settings)?;
            metadata::run(&loaded.settings, inner, matches)
        }
        _ => {
            set_up_logs(&loaded.settings)?;
            serve::serve(loaded.settings)
        }
    }
}

/// What the user said, by flags, environment and file.
fn given(matches: &clap::ArgMatches) -> Result<Given, Failure> {
    let variables: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .collect();
    let named_by_variable = variables.iter().find(|(name, _)| name == crate::config::load::FILE_VARIABLE);
    let path = matches.get_one::<String>("config-file").or(named_by_variable.map(|(_, path)| path));
    let file = match path {
        None => None,
        Some(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|error| Failure::Usage(format!("file {path}: {error}")))?;
            Some((path.clone(), text))
        }
    };
    let sets = matches.get_many::<String>("set").into_iter().flatten().cloned().collect();
    Ok(Given { file, variables, flags: args::flags(matches), sets })
}

fn set_up_logs(settings: &Settings) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(&settings.log_level)
        .map_err(|error| Failure::Usage(format!("log-level = {:?}: {error}", settings.log_level)))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let result = match settings.log_format {
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            logs.with_ansi(colours).with_target(false).try_init()
        }
    };
    result.map_err(|error| Failure::Run(format!("logging: {error}")))
}

/// Prints to stdout; a reader that went away (`| head`) is no error.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

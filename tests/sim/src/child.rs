//! One process per run: task ids of the runtime are counted per process, and their order shows when a host crashes.
//!
//! The child prints its outcome line by line, tab-separated; the parent reads that.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::mutants;
use crate::run::{Options, Outcome};

/// The numbers of parts, as the command line has them.
pub fn list(numbers: &[usize]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Runs a seed in a process of its own. `program`: this crate's.
pub fn run(program: &Path, seed: u64, options: &Options) -> Outcome {
    let mut command = Command::new(program);
    command.args(["--one", &seed.to_string()]).stdin(Stdio::null()).stderr(Stdio::null());
    if let Some(mutant) = options.mutant {
        command.args(["--mutant", &mutants::name(mutant)]);
    }
    if !options.without.is_empty() {
        command.args(["--without", &list(&options.without)]);
    }
    if options.keep_trace {
        command.arg("--timeline");
    }
    let failed = |what: String| Outcome { seed, violations: vec![format!("process: {what}")], ..Outcome::default() };
    match command.output() {
        Ok(output) if output.status.success() => read(seed, &String::from_utf8_lossy(&output.stdout)),
        Ok(output) => failed(output.status.to_string()),
        Err(error) => failed(error.to_string()),
    }
}

/// The child's side.
pub fn print(seed: u64, options: &Options) {
    let outcome = crate::run::run(seed, options);
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        text.push_str(&format!("{name}\t{}\n", value.to_string().replace('\n', " ")));
    };
    outcome.timeline.iter().for_each(|event| line("event", event));
    outcome.parts.iter().for_each(|part| line("part", part));
    line("kind", &outcome.kind);
    line("hash", &outcome.fingerprint.0);
    line("events", &outcome.fingerprint.1);
    line("simulated", &outcome.simulated.as_millis());
    outcome.violations.iter().for_each(|violation| line("violation", violation));
    outcome.counters.iter().for_each(|(what, count)| line("count", &format!("{count} {what}")));
    print!("{text}");
}

fn read(seed: u64, text: &str) -> Outcome {
    let mut outcome = Outcome { seed, ..Outcome::default() };
    for (name, value) in text.lines().filter_map(|line| line.split_once('\t')) {
        let number = || value.parse().unwrap_or_default();
        match name {
            "part" => outcome.parts.push(value.to_owned()),
            "event" => outcome.timeline.push(value.to_owned()),
            "kind" => value.clone_into(&mut outcome.kind),
            "hash" => outcome.fingerprint.0 = number(),
            "events" => outcome.fingerprint.1 = number(),
            "simulated" => outcome.simulated = Duration::from_millis(number()),
            "violation" => outcome.violations.push(value.to_owned()),
            _ => {
                let (count, what) = value.split_once(' ').unwrap_or((value, "?"));
                outcome.counters.insert(what.to_owned(), count.parse().unwrap_or_default());
            }
        }
    }
    outcome
}

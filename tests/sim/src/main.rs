//! `alluvium-sim`: many seeds, one seed with its timeline, the same seeds twice, or planted bugs. README.md says how.

use std::process::ExitCode;

use alluvium::types::mutant::Mutant;
use alluvium_sim::run::Options;
use alluvium_sim::{mutants, runner};

const USAGE: &str =
    "alluvium-sim [--seeds N] [--start S] [--jobs J] [--mutant NAME | --mutants] [--seed S] [--twice] [--log]";

struct Arguments {
    seeds: u64,
    start: u64,
    jobs: usize,
    mutant: Option<Mutant>,
    mutants: bool,
    seed: Option<u64>,
    twice: bool,
    log: bool,
}

fn parse() -> Result<Arguments, String> {
    let mut arguments = Arguments {
        seeds: 1000,
        start: 0,
        jobs: std::thread::available_parallelism().map_or(2, usize::from),
        mutant: None,
        mutants: false,
        seed: None,
        twice: false,
        log: false,
    };
    let mut given = std::env::args().skip(1);
    while let Some(flag) = given.next() {
        let mut value = || given.next().ok_or(format!("{flag} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
        match flag.as_str() {
            "--seeds" => arguments.seeds = number(value()?)?,
            "--start" => arguments.start = number(value()?)?,
            "--jobs" => arguments.jobs = number(value()?)?.max(1) as usize,
            "--seed" => arguments.seed = Some(number(value()?)?),
            "--mutant" => {
                let name = value()?;
                arguments.mutant = Some(mutants::find(&name).ok_or(format!("no planted bug is called {name:?}"))?);
            }
            "--mutants" => arguments.mutants = true,
            "--twice" => arguments.twice = true,
            "--log" => arguments.log = true,
            other => return Err(format!("{other:?} is not known\n{USAGE}")),
        }
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::from(2);
        }
    };
    runner::silence_panics();
    let seeds = arguments.start..arguments.start + arguments.seeds;
    let options = Options { mutant: arguments.mutant, ..Options::default() };
    let good = if let Some(seed) = arguments.seed {
        if arguments.log {
            tracing_subscriber::fmt().with_env_filter("alluvium=debug").without_time().init();
        }
        std::thread::Builder::new()
            .stack_size(16 << 20)
            .spawn(move || runner::show(seed, &options))
            .expect("a thread")
            .join()
            .unwrap_or(false)
    } else if arguments.twice {
        let differ = runner::unsteady(seeds.clone(), arguments.jobs);
        println!("seeds whose two runs differ: {differ:?}");
        println!("{} passed, {} failed", arguments.seeds - differ.len() as u64, differ.len());
        differ.is_empty()
    } else if arguments.mutants {
        let (caught, missed) = runner::hunt_all(Mutant::ALL, seeds, arguments.jobs);
        println!("{caught} passed, {missed} failed");
        missed == 0
    } else if let Some(mutant) = arguments.mutant {
        runner::hunt_all(&[mutant], seeds, arguments.jobs).1 == 0
    } else {
        let summary = runner::schedules(seeds, arguments.jobs, &options);
        if let Some(failed) = summary.failed.first() {
            println!("the first failure again, with its timeline:");
            runner::show(failed.seed, &options);
        }
        runner::report(&summary);
        summary.failed.is_empty()
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

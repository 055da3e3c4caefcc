//! `alluvium-sim`: many seeds, one seed with its timeline, the same seeds twice, or planted bugs. README.md says how.

use std::process::ExitCode;

use alluvium::types::mutant::Mutant;
use alluvium_sim::run::Options;
use alluvium_sim::runner::With;
use alluvium_sim::{child, mutants, runner, shrink, states};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

const USAGE: &str = "alluvium-sim [--seeds N] [--start S] [--jobs J] [--twice]
alluvium-sim --seed S [--without PART,PART…] [--mutant NAME] [--shrink]
alluvium-sim --mutants [--keep] | --mutant NAME  [--seeds N] [--start S] [--jobs J]";

/// So many failures are made smaller.
const EXPLAINED: usize = 3;

struct Arguments {
    seeds: u64,
    start: u64,
    jobs: usize,
    mutant: Option<Mutant>,
    mutants: bool,
    seed: Option<u64>,
    twice: bool,
    without: Vec<usize>,
    shrink: bool,
    keep: bool,
    /// What the runner asks of its child processes.
    one: Option<u64>,
    timeline: bool,
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
        without: Vec::new(),
        shrink: false,
        keep: false,
        one: None,
        timeline: false,
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
            "--one" => arguments.one = Some(number(value()?)?),
            "--timeline" => arguments.timeline = true,
            "--without" => {
                let parts = value()?;
                let parts = parts.split(',').filter(|part| !part.is_empty());
                let parts = parts.map(|part| part.parse().map_err(|_| format!("{part:?} is not the number of a part")));
                arguments.without = parts.collect::<Result<_, _>>()?;
            }
            "--shrink" => arguments.shrink = true,
            "--keep" => arguments.keep = true,
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
    if let Some(seed) = arguments.one {
        let Arguments { mutant, timeline: keep_trace, without, .. } = arguments;
        one(seed, Options { mutant, keep_trace, without, kind: None }, arguments.log);
        return ExitCode::SUCCESS;
    }
    let program = std::env::current_exe().expect("this program has a path");
    let seeds = arguments.start..arguments.start + arguments.seeds;
    let with = With { program: &program, jobs: arguments.jobs, mutant: arguments.mutant, keep_trace: false };
    let good = if let Some(seed) = arguments.seed {
        if arguments.shrink {
            let outcome = with.run(seed, &[]);
            if !outcome.passed() {
                shrink::explain(&outcome, with);
            }
            outcome.passed()
        } else {
            runner::show(seed, &arguments.without, with)
        }
    } else if arguments.twice {
        let differ = runner::unsteady(seeds, with);
        println!("seeds whose two runs differ: {differ:?}");
        println!("{} passed, {} failed", arguments.seeds - differ.len() as u64, differ.len());
        differ.is_empty()
    } else if arguments.mutants || arguments.mutant.is_some() {
        let one = arguments.mutant.map(|mutant| [mutant]);
        let which = one.as_ref().map_or(Mutant::ALL, |one| one);
        let kept = if arguments.mutant.is_some() { Default::default() } else { mutants::kept() };
        let (caught, missed) = runner::hunt_all(which, seeds, &kept, with);
        if arguments.keep {
            let path = mutants::keep(&caught).expect("the list can be written");
            println!("kept in {}", path.display());
        }
        println!("{} passed, {missed} failed", caught.len());
        missed == 0
    } else {
        let summary = runner::schedules(seeds, with);
        summary.failed.iter().take(EXPLAINED).for_each(|failed| shrink::explain(failed, with));
        runner::report(&summary);
        summary.failed.is_empty()
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One run in this process. Panics are its verdict, not noise.
fn one(seed: u64, options: Options, log: bool) {
    if log {
        tracing_subscriber::fmt().with_env_filter("alluvium=debug").without_time().init();
    } else {
        std::panic::set_hook(Box::new(|_| {}));
        tracing_subscriber::registry().with(states::Listener).init();
    }
    let run = std::thread::Builder::new().stack_size(16 << 20).spawn(move || child::print(seed, &options));
    run.expect("a thread").join().expect("a verdict");
}

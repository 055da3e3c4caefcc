//! Explores the worlds of the specification, and their mutants, which must break a rule. README.md says how to read it.

mod commit;
mod explore;
mod level;
mod merge;
mod outage;
mod producer;
mod proof;
mod start;
mod table;
mod transfer;

use std::process::ExitCode;
use std::time::Instant;

use explore::{Explored, Spec, explore};

/// More than any run needs.
const MAX_STATES: usize = 20_000_000;

/// One exploration.
pub struct Run {
    world: &'static str,
    name: &'static str,
    /// A rule is left out: another one must break.
    mutant: bool,
    explore: Box<dyn Fn() -> Explored>,
}

impl Run {
    pub fn new<S: Spec + 'static>(world: &'static str, name: &'static str, mutant: bool, spec: S) -> Run {
        Run { world, name, mutant, explore: Box::new(move || explore(&spec, MAX_STATES)) }
    }
}

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let (mut failed, mut states, mut mutants, mut worlds) = (0, 0, 0, 0);
    let begun_all = Instant::now();
    for run in [
        commit::runs(),
        transfer::runs(),
        merge::runs(),
        producer::runs(),
        proof::runs(),
        outage::runs(),
        table::runs(),
        level::runs(),
        start::runs(),
    ]
    .into_iter()
    .flatten()
    {
        if !wanted.is_empty() && !wanted.iter().any(|each| each == run.name || each == run.world) {
            continue;
        }
        let begun = Instant::now();
        let explored = (run.explore)();
        let seconds = begun.elapsed().as_secs_f64();
        let verdict = judge(&run, &explored);
        if let Some((_, way)) = &explored.broken
            && (verdict.is_err() || wanted.iter().any(|each| each == run.name))
        {
            way.iter().enumerate().for_each(|(at, step)| println!("  {:>2}. {step}", at + 1));
        }
        failed += u32::from(verdict.is_err());
        mutants += u32::from(run.mutant);
        worlds += u32::from(!run.mutant);
        states += explored.states;
        let (sign, what) = match verdict {
            Ok(what) => ("ok", what),
            Err(why) => ("FAIL", why),
        };
        println!(
            "{sign} {:<38} {:>9} states {seconds:>5.1} s  {what}",
            format!("{}/{}:", run.world, run.name),
            explored.states
        );
    }
    let seconds = begun_all.elapsed().as_secs_f64();
    println!("{worlds} worlds, {mutants} mutants, {failed} not as they must be; {states} states, {seconds:.0} s");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The design must hold in all its states and reach every situation; a mutant must break a rule.
fn judge(run: &Run, explored: &Explored) -> Result<String, String> {
    if let Some((rule, way)) = &explored.broken {
        let what = format!("{rule}, after {} steps", way.len());
        return if run.mutant { Ok(what) } else { Err(what) };
    }
    if explored.cut {
        return Err(format!("more than {MAX_STATES} states"));
    }
    if run.mutant {
        return Err("breaks no rule".to_owned());
    }
    if !explored.missing.is_empty() {
        return Err(format!("never: {}", explored.missing.join("; ")));
    }
    Ok("holds".to_owned())
}

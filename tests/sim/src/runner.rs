//! Runs many seeds, several processes side by side, and reports.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use alluvium::types::mutant::Mutant;

use crate::child;
use crate::mutants;
use crate::plan::kind_of;
use crate::run::{Options, Outcome};
use crate::states;

#[derive(Debug, Default)]
pub struct Summary {
    pub passed: u64,
    pub failed: Vec<Outcome>,
    pub counters: BTreeMap<String, u64>,
    pub simulated: Duration,
    pub took: Duration,
}

/// How to run: the program that runs one seed, and how many of it at a time.
#[derive(Clone, Copy, Debug)]
pub struct With<'a> {
    pub program: &'a Path,
    pub jobs: usize,
    pub mutant: Option<Mutant>,
    pub keep_trace: bool,
}

impl With<'_> {
    /// One seed, without some parts of its plan.
    pub fn run(&self, seed: u64, without: &[usize]) -> Outcome {
        let options =
            Options { mutant: self.mutant, keep_trace: self.keep_trace, without: without.to_vec(), kind: None };
        child::run(self.program, seed, &options)
    }
}

/// Runs the seeds that `wanted` picks of `start..start + count`; stops early at an outcome for which `until` says so.
fn each(
    seeds: std::ops::Range<u64>,
    with: With<'_>,
    until: &(dyn Fn(&Outcome) -> bool + Sync),
    wanted: &(dyn Fn(u64) -> bool + Sync),
    mut take: impl FnMut(Outcome),
) {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let (send, outcomes) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..with.jobs {
            let send = send.clone();
            let work = || {
                let send = send;
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if !wanted(seed) {
                        continue;
                    }
                    let outcome = with.run(seed, &[]);
                    if until(&outcome) {
                        stop.store(true, Ordering::Relaxed);
                    }
                    if send.send(outcome).is_err() {
                        return;
                    }
                }
            };
            scope.spawn(work);
        }
        drop(send);
        outcomes.iter().for_each(&mut take);
    });
}

/// How often a long run says how far it is.
const PROGRESS: Duration = Duration::from_secs(60);

/// Runs schedules and prints failures as they come.
pub fn schedules(seeds: std::ops::Range<u64>, with: With<'_>) -> Summary {
    let begun = Instant::now();
    let mut summary = Summary::default();
    let mut told = begun;
    each(seeds, with, &|_| false, &|_| true, |outcome| {
        *summary.counters.entry("runs in all".to_owned()).or_default() += 1;
        for (what, count) in &outcome.counters {
            *summary.counters.entry(what.clone()).or_default() += count;
        }
        summary.simulated += outcome.simulated;
        if outcome.passed() {
            summary.passed += 1;
        } else {
            println!("seed {} ({}) failed: {}", outcome.seed, outcome.kind, outcome.violations.join("; "));
            summary.failed.push(outcome);
        }
        if told.elapsed() > PROGRESS {
            told = Instant::now();
            let (passed, failed) = (summary.passed, summary.failed.len());
            println!("after {:.0} s: {passed} passed, {failed} failed so far", begun.elapsed().as_secs_f64());
        }
    });
    summary.took = begun.elapsed();
    summary
}

/// Prints what was run and injected, which situations were reached, and the last line.
pub fn report(summary: &Summary) {
    let count = summary.passed + summary.failed.len() as u64;
    let seconds = summary.took.as_secs_f64();
    println!(
        "{count} schedules, {:.0} s simulated in {seconds:.1} s: {:.1} schedules a second",
        summary.simulated.as_secs_f64(),
        count as f64 / seconds.max(0.001)
    );
    println!("faults and events:");
    for (what, count) in summary.counters.iter().filter(|(what, _)| !states::ALL.contains(&what.as_str())) {
        println!("  {what:<64} {count:>8}");
    }
    println!("situations reached:");
    for what in states::ALL {
        match summary.counters.get(*what) {
            Some(count) => println!("  {what:<64} {count:>8}"),
            None => println!("  {what:<64}     none"),
        }
    }
    println!("{} passed, {} failed", summary.passed, summary.failed.len());
}

/// Runs a seed again with its timeline and prints that, and what its plan is made of.
pub fn show(seed: u64, without: &[usize], with: With<'_>) -> bool {
    let outcome = With { keep_trace: true, ..with }.run(seed, without);
    let mut out = std::io::stdout().lock();
    for line in &outcome.timeline {
        let _closed = writeln!(out, "{line}");
    }
    for (at, part) in outcome.parts.iter().enumerate().filter(|(at, _)| !without.contains(at)) {
        let _closed = writeln!(out, "part {at:>2}: {part}");
    }
    let _closed = writeln!(out, "seed {} ({}): {:?}", seed, outcome.kind, outcome.violations);
    let _closed = writeln!(out, "trace {:016x}, {} events", outcome.fingerprint.0, outcome.fingerprint.1);
    outcome.passed()
}

/// Seeds whose two runs differ in anything; says where they part.
pub fn unsteady(seeds: std::ops::Range<u64>, with: With<'_>) -> Vec<u64> {
    let with = With { keep_trace: true, ..with };
    let mut first = BTreeMap::new();
    each(seeds.clone(), with, &|_| false, &|_| true, |outcome| {
        first.insert(outcome.seed, outcome);
    });
    let mut differ = Vec::new();
    each(seeds, with, &|_| false, &|_| true, |outcome| {
        let before = &first[&outcome.seed];
        if *before == outcome {
            return;
        }
        differ.push(outcome.seed);
        if let Some((one, other)) = before.timeline.iter().zip(&outcome.timeline).find(|(one, other)| one != other) {
            println!("seed {}:\n  {one}\n  {other}", outcome.seed);
        }
    });
    differ.sort_unstable();
    differ
}

/// What became of a planted bug.
#[derive(Debug)]
pub struct Caught {
    pub mutant: Mutant,
    pub tried: u64,
    pub took: Duration,
    /// The lowest seed of those that caught it, and why.
    pub by: Option<(u64, String)>,
}

/// Looks for a seed that catches a planted bug: one that passes without it, and where the judge says what is wrong, which a broker that panics
/// spares him. `known`: nowhere but at the one that did before.
pub fn hunt(mutant: Mutant, seeds: std::ops::Range<u64>, known: Option<u64>, with: With<'_>) -> Caught {
    let begun = Instant::now();
    let without = With { mutant: None, ..with };
    let with = With { mutant: Some(mutant), ..with };
    let mut caught = Caught { mutant, tried: 0, took: Duration::ZERO, by: None };
    let likely = mutants::kinds(mutant);
    let wanted = |seed: u64| known.is_some() || likely.is_empty() || likely.contains(&kind_of(seed));
    let seeds = known.map_or(seeds, |seed| seed..seed + 1);
    let crashed = |what: &String| what.starts_with("process") || what.starts_with("panic");
    let judged = |outcome: &Outcome| !outcome.passed() && !outcome.violations.iter().any(crashed);
    each(seeds, with, &judged, &wanted, |outcome| {
        caught.tried += 1;
        let lower = caught.by.as_ref().is_none_or(|(seed, _)| outcome.seed < *seed);
        if lower && judged(&outcome) && without.run(outcome.seed, &[]).passed() {
            caught.by = Some((outcome.seed, outcome.violations[0].clone()));
        }
    });
    caught.took = begun.elapsed();
    caught
}

/// Prints one row per planted bug; gives the seeds that caught them, and tells how many were not caught. `known`: seeds that caught
/// them before.
pub fn hunt_all(
    which: &[Mutant],
    seeds: std::ops::Range<u64>,
    known: &BTreeMap<Mutant, u64>,
    with: With<'_>,
) -> (BTreeMap<Mutant, u64>, usize) {
    println!("{:<26} {:>6} {:>7}  {:>7}  rule", "planted bug", "seeds", "seconds", "by seed");
    let next = AtomicU64::new(0);
    let (send, all) = mpsc::channel();
    let mut by = BTreeMap::new();
    // Those that are caught at once keep all processors busy, one each; the others are looked for one after the other.
    std::thread::scope(|scope| {
        for _ in 0..with.jobs {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                while let Some(mutant) = which.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let caught =
                        known.get(mutant).map(|seed| hunt(*mutant, 0..0, Some(*seed), With { jobs: 1, ..with }));
                    if send.send((*mutant, caught)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for (mutant, caught) in &all {
            let caught = match caught {
                Some(caught) if caught.by.is_some() => caught,
                _ => hunt(mutant, seeds.clone(), None, with),
            };
            show_caught(&caught);
            by.extend(caught.by.map(|(seed, _)| (mutant, seed)));
        }
    });
    let missed = which.len() - by.len();
    (by, missed)
}

fn show_caught(caught: &Caught) {
    let name = mutants::name(caught.mutant);
    let seconds = caught.took.as_secs_f64();
    match &caught.by {
        Some((seed, rule)) => {
            let rule: String = rule.chars().take(90).collect();
            println!("{name:<26} {:>6} {seconds:>7.1}  {seed:>7}  {rule}", caught.tried);
        }
        None => println!("{name:<26} {:>6} {seconds:>7.1}  NOT CAUGHT", caught.tried),
    }
}

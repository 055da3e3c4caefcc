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
use crate::plan::KINDS;
use crate::run::Outcome;

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

/// Runs the seeds that `wanted` picks of `start..start + count`; stops early when `until_failure`.
fn each(
    seeds: std::ops::Range<u64>,
    with: With<'_>,
    until_failure: bool,
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
                    let outcome = child::run(with.program, seed, with.mutant, with.keep_trace);
                    if until_failure && !outcome.passed() {
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

/// Runs schedules and prints failures as they come.
pub fn schedules(seeds: std::ops::Range<u64>, with: With<'_>) -> Summary {
    let begun = Instant::now();
    let mut summary = Summary::default();
    each(seeds, with, false, &|_| true, |outcome| {
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
    });
    summary.took = begun.elapsed();
    summary
}

/// Prints what was run and injected, and the last line.
pub fn report(summary: &Summary) {
    let count = summary.passed + summary.failed.len() as u64;
    let seconds = summary.took.as_secs_f64();
    println!(
        "{count} schedules, {:.0} s simulated in {seconds:.1} s: {:.1} schedules a second",
        summary.simulated.as_secs_f64(),
        count as f64 / seconds.max(0.001)
    );
    for (what, count) in &summary.counters {
        println!("  {what:<32} {count:>8}");
    }
    println!("{} passed, {} failed", summary.passed, summary.failed.len());
}

/// Runs a seed again with its timeline and prints that.
pub fn show(seed: u64, with: With<'_>) -> bool {
    let outcome = child::run(with.program, seed, with.mutant, true);
    let mut out = std::io::stdout().lock();
    for line in &outcome.timeline {
        let _closed = writeln!(out, "{line}");
    }
    let _closed = writeln!(out, "seed {} ({}): {:?}", seed, outcome.kind, outcome.violations);
    let _closed = writeln!(out, "trace {:016x}, {} events", outcome.fingerprint.0, outcome.fingerprint.1);
    outcome.passed()
}

/// Seeds whose two runs differ in anything; says where they part.
pub fn unsteady(seeds: std::ops::Range<u64>, with: With<'_>) -> Vec<u64> {
    let with = With { keep_trace: true, ..with };
    let mut first = BTreeMap::new();
    each(seeds.clone(), with, false, &|_| true, |outcome| {
        first.insert(outcome.seed, outcome);
    });
    let mut differ = Vec::new();
    each(seeds, with, false, &|_| true, |outcome| {
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

/// Looks for a seed that catches a planted bug.
pub fn hunt(mutant: Mutant, seeds: std::ops::Range<u64>, with: With<'_>) -> Caught {
    let begun = Instant::now();
    let with = With { mutant: Some(mutant), ..with };
    let likely = mutants::kinds(mutant);
    let wanted = |seed: u64| likely.is_empty() || likely.contains(&KINDS[(seed % KINDS.len() as u64) as usize]);
    let mut caught = Caught { mutant, tried: 0, took: Duration::ZERO, by: None };
    each(seeds, with, true, &wanted, |outcome| {
        caught.tried += 1;
        let lower = caught.by.as_ref().is_none_or(|(seed, _)| outcome.seed < *seed);
        if !outcome.passed() && lower {
            caught.by = Some((outcome.seed, outcome.violations[0].clone()));
        }
    });
    caught.took = begun.elapsed();
    caught
}

/// Prints one row per planted bug; tells how many were caught and how many were not.
pub fn hunt_all(which: &[Mutant], seeds: std::ops::Range<u64>, with: With<'_>) -> (usize, usize) {
    println!("{:<26} {:>6} {:>7}  {:>7}  rule", "planted bug", "seeds", "seconds", "by seed");
    let mut missed = 0;
    for mutant in which {
        let caught = hunt(*mutant, seeds.clone(), with);
        let name = mutants::name(caught.mutant);
        let seconds = caught.took.as_secs_f64();
        match caught.by {
            Some((seed, rule)) => {
                let rule: String = rule.chars().take(90).collect();
                println!("{name:<26} {:>6} {seconds:>7.1}  {seed:>7}  {rule}", caught.tried);
            }
            None => {
                missed += 1;
                println!("{name:<26} {:>6} {seconds:>7.1}  NOT CAUGHT", caught.tried);
            }
        }
    }
    (which.len() - missed, missed)
}

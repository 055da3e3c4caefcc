//! Runs many seeds on several threads and reports.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use alluvium::types::mutant::Mutant;

use crate::mutants;
use crate::plan::KINDS;
use crate::run::{Options, Outcome, run};

/// The threads of runs have deep stacks of nested futures.
const STACK_BYTES: usize = 16 << 20;

#[derive(Debug, Default)]
pub struct Summary {
    pub passed: u64,
    pub failed: Vec<Outcome>,
    pub counters: BTreeMap<&'static str, u64>,
    pub simulated: Duration,
    pub took: Duration,
}

/// Panics of a run are its verdict, not noise.
pub fn silence_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}

/// Runs the seeds that `wanted` picks of `start..start + count`; stops early when `until_failure`.
fn each(
    seeds: std::ops::Range<u64>,
    jobs: usize,
    options: &Options,
    until_failure: bool,
    wanted: &(dyn Fn(u64) -> bool + Sync),
    mut take: impl FnMut(Outcome),
) {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let (send, outcomes) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
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
                    let outcome = run(seed, options);
                    if until_failure && !outcome.passed() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    if send.send(outcome).is_err() {
                        return;
                    }
                }
            };
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).expect("a thread");
        }
        drop(send);
        outcomes.iter().for_each(&mut take);
    });
}

/// Runs schedules and prints failures as they come.
pub fn schedules(seeds: std::ops::Range<u64>, jobs: usize, options: &Options) -> Summary {
    let begun = Instant::now();
    let mut summary = Summary::default();
    each(seeds, jobs, options, false, &|_| true, |outcome| {
        *summary.counters.entry("runs in all").or_default() += 1;
        for (what, count) in &outcome.counters {
            *summary.counters.entry(what).or_default() += count;
        }
        summary.simulated += outcome.simulated;
        if outcome.passed() {
            summary.passed += 1;
        } else {
            println!("seed {} ({:?}) failed: {}", outcome.seed, outcome.kind, outcome.violations.join("; "));
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
pub fn show(seed: u64, options: &Options) -> bool {
    let outcome = run(seed, &Options { keep_trace: true, ..options.clone() });
    let mut out = std::io::stdout().lock();
    for line in &outcome.timeline {
        let _closed = writeln!(out, "{line}");
    }
    let _closed = writeln!(out, "seed {} ({:?}): {:?}", seed, outcome.kind, outcome.violations);
    let _closed = writeln!(out, "trace {:016x}, {} events", outcome.fingerprint.0, outcome.fingerprint.1);
    outcome.passed()
}

/// Seeds whose two runs differ.
pub fn unsteady(seeds: std::ops::Range<u64>, jobs: usize) -> Vec<u64> {
    let options = Options { keep_trace: true, ..Options::default() };
    let mut first = BTreeMap::new();
    each(seeds.clone(), jobs, &options, false, &|_| true, |outcome| {
        first.insert(outcome.seed, outcome.timeline);
    });
    let mut differ = Vec::new();
    each(seeds, jobs, &options, false, &|_| true, |outcome| {
        let before = &first[&outcome.seed];
        if *before != outcome.timeline {
            differ.push(outcome.seed);
            if let Some((one, other)) = before.iter().zip(&outcome.timeline).find(|(one, other)| one != other) {
                println!("seed {}:\n  {one}\n  {other}", outcome.seed);
            }
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
pub fn hunt(mutant: Mutant, seeds: std::ops::Range<u64>, jobs: usize) -> Caught {
    let begun = Instant::now();
    let options = Options { mutant: Some(mutant), ..Options::default() };
    let likely = mutants::kinds(mutant);
    let wanted = |seed: u64| likely.is_empty() || likely.contains(&KINDS[(seed % KINDS.len() as u64) as usize]);
    let mut caught = Caught { mutant, tried: 0, took: Duration::ZERO, by: None };
    each(seeds, jobs, &options, true, &wanted, |outcome| {
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
pub fn hunt_all(which: &[Mutant], seeds: std::ops::Range<u64>, jobs: usize) -> (usize, usize) {
    println!("{:<26} {:>6} {:>7}  {:>7}  rule", "planted bug", "seeds", "seconds", "by seed");
    let mut missed = 0;
    for mutant in which {
        let caught = hunt(*mutant, seeds.clone(), jobs);
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

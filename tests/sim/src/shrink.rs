//! Makes a schedule that fails smaller: parts of its plan are left out as long as it goes on failing in the same way.

use std::time::{Duration, Instant};

use crate::child::list;
use crate::run::Outcome;
use crate::runner::With;

/// At most so many runs, and so long.
const RUNS: usize = 150;
const LIMIT: Duration = Duration::from_secs(180);

/// Lines of a timeline that are shown of a schedule that failed.
const LINES: usize = 250;

/// The name of the rule that was broken first.
fn rule(outcome: &Outcome) -> Option<&str> {
    outcome.violations.first().and_then(|text| text.split(':').next())
}

/// The parts that a failing schedule can do without.
pub fn shrink(failed: &Outcome, with: With<'_>) -> Vec<usize> {
    let with = With { keep_trace: false, ..with };
    let begun = Instant::now();
    let (mut dropped, mut runs) = (Vec::new(), 0);
    // Halves first, then quarters, down to single parts: whatever goes in one piece costs one run.
    let mut size = failed.parts.len().div_ceil(2).max(1);
    loop {
        let left: Vec<usize> = (0..failed.parts.len()).filter(|part| !dropped.contains(part)).collect();
        let before = dropped.len();
        for chunk in left.chunks(size) {
            if runs >= RUNS || begun.elapsed() > LIMIT {
                break;
            }
            runs += 1;
            let mut without = dropped.clone();
            without.extend(chunk);
            if rule(&with.run(failed.seed, &without)) == rule(failed) {
                dropped = without;
            }
        }
        if size == 1 && dropped.len() == before {
            break;
        }
        size = (size / 2).max(1);
        if runs >= RUNS || begun.elapsed() > LIMIT {
            break;
        }
    }
    dropped.sort_unstable();
    dropped
}

/// Prints what is left of a failing schedule, and what happened in it in the end.
pub fn explain(failed: &Outcome, with: With<'_>) {
    let without = shrink(failed, with);
    let outcome = With { keep_trace: true, ..with }.run(failed.seed, &without);
    println!(
        "--- seed {} ({}), made smaller: {} of {} parts are needed",
        failed.seed,
        outcome.kind,
        outcome.parts.len() - without.len(),
        outcome.parts.len()
    );
    for (at, part) in outcome.parts.iter().enumerate().filter(|(at, _)| !without.contains(at)) {
        println!("part {at:>2}: {part}");
    }
    digest(&outcome.timeline).for_each(|line| println!("{line}"));
    outcome.violations.iter().for_each(|violation| println!("{violation}"));
    println!("all of its timeline: ./run --seed {} --without {}", failed.seed, list(&without));
    println!("---");
}

/// Of a long timeline: what was planned, what the table says, how brokers lived, and the last events of all kinds.
fn digest(timeline: &[String]) -> impl Iterator<Item = &String> {
    let who = |line: &str| line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let tells = move |line: &str| {
        matches!(who(line).as_str(), "PLAN" | "JUDGE" | "table")
            || line.contains(" life ")
            || line.contains("everything was read")
    };
    let tail = timeline.len().saturating_sub(LINES);
    timeline.iter().enumerate().filter(move |(at, line)| *at >= tail || tells(line)).map(|(_, line)| line)
}

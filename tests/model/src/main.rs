//! Explores the specification of the commit protocol, and its mutants, which must break a rule. README.md says how to read it.

mod commit;
mod explore;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use commit::Commit;
use explore::{Spec, explore};
use world::{Bounds, Mutant};

/// More than any run below needs.
const MAX_STATES: usize = 40_000_000;

/// The situations that only a loss brings about.
const OF_LOSS: &[&str] = &["recovery stopped at a loss"];

const SMALL: Bounds = Bounds { sessions: 2, segments: (3, 2), window: 2, fencers: 1, loss: false };

/// Name, world, and the rule that is left out.
const RUNS: &[(&str, Bounds, Option<Mutant>)] = &[
    ("two_sessions", SMALL, None),
    ("two_fencers", Bounds { fencers: 2, ..SMALL }, None),
    ("longer_sessions", Bounds { segments: (4, 2), window: 3, fencers: 2, ..SMALL }, None),
    ("three_sessions", Bounds { sessions: 3, segments: (2, 2), ..SMALL }, None),
    ("an_object_is_lost", Bounds { segments: (4, 2), window: 3, fencers: 2, loss: true, ..SMALL }, None),
    ("ack_out_of_order", SMALL, Some(Mutant::AckOutOfOrder)),
    ("ack_before_put", SMALL, Some(Mutant::AckBeforePut)),
    ("trust_taken", SMALL, Some(Mutant::TrustTaken)),
    ("retry_takes_more", SMALL, Some(Mutant::RetryTakesMore)),
    ("keep_memory", SMALL, Some(Mutant::KeepMemory)),
    ("end_from_reads", SMALL, Some(Mutant::EndFromReads)),
    ("fence_ahead_is_end", SMALL, Some(Mutant::FenceAheadIsEnd)),
    ("fencer_trusts_taken", SMALL, Some(Mutant::FencerTrustsTaken)),
    ("fence_deleted", SMALL, Some(Mutant::FenceDeleted)),
    ("follower_skips_gap", SMALL, Some(Mutant::FollowerSkipsGap)),
    ("start_above_seen", SMALL, Some(Mutant::StartAboveSeen)),
    ("statement_counts_in_flight", SMALL, Some(Mutant::StatementCountsInFlight)),
    ("start_at_zero", Bounds { loss: true, ..SMALL }, Some(Mutant::StartAtZero)),
    ("start_at_any_statement", Bounds { loss: true, ..SMALL }, Some(Mutant::StartAtAnyStatement)),
    ("skip_hole", Bounds { loss: true, ..SMALL }, Some(Mutant::SkipHole)),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut failed = 0;
    for (name, bounds, mutant) in RUNS {
        if !wanted.is_empty() && !wanted.iter().any(|each| each == name) {
            continue;
        }
        let begun = Instant::now();
        let verdict = judge(*bounds, *mutant, !wanted.is_empty());
        let seconds = begun.elapsed().as_secs_f64();
        match verdict {
            Ok(what) => println!("ok {name}: {what}, {seconds:.1} s"),
            Err(why) => {
                failed += 1;
                println!("FAIL {name}: {why}, {seconds:.1} s");
            }
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The design must hold in all its states and reach every situation; a mutant must break a rule.
fn judge(bounds: Bounds, mutant: Option<Mutant>, show_way: bool) -> Result<String, String> {
    let spec = Commit { bounds, mutant };
    let explored = explore(&spec, MAX_STATES);
    let states = explored.states;
    if let Some((rule, way)) = explored.broken {
        if show_way || mutant.is_none() {
            way.iter().enumerate().for_each(|(at, step)| println!("  {:>2}. {step:?}", at + 1));
        }
        let what = format!("{rule}, after {} steps", way.len());
        return if mutant.is_some() { Ok(what) } else { Err(what) };
    }
    if explored.cut {
        return Err(format!("more than {MAX_STATES} states"));
    }
    if mutant.is_some() {
        return Err(format!("breaks no rule in {states} states"));
    }
    let expected = spec.situations().iter().enumerate().filter(|(_, name)| bounds.loss || !OF_LOSS.contains(name));
    let missing: Vec<&str> =
        expected.filter(|(bit, _)| explored.reached >> bit & 1 == 0).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        Ok(format!("holds in {states} states"))
    } else {
        Err(format!("never: {}", missing.join("; ")))
    }
}

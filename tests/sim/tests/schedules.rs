//! What CI runs: many schedules, the same seeds twice, every planted bug. `SIM_SEEDS`, `SIM_START` and `SIM_JOBS` change how much.
//! Run it in release: `cargo test --release -- --nocapture`.

use std::path::Path;

use alluvium::types::mutant::Mutant;
use alluvium_sim::runner::{self, With};
use alluvium_sim::{mutants, shrink};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

fn jobs() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    setting("SIM_JOBS", cores as u64) as usize
}

/// One test, so that its parts do not take the cores from each other.
#[test]
fn the_broker_keeps_its_promises_and_planted_bugs_are_caught() {
    let program = Path::new(env!("CARGO_BIN_EXE_alluvium-sim"));
    let with = With { program, jobs: jobs(), mutant: None, keep_trace: false };
    let start = setting("SIM_START", 0);
    let differ = runner::unsteady(start..start + 20, with);
    let summary = runner::schedules(start..start + setting("SIM_SEEDS", 640), with);
    let seeds = start..start + setting("SIM_MUTANT_SEEDS", 3000);
    let (_, missed) = runner::hunt_all(Mutant::ALL, seeds, &mutants::kept(), with);
    if let Some(failed) = summary.failed.first() {
        shrink::explain(failed, with);
    }
    runner::report(&summary);
    let failed = summary.failed.len();
    assert!(differ.is_empty(), "runs of one seed differ: {differ:?}");
    assert_eq!(failed, 0, "schedules failed");
    assert_eq!(missed, 0, "planted bugs were missed");
}

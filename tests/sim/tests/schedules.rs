//! What CI runs: many schedules, the same seeds twice, every planted bug. `SIM_SEEDS`, `SIM_START` and `SIM_JOBS` change how much.
//! Run it in release: `cargo test --release -- --nocapture`.

use alluvium::types::mutant::Mutant;
use alluvium_sim::run::Options;
use alluvium_sim::runner;

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
    runner::silence_panics();
    let start = setting("SIM_START", 0);
    let differ = runner::unsteady(start..start + 20, jobs());
    let summary = runner::schedules(start..start + setting("SIM_SEEDS", 1000), jobs(), &Options::default());
    let (_, missed) = runner::hunt_all(Mutant::ALL, start..start + setting("SIM_MUTANT_SEEDS", 1000), jobs());
    if let Some(failed) = summary.failed.first() {
        runner::show(failed.seed, &Options::default());
    }
    runner::report(&summary);
    if !differ.is_empty() || !summary.failed.is_empty() || missed > 0 {
        println!("runs differ: {differ:?}; schedules failed: {}; planted bugs missed: {missed}", summary.failed.len());
        std::process::exit(1);
    }
}

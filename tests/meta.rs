//! The metadata table: machine, formats, backends, runtime, truncation, damage. No server needed; time is simulated.

#![allow(clippy::unwrap_used)]
#[path = "store_contract/backends.rs"]
mod backends;
#[path = "meta/golden.rs"]
mod golden;
#[path = "meta/hostile.rs"]
mod hostile;
#[path = "meta/machine.rs"]
mod machine;
#[path = "meta/proposals.rs"]
mod proposals;
#[path = "meta/rules.rs"]
mod rules;
#[path = "meta/table_contract.rs"]
mod table_contract;
#[path = "meta/truncation.rs"]
mod truncation;
#[path = "meta/world.rs"]
mod world;

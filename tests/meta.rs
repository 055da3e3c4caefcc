//! The metadata table: machine, formats, backends, runtime, truncation, damage. Time is simulated but for the contract of the backends, some
//! of which need servers (`tests/meta/tables.rs`).

#![allow(clippy::unwrap_used)]
#[path = "store_contract/backends.rs"]
mod backends;
#[path = "meta/copying.rs"]
mod copying;
#[path = "meta/golden.rs"]
mod golden;
#[path = "meta/hostile.rs"]
mod hostile;
#[path = "meta/levels.rs"]
mod levels;
#[path = "meta/machine.rs"]
mod machine;
#[path = "meta/proposals.rs"]
mod proposals;
#[path = "meta/proxy.rs"]
mod proxy;
#[path = "meta/requests.rs"]
mod requests;
#[path = "meta/rules.rs"]
mod rules;
#[path = "meta/servers.rs"]
mod servers;
#[path = "meta/table_contract.rs"]
mod table_contract;
#[path = "meta/tables.rs"]
mod tables;
#[path = "meta/truncation.rs"]
mod truncation;
#[path = "meta/world.rs"]
mod world;

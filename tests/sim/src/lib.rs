//! The broker as it ships, over a simulated network, store and clock.
//!
//! A seed decides everything: how many clients, what fails and when, every delay. One seed gives one trace, so a failure found once
//! can be looked at as often as needed: `./run --seed N --timeline`.
//!
//! [`plan`] makes the fault plan of a seed, [`run`](mod@run) puts the hosts together and drives them, [`roles`] and
//! [`producers`] are the clients,
//! [`hosts`] has their runtimes and clocks, [`net`] what is between them, [`judge`] objects to what must not be seen, [`bucket`] is the store with its faults, [`world`] is what they share.

pub mod bucket;
pub mod child;
pub mod churn;
#[path = "../../broker/client.rs"]
#[allow(dead_code, reason = "the broker's own tests use more of it")]
pub mod client;
pub mod hosts;
pub mod judge;
#[cfg(test)]
mod judge_tests;
pub mod kafka;
pub mod mutants;
pub mod net;
pub mod plan;
pub mod producers;
pub mod roles;
pub mod run;
pub mod runner;
pub mod shrink;
pub mod states;
pub mod storms;
pub mod team;
pub mod truth;
pub mod world;

//! The broker as it ships, in this process, over memory and the local directory: what no client suite can provoke at will.

mod bad_input;
mod client;
mod cluster;
mod coordinators;
mod groups;
mod handovers;
mod harness;
mod links;
mod merging;
mod outages;
mod pitfalls;
mod pressure;
mod races;
mod reads;
mod recovery;
mod sessions;
mod starts;

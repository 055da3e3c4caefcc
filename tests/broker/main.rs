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
mod pitfalls;
mod pressure;
mod reads;
mod recovery;
mod sessions;
mod starts;

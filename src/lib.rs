//! Alluvium: a Kafka-compatible log whose only disk is an object store. **The PUT is the commit.**
//!
//! Rooms, and who may know whom (arrows point down only; `tests/architecture.rs` checks it):
//!
//! ```text
//! doors   api (one file per Kafka API) · server (sockets) · admin (HTTP) · cli
//! engine  log (append, fetch, recover) · coord (groups) · maintain
//! ports   store (object bytes) · cache (blocks) · meta (the shared table of revisions) · links (other brokers)
//! pure    types · wire (Kafka bytes) · segment (our bytes)
//! ```
//!
//! The journey of a record: `server` reads a frame, `wire` checks it, `api::produce` hands its batches to `log::append`,
//! which gives them offsets and seals them into a `segment` that `store` creates; then the answer goes out.
//! The journey back: `api::fetch` asks `log::fetch`, which reads slices out of `cache`.

pub mod admin;
pub mod api;
pub mod broker;
pub mod cache;
pub mod cli;
pub mod config;
pub mod coord;
pub mod links;
pub mod log;
pub mod maintain;
pub mod meta;
pub mod segment;
pub mod server;
pub mod store;
pub mod types;
pub mod wire;

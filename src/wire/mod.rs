//! Kafka's bytes: frames, the length guard, the API table of field kinds, record batches.
//!
//! Pure: bytes in, values or errors out; no clock, no I/O. Nothing here trusts a length, a count or a size that a client
//! declares, and nothing panics on input.
//!
//! The way of a request: [`frame`] reads its header, [`table`] knows the API, [`guard`] walks the body, then kafka-protocol
//! decodes it ([`newest`] what the crate does not know). The way of produced records: [`validate`] checks one [`batch`] and its [`records`] (through [`codec`]) and
//! gives back a slice of what came in; only topics that change timestamps or compression get a new batch from [`build`].
//! What brokers say to each other over the same door is in [`link`].

pub mod batch;
pub mod build;
pub mod codec;
pub mod fetch;
mod fields;
pub mod frame;
pub mod guard;
pub mod link;
mod lz4;
pub mod newest;
pub mod records;
pub mod table;
pub mod validate;

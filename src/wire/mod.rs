//! Kafka's bytes: frames, the length guard, the API table of field kinds, record batches.
//!
//! Pure: bytes in, values or errors out; no clock, no I/O. Nothing here trusts a length, a count or a size that a client
//! declares, and nothing panics on input.

mod fields;
pub mod frame;
pub mod guard;
pub mod table;

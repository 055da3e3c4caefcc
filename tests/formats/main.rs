//! The object formats: golden bytes, round trips, damage.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

mod run;
mod segment;

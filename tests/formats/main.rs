//! The object formats: golden bytes, round trips, damage.

mod segment;

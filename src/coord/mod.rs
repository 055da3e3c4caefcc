//!

pub mod producer_ids;

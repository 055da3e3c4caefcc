//! Coordination state: the metadata table of revisions and the image that follows from it.

pub mod entry;
pub mod image;

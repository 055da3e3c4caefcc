//! `alluvium inspect` of any bytes, with and without a name that tells what they should be, as table and as JSON.

use alluvium::cli::describe;

use crate::{memory, trailers};

/// Bits of the first byte, besides two that choose the name.
const AS_JSON: u8 = 4;
const MENDED: u8 = 8;
pub const OF_RUNS: u8 = 16;

const KEYS: [Option<&str>; 4] = [
    None,
    Some("segments/00000000000000000042-0123456789abcdef/00000000000000000131"),
    Some("meta/log/00000000000000000003"),
    Some("meta/snapshots/00000000000000000011"),
];

const KEYS_OF_RUNS: [Option<&str>; 4] = [
    None,
    Some("runs/00000000000000000077-fedcba9876543210/00000000000000000000"),
    Some("runs/00000000000000000077-fedcba9876543210/00000000000000000001"),
    Some("runs/00000000000000000077-fedcba9876543210/manifest"),
];

/// The first byte chooses the name, the form, and whether the trailer is made right.
pub fn run(data: &[u8]) {
    let Some((how, content)) = data.split_first() else { return };
    // A batch of a checkpoint takes 5 bytes, and more than a thousand while it becomes JSON.
    let (keys, kinds, most) =
        if how & OF_RUNS == 0 { (KEYS, trailers::OF_SESSIONS, 256) } else { (KEYS_OF_RUNS, trailers::OF_RUNS, 512) };
    let key = keys[usize::from(how & 3)];
    let mended;
    let object = if how & MENDED == 0 {
        content
    } else {
        mended = trailers::mend(content, &kinds);
        &mended
    };
    memory::within(most * data.len() + 64 * 1024, || {
        let _ = describe("object", key, object, how & AS_JSON != 0);
    });
}

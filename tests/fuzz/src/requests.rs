//! Request bodies of every served API and version: `[API] [version] body`. What the guard takes must decode in bounded memory, and
//! end where the guard said.

use alluvium::wire::frame::RequestHead;
use alluvium::wire::guard;
use alluvium::wire::table::{API_TABLE, ApiRow};
use bytes::Bytes;

use crate::edges::put;
use crate::messages::{Gen, random_body};
use crate::{memory, messages};

/// Bytes held per byte of body, and what an error costs: as in tests/wire_guard.rs.
const AMPLIFICATION: usize = 160;
const CONSTANT: usize = 8 * 1024;

pub fn run(data: &[u8]) {
    if let Ok(head) = RequestHead::parse(data) {
        assert!(head.body_start <= data.len());
    }
    let Some(([row, version], body)) = data.split_first_chunk() else { return };
    let (row, version) = chosen(*row, *version);
    let Ok(left) = guard::check(row.key as i16, version, body) else { return };
    let body = Bytes::copy_from_slice(body);
    let limit = AMPLIFICATION * body.len() + CONSTANT;
    if let Ok(found) = memory::within(limit, || messages::decode(row.key, version, body)) {
        assert_eq!(found, left, "{} v{version}: guard and decoder end at different places", row.name);
    }
}

/// Any two bytes name an API and a version that are served.
pub fn chosen(row: u8, version: u8) -> (&'static ApiRow, i16) {
    let row = &API_TABLE[usize::from(row) % API_TABLE.len()];
    (row, row.min + i16::from(version) % (row.max - row.min + 1))
}

/// Mutations that know what a request is: the guard walks every version by the same code, so that coverage keeps no body of a version
/// whose fields are like another's. Changes `data`, of which `size` bytes are an input, and returns its new size; `None` leaves the
/// change to libFuzzer.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> Option<usize> {
    let mut dice = Gen::new(u64::from(seed), 0, false);
    match dice.below(8) {
        0 | 1 => {
            let (at, version) = (dice.below(API_TABLE.len() as u64) as u8, dice.byte());
            put(data, max_size, &drawn(at, version, dice.below(u64::MAX)))
        }
        2 if size >= 2 => {
            data[1] = dice.byte();
            Some(size)
        }
        _ => None,
    }
}

/// A valid request, as an input.
fn drawn(at: u8, version: u8, seed: u64) -> Vec<u8> {
    let (row, number) = chosen(at, version);
    let body = random_body(row.key, &mut Gen::new(seed, number, row.is_flexible(number)));
    [&[at, version], &body[..]].concat()
}

//! Mutations of the `connection` target that know what a request is: most of libFuzzer's leave a broker nothing but to refuse. Requests
//! of few topics, groups, producers and offsets are put in, taken out, doubled and moved.

use std::sync::OnceLock;

use alluvium::wire::codec::Codec;
use alluvium::wire::table::{API_TABLE, ApiRow};
use bytes::Bytes;
use uuid::Uuid;

use crate::messages::{Gen, Known, random_body};
use crate::samples::{batch, create_topics, head};
use crate::{connection, pieces};

/// Changes `data`, of which `size` bytes are an input, and returns its new size; `None` leaves the change to libFuzzer.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> Option<usize> {
    let mut dice = Gen::new(u64::from(seed), 0, false);
    if dice.below(3) == 0 || size == 0 {
        return None;
    }
    let first = data[0];
    let mut parts: Vec<Vec<u8>> = pieces::split(&data[1..size]).into_iter().map(<[u8]>::to_vec).collect();
    for _ in 0..=dice.below(3) {
        let at = dice.below(parts.len() as u64) as usize;
        let other = dice.below(parts.len() as u64) as usize;
        match dice.below(8) {
            0 if parts.len() > 1 => drop(parts.remove(at)),
            1 => parts.insert(other, parts[at].clone()),
            2 => parts.swap(at, other),
            3 => parts.insert(0, create_topics()),
            4 => parts[at] = request(&mut dice),
            _ => parts.insert(at + 1, request(&mut dice)),
        }
    }
    let new = [&[first], &pieces::join(&parts)[..]].concat();
    if new.len() > max_size.min(data.len()) {
        return None;
    }
    data[..new.len()].copy_from_slice(&new);
    Some(new.len())
}

fn request(dice: &mut Gen) -> Vec<u8> {
    let row = &API_TABLE[dice.below(API_TABLE.len() as u64) as usize];
    let version = row.min + dice.below((row.max - row.min + 1) as u64) as i16;
    familiar(row, version, dice.below(u64::MAX))
}

/// A random request of things that the broker may know.
pub fn familiar(row: &ApiRow, version: i16, seed: u64) -> Vec<u8> {
    let mut random = Gen::new(seed, version, row.is_flexible(version)).with(known());
    [&[0], &head(row.key, version)[..], &random_body(row.key, &mut random)].concat()
}

fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let words = "t z auto g g2 consumer range i __consumer_offsets compression.type lz4 retention.ms 1 cleanup.policy compact";
        let subscription = Bytes::from_static(&[0, 1, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 0]);
        let producers = [(-1, -1, -1), (0, 0, 0), (0, 0, 3), (0, 1, 0), (1, 0, 0)];
        let batches = producers.iter().flat_map(|producer| Codec::ALL.map(|codec| batch(codec, *producer)));
        Known {
            numbers: vec![-3, -2, -1, -1, 0, 0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 9, 100, 6000, 60_000, 1 << 20],
            names: words.split(' ').chain([""]).map(str::to_owned).collect(),
            ids: connection::topic_ids().into_iter().chain([Uuid::nil()]).collect(),
            blobs: batches.chain([subscription]).collect(),
        }
    })
}

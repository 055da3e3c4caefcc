//! The length guard against the decoder that it stands before.
//!
//! Random messages of every served API and version are encoded by kafka-protocol: the guard must take them, refuse each
//! prefix of them, and whatever it takes of their mutants must decode within a small multiple of its bytes.

mod messages;

use std::alloc::System;

use alluvium::wire::build::{BatchBuilder, BatchOptions, NewRecord};
use alluvium::wire::codec::{Codec, decompress};
use alluvium::wire::guard;
use alluvium::wire::table::API_TABLE;
use alluvium::wire::validate::{ProduceRules, validate};
use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use messages::{Gen, decode, random_body};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes allocated per byte of body: a struct of four bytes with one unknown tagged field costs about 500.
const AMPLIFICATION: usize = 160;
/// What an error costs.
const CONSTANT: usize = 8 * 1024;
const MESSAGES_PER_VERSION: u64 = 6;

/// The only test of this binary, because it counts what the process allocates.
#[test]
fn what_the_guard_takes_decodes_in_bounded_memory() {
    for row in API_TABLE {
        for version in row.min..=row.max {
            let key = row.key as i16;
            for seed in 0..MESSAGES_PER_VERSION {
                let mut random = Gen::new(seed, version, row.is_flexible(version));
                let body = random_body(row.key, &mut random);
                let what = format!("{} v{version} seed {seed}", row.name);
                assert_eq!(guard::check(key, version, &body), Ok(0), "{what}");
                assert_eq!(decode(row.key, version, Bytes::from(body.clone())).ok(), Some(0), "{what}");
                prefixes_are_refused(key, version, &body, &what);
                mutants_are_bounded(row.key, version, &body, &mut random, &what);
            }
        }
    }
    huge_counts_are_refused();
    bombs_cost_a_window();
    declared_sizes_cost_nothing();
}

fn prefixes_are_refused(key: i16, version: i16, body: &[u8], what: &str) {
    for cut in 0..body.len() {
        assert!(guard::check(key, version, &body[..cut]).is_err(), "{what} cut at {cut}");
    }
    let longer = [body, &[0]].concat();
    assert_eq!(guard::check(key, version, &longer), Ok(1), "{what} with a byte more");
}

fn mutants_are_bounded(key: ApiKey, version: i16, body: &[u8], random: &mut Gen, what: &str) {
    for at in 0..body.len() {
        let was = body[at];
        for byte in [0, 1, 0x7f, 0x80, 0xff, was ^ 1, was.wrapping_add(1), was.wrapping_sub(1), random.byte()] {
            let mut mutant = body.to_vec();
            mutant[at] = byte;
            is_bounded(key, version, mutant, what);
        }
        let mut mutant = body.to_vec();
        let end = (at + 5).min(body.len());
        mutant[at..end].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f][..end - at]);
        is_bounded(key, version, mutant, what);
    }
}

fn is_bounded(key: ApiKey, version: i16, mutant: Vec<u8>, what: &str) {
    let Ok(behind) = guard::check(key as i16, version, &mutant) else {
        return;
    };
    let length = mutant.len();
    let mutant = Bytes::from(mutant);
    let region = Region::new(ALLOCATOR);
    let left = decode(key, version, mutant.clone());
    let allocated = region.change().bytes_allocated;
    assert!(allocated <= AMPLIFICATION * length + CONSTANT, "{what}: {allocated} bytes for {mutant:?}");
    if let Ok(left) = left {
        assert_eq!(left, behind, "{what}: the guard and the decoder end at different places in {mutant:?}");
    }
}

/// The very bodies that abort a process without the guard.
fn huge_counts_are_refused() {
    assert!(guard::check(3, 4, &[0x7f, 0xff, 0xff, 0xff]).is_err());
    assert!(guard::check(0, 3, &[0xff, 0xff, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]).is_err());
}

/// A batch whose records decompress to 64 MiB is checked in the memory of the codec's window. (The C libraries' own
/// memory is not counted.)
fn bombs_cost_a_window() {
    let value = vec![0; 64 * 1024 * 1024];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut builder = BatchBuilder::new(BatchOptions { codec, ..Default::default() });
        builder.push(NewRecord { value: Some(&value), ..Default::default() }).expect("one record");
        let batch = builder.build().expect("batch");
        let rules = ProduceRules { max_message_bytes: batch.len(), ..ProduceRules::new("X-0") };
        let region = Region::new(ALLOCATOR);
        let valid = validate(batch.clone(), &rules, 0);
        let change = region.change();
        let held = change.bytes_allocated.saturating_sub(change.bytes_deallocated);
        assert!(valid.is_ok() && held < 1024, "{codec:?} keeps {held} bytes");
        // Snappy's blocks are bytes of their own, freed one after another.
        let limit = if codec == Codec::Snappy { value.len() + value.len() / 8 } else { 4 * 1024 * 1024 };
        assert!(change.bytes_allocated < limit, "{codec:?} takes {} bytes", change.bytes_allocated);
    }
}

/// A snappy block of a few bytes that declares 4 GiB.
fn declared_sizes_cost_nothing() {
    let declared = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    let framed = [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x07".as_slice(), &declared].concat();
    for bomb in [&declared[..], &framed] {
        let region = Region::new(ALLOCATOR);
        assert!(decompress(Codec::Snappy, bomb, usize::MAX).is_err());
        assert!(region.change().bytes_allocated < CONSTANT);
    }
}

//! The length guard against the decoder that it stands before.
//!
//! Random messages of every served API and version are encoded by kafka-protocol: the guard must take them, refuse each
//! prefix of them, and whatever it takes of their mutants must decode within a small multiple of its bytes.
//!
//! `GUARD_CASES=10000000 cargo test --release --test wire_guard -- --nocapture` runs so many random cases more than the sample (a case
//! is a message, a prefix or a mutant). A failure names its seed: `GUARD_SEED=… GUARD_CASES=1` runs that message again.

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
/// Random cases when `GUARD_CASES` does not say how many: some seconds.
const SAMPLE: u64 = 300_000;
/// Of one message: prefixes and mutants.
const CASES_PER_MESSAGE: u64 = 60;

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
    random_cases();
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

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Messages of APIs and versions drawn at random, each with prefixes and with mutants that differ in several places.
fn random_cases() {
    let (cases, first) = (number("GUARD_CASES", SAMPLE), number("GUARD_SEED", 1_000_000));
    let (mut done, mut seed) = (0, first);
    while done < cases {
        done += one_message(seed);
        seed += 1;
    }
    println!("{done} random cases, seeds {first} to {}", seed - 1);
}

fn one_message(seed: u64) -> u64 {
    let mut dice = Gen::new(seed, 0, false);
    let row = &API_TABLE[dice.below(API_TABLE.len() as u64) as usize];
    let version = row.min + dice.below((row.max - row.min + 1) as u64) as i16;
    let mut random = Gen::new(seed, version, row.is_flexible(version));
    let body = random_body(row.key, &mut random);
    let other = random_body(row.key, &mut random);
    let key = row.key as i16;
    let what = format!("{} v{version}, GUARD_SEED={seed}", row.name);
    assert_eq!(guard::check(key, version, &body), Ok(0), "{what}");
    assert_eq!(decode(row.key, version, Bytes::from(body.clone())).ok(), Some(0), "{what}");
    is_bounded(row.key, version, body.clone(), &what);
    for case in 1..CASES_PER_MESSAGE {
        if case % 8 == 0 && !body.is_empty() {
            let cut = dice.below(body.len() as u64) as usize;
            assert!(guard::check(key, version, &body[..cut]).is_err(), "{what} cut at {cut}");
        } else {
            is_bounded(row.key, version, mutant(&body, &other, &mut dice), &what);
        }
    }
    CASES_PER_MESSAGE
}

/// A body with up to eight changes: bytes, lengths, what is cut out, doubled, or comes from another body.
fn mutant(body: &[u8], other: &[u8], dice: &mut Gen) -> Vec<u8> {
    const LENGTHS: [&[u8]; 6] =
        [&[0x7f, 0xff, 0xff, 0xff], &[0x7f, 0xff], &[0xff; 4], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff, 0x7f], &[0; 4]];
    let mut mutant = body.to_vec();
    for _ in 0..=dice.below(8) {
        let at = dice.below(mutant.len() as u64 + 1) as usize;
        let end = (at + dice.below(9) as usize).min(mutant.len());
        match dice.below(7) {
            0 if at < mutant.len() => mutant[at] = dice.byte(),
            1 if at < mutant.len() => mutant[at] ^= 1 << dice.below(8),
            2 => drop(mutant.drain(at..end)),
            3 => mutant.extend_from_within(at..end),
            4 => {
                let from = dice.below(other.len() as u64 + 1) as usize;
                mutant.splice(at..end, other[from..].iter().copied());
            }
            5 => {
                let length = LENGTHS[dice.below(LENGTHS.len() as u64) as usize];
                let end = (at + length.len()).min(mutant.len());
                mutant.splice(at..end, length.iter().copied());
            }
            _ => mutant.insert(at, dice.byte()),
        }
    }
    mutant
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

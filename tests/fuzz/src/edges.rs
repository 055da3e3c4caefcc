//! Numbers at which arithmetic and formats come to an end, and how mutations write them.

use crate::messages::Gen;

/// Ends of the integers, of varints of few bytes, and of what two of them add up to.
const ENDS: [u64; 12] = [
    0,
    1 << 7,
    1 << 14,
    1 << 15,
    1 << 16,
    100_000,
    1 << 31,
    1 << 32,
    1 << 53,
    (1 << 63) - (1 << 31),
    1 << 63,
    u64::MAX,
];

/// A number near one of the ends.
pub fn edge(dice: &mut Gen) -> u64 {
    let end = ENDS[dice.below(ENDS.len() as u64) as usize];
    end.wrapping_add(dice.below(7)).wrapping_sub(3)
}

/// Mostly a small number, sometimes one at an end.
pub fn number(dice: &mut Gen) -> u64 {
    if dice.below(6) == 0 { edge(dice) } else { dice.below(5) }
}

/// One of the items.
pub fn one<'a, T>(dice: &mut Gen, items: &'a [T]) -> &'a T {
    &items[dice.below(items.len() as u64) as usize]
}

/// LEB128, as footers spell numbers.
pub fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// Makes `new` the input; `None` when there is no room for it.
pub fn put(data: &mut [u8], max_size: usize, new: &[u8]) -> Option<usize> {
    if new.len() > max_size.min(data.len()) {
        return None;
    }
    data[..new.len()].copy_from_slice(new);
    Some(new.len())
}

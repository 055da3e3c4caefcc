//! Variable-length integers of the footer, and a cursor that never reads past its end.
//!
//! Unsigned: seven bits a byte, lowest first, the high bit says that more follow (LEB128); the shortest spelling is the only one.
//! Signed: zigzag, then the same.

use super::Damage;

const LONGEST: usize = 10;

pub fn put(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

pub fn put_signed(into: &mut Vec<u8>, value: i64) {
    put(into, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Reads from the front of a slice.
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn bytes(&mut self, count: usize, what: &str) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| {
            Damage::content(format!("{what}: {count} bytes are needed, {} are left", self.rest.len()))
        })?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Damage> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N, what)?);
        Ok(array)
    }

    pub fn unsigned(&mut self, what: &str) -> Result<u64, Damage> {
        let mut value = 0u64;
        for (index, byte) in self.rest.iter().take(LONGEST).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if index == LONGEST - 1 && *byte > 1 {
                break;
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                if *byte == 0 && index > 0 {
                    break;
                }
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(Damage::content(format!("{what}: no valid number")))
    }

    pub fn signed(&mut self, what: &str) -> Result<i64, Damage> {
        let raw = self.unsigned(what)?;
        Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
    }

    /// An unsigned number that fits `T`.
    pub fn number<T: TryFrom<u64>>(&mut self, what: &str) -> Result<T, Damage> {
        let raw = self.unsigned(what)?;
        T::try_from(raw).map_err(|_| Damage::content(format!("{what}: {raw} is out of range")))
    }

    /// How many items follow, of at least `least` bytes each: never more than the rest can hold, so that room may be reserved.
    pub fn count(&mut self, least: usize, what: &str) -> Result<usize, Damage> {
        let count: usize = self.number(what)?;
        if count > self.rest.len() / least {
            return Err(Damage::content(format!("{what}: {count} can't be in the {} bytes left", self.rest.len())));
        }
        Ok(count)
    }

    pub fn end(&self, what: &str) -> Result<(), Damage> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Damage::content(format!("{what}: {} bytes too many", self.rest.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            put_signed(&mut bytes, value.cast_signed());
            let mut cursor = Cursor::new(&bytes);
            assert_eq!(cursor.unsigned("value"), Ok(value));
            assert_eq!(cursor.signed("value"), Ok(value.cast_signed()));
            assert_eq!(cursor.end("value"), Ok(()));
        }
    }

    #[test]
    fn there_is_one_spelling() {
        for bad in [&[][..], &[0x80], &[0x80, 0], &[0xff, 0x80, 0], &[0xff; 10], &[0xff; 11]] {
            assert!(Cursor::new(bad).unsigned("value").is_err(), "{bad:x?}");
        }
        let mut past = [0xff; 10];
        past[9] = 2;
        assert!(Cursor::new(&past).unsigned("value").is_err());
    }

    #[test]
    fn a_count_can_not_ask_for_more_than_there_is() {
        assert_eq!(Cursor::new(&[2, 0, 0]).count(1, "items"), Ok(2));
        assert!(Cursor::new(&[2, 0, 0]).count(2, "items").is_err());
        assert!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]).count(1, "items").is_err());
    }
}

//! Bytes that lie one after the other in an object and come in pieces, as the block cache gives them. Pure.
//!
//! A batch may begin in one piece and end in another: its header is put together, its checksum runs over the pieces, and what is
//! sent are slices of them. The records are copied nowhere.

use std::ops::Range;

use bytes::Bytes;

use crate::wire::batch::{BatchError, BatchHeader, CrcOfPieces, HEADER_BYTES};

#[derive(Clone, Debug, Default)]
pub struct Stretch {
    pieces: Vec<Bytes>,
    length: usize,
}

impl Stretch {
    pub fn new(pieces: Vec<Bytes>) -> Stretch {
        let length = pieces.iter().map(Bytes::len).sum();
        Stretch { pieces, length }
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The header of the batch at `at`, which may end behind the stretch.
    pub fn header(&self, at: usize) -> Result<BatchHeader, BatchError> {
        let wanted = at..self.length.min(at + HEADER_BYTES);
        let mut parts = self.parts(wanted);
        let first = parts.next().unwrap_or_default();
        let mut rest = parts.peekable();
        if rest.peek().is_none() {
            return BatchHeader::parse(first);
        }
        let mut header = [0; HEADER_BYTES];
        let mut end = 0;
        for part in std::iter::once(first).chain(rest) {
            header[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        BatchHeader::parse(&header[..end])
    }

    /// Whether the checksum of the batch at `range`, which is whole, is `crc`.
    pub fn crc_is(&self, range: Range<usize>, crc: u32) -> bool {
        let mut sum = CrcOfPieces::new();
        self.parts(range).for_each(|part| sum.update(part));
        sum.finish() == Some(crc)
    }

    /// The pieces of `range`, without empty ones.
    pub fn slices(&self, range: Range<usize>) -> Vec<Bytes> {
        self.places(range).map(|(piece, place)| piece.slice(place)).collect()
    }

    /// All of it in one piece, copied if it comes in several.
    pub fn joined(mut self) -> Bytes {
        match self.pieces.len() {
            1 => self.pieces.swap_remove(0),
            _ => Bytes::from(self.pieces.concat()),
        }
    }

    fn parts(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        self.places(range).map(|(piece, place)| &piece[place])
    }

    fn places(&self, range: Range<usize>) -> impl Iterator<Item = (&Bytes, Range<usize>)> {
        let mut begin = 0;
        self.pieces.iter().filter_map(move |piece| {
            let from = range.start.max(begin);
            let to = range.end.min(begin + piece.len());
            let place = (from < to).then(|| from - begin..to - begin);
            begin += piece.len();
            place.map(|place| (piece, place))
        })
    }
}

impl From<Bytes> for Stretch {
    fn from(bytes: Bytes) -> Stretch {
        Stretch::new(vec![bytes])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_found_wherever_they_are_cut() {
        let whole: Vec<u8> = (0..200).collect();
        for piece in [1, 7, 60, 61, 62, 199, 200] {
            let stretch = Stretch::new(whole.chunks(piece).map(Bytes::copy_from_slice).collect());
            assert_eq!(stretch.len(), 200);
            for (from, to) in [(0, 200), (0, 0), (5, 6), (59, 122), (199, 200)] {
                let slices = stretch.slices(from..to);
                assert!(slices.iter().all(|slice| !slice.is_empty()));
                assert_eq!(slices.concat(), whole[from..to], "{piece}: {from}..{to}");
            }
            assert_eq!(stretch.joined(), whole);
        }
        assert!(Stretch::default().is_empty() && Stretch::default().joined().is_empty());
    }
}

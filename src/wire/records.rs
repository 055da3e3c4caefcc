//! The records inside a batch: reading them, walking them in bounded memory, finding timestamps.
//!
//! A record is: varint length; attributes; varints timestamp delta, offset delta; key and value, each with a varint length
//! (negative is null); varint count of headers; headers. Source: DefaultRecord.java.

use super::batch::{self, BatchError, BatchHeader, HEADER_BYTES};
use super::codec::{self, Pieces};
use crate::types::{Offset, TimestampMs};

/// Most bytes that the records of one batch may decompress to. Real batches are at most `max.message.bytes` before
/// compression, or some dozen times that where clients fill batches by compressed size; more is a bomb.
pub const MAX_UNCOMPRESSED_BYTES: usize = 128 * 1024 * 1024;

/// A record; deltas are relative to the batch's base offset and base timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub attributes: i8,
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub header_count: usize,
    /// The headers as they are on the wire, without their count; checked.
    pub headers: &'a [u8],
}

/// Header key and value as they are on the wire.
pub type Header<'a> = (&'a [u8], Option<&'a [u8]>);

impl<'a> Record<'a> {
    /// The headers in order; names may repeat and need not be UTF-8.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let mut rest = self.headers;
        (0..self.header_count).map_while(move |_| header(&mut rest).ok())
    }

    /// Wraps as Java's addition does.
    pub fn timestamp(&self, header: &BatchHeader) -> TimestampMs {
        timestamp(header, self.timestamp_delta)
    }
}

fn timestamp(header: &BatchHeader, delta: i64) -> TimestampMs {
    if header.is_log_append_time() { header.max_timestamp } else { header.base_timestamp.wrapping_add(delta) }
}

type Reason = &'static str;

/// Reads the records of an uncompressed section. Ends after the first error; checks neither count nor deltas.
pub struct RecordIter<'a> {
    rest: &'a [u8],
    index: usize,
}

impl<'a> RecordIter<'a> {
    pub fn new(section: &'a [u8]) -> Self {
        RecordIter { rest: section, index: 0 }
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let index = self.index;
        self.index += 1;
        Some(record(&mut self.rest).map_err(|reason| {
            self.rest = &[];
            BatchError::Record { index, reason }
        }))
    }
}

#[inline]
fn record<'a>(rest: &mut &'a [u8]) -> Result<Record<'a>, Reason> {
    let length = usize::try_from(varint(rest)?).map_err(|_| "its length is negative")?;
    let mut body = take(rest, length)?;
    let attributes = i8::from_be_bytes([byte(&mut body)?]);
    let timestamp_delta = varlong(&mut body)?;
    let offset_delta = varint(&mut body)?;
    let key = nullable(&mut body)?;
    let value = nullable(&mut body)?;
    let header_count = usize::try_from(varint(&mut body)?).map_err(|_| "its header count is negative")?;
    let headers = body;
    for _ in 0..header_count {
        header(&mut body)?;
    }
    if !body.is_empty() {
        return Err("it is longer than its content");
    }
    Ok(Record { attributes, timestamp_delta, offset_delta, key, value, header_count, headers })
}

fn header<'a>(rest: &mut &'a [u8]) -> Result<Header<'a>, Reason> {
    let key = nullable(rest)?.ok_or("a header key is null")?;
    Ok((key, nullable(rest)?))
}

#[inline]
fn nullable<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Reason> {
    match usize::try_from(varint(rest)?) {
        Ok(length) => take(rest, length).map(Some),
        Err(_) => Ok(None),
    }
}

#[inline]
fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Reason> {
    let (head, tail) = rest.split_at_checked(length).ok_or(CUT)?;
    *rest = tail;
    Ok(head)
}

const CUT: Reason = "it ends behind its bytes";
const LONG: Reason = "a number is too long";

#[inline]
fn byte(rest: &mut &[u8]) -> Result<u8, Reason> {
    let (first, tail) = rest.split_first().ok_or(CUT)?;
    *rest = tail;
    Ok(*first)
}

#[inline]
fn varint(rest: &mut &[u8]) -> Result<i32, Reason> {
    let raw = raw_varint(&mut || byte(rest), 5)?;
    Ok(zigzag32(raw))
}

#[inline]
fn varlong(rest: &mut &[u8]) -> Result<i64, Reason> {
    raw_varint(&mut || byte(rest), 10).map(zigzag64)
}

/// At most `bytes` bytes, and no bits beyond 32 (of five) or 64 (of ten). Most numbers in a batch have one byte.
#[inline]
fn raw_varint(next: &mut impl FnMut() -> Result<u8, Reason>, bytes: u32) -> Result<u64, Reason> {
    let first = next()?;
    if first < 0x80 { Ok(u64::from(first)) } else { long_varint(u64::from(first & 0x7f), next, bytes) }
}

#[inline]
fn long_varint(first: u64, next: &mut impl FnMut() -> Result<u8, Reason>, bytes: u32) -> Result<u64, Reason> {
    let last_max = if bytes == 5 { 0x0f } else { 0x01 };
    let mut value = first;
    for at in 1..bytes {
        let byte = next()?;
        if at == bytes - 1 && byte > last_max {
            return Err(LONG);
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            break;
        }
    }
    Ok(value)
}

#[inline]
fn zigzag64(raw: u64) -> i64 {
    (raw >> 1).cast_signed() ^ -(raw & 1).cast_signed()
}

#[inline]
fn zigzag32(raw: u64) -> i32 {
    i32::try_from(zigzag64(raw)).unwrap_or(0)
}

/// What a walk sees of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub index: usize,
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    /// Negative for null.
    pub key_length: i32,
    /// Negative for null.
    pub value_length: i32,
}

/// Walks the records of a whole batch, compressed or not, and shows each to `visit`; `Ok` says that the section held
/// exactly `record_count` well-formed records. A section that decompresses to more than `limit` bytes is `TooLarge`. Memory: one piece
/// of the section and the codec's window, whatever the records' sizes.
pub(super) fn walk(
    header: &BatchHeader,
    batch: &[u8],
    limit: usize,
    mut visit: impl FnMut(Seen),
) -> Result<(), BatchError> {
    let section = batch.get(HEADER_BYTES..).unwrap_or(&[]);
    let count = usize::try_from(header.record_count).unwrap_or(0);
    let codec = header.compression()?;
    if codec == codec::Codec::None {
        let mut records = RecordIter::new(section);
        for index in 0..count {
            let record = records.next().unwrap_or(Err(BatchError::Record { index, reason: "it is missing" }))?;
            let length =
                |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX));
            let (key_length, value_length) = (length(record.key), length(record.value));
            let (timestamp_delta, offset_delta) = (record.timestamp_delta, record.offset_delta);
            visit(Seen { index, timestamp_delta, offset_delta, key_length, value_length });
        }
        return if records.rest.is_empty() { Ok(()) } else { Err(left_over(count)) };
    }
    let pieces = codec::pieces(codec, section).map_err(|error| BatchError::Decompress(error.to_string()))?;
    let mut stream = Stream::new(pieces, limit);
    for index in 0..count {
        match stream.record(index) {
            Ok(seen) => visit(seen),
            Err(reason) => return Err(stream.failure.unwrap_or(BatchError::Record { index, reason })),
        }
    }
    match stream.byte() {
        Ok(_) => Err(left_over(count)),
        Err(_) => stream.failure.map_or(Ok(()), Err),
    }
}

fn left_over(index: usize) -> BatchError {
    BatchError::Record { index, reason: "it is not counted in the batch's header" }
}

/// Reads records out of a decompressor, a piece at a time.
struct Stream<'a> {
    pieces: Box<dyn Pieces + 'a>,
    piece: Vec<u8>,
    at: usize,
    /// Bytes of the pieces before this one.
    before: usize,
    /// Most bytes of all pieces.
    limit: usize,
    /// Why there are no more bytes, if it is not their end.
    failure: Option<BatchError>,
}

impl<'a> Stream<'a> {
    fn new(pieces: Box<dyn Pieces + 'a>, limit: usize) -> Self {
        Stream { pieces, piece: Vec::new(), at: 0, before: 0, limit, failure: None }
    }

    /// The next piece, or an error at the end.
    #[cold]
    fn refill(&mut self) -> Result<(), Reason> {
        self.before += self.piece.len();
        self.at = 0;
        if let Err(error) = self.pieces.fill(&mut self.piece) {
            self.failure = Some(BatchError::Decompress(error.to_string()));
            self.piece.clear();
        } else if self.before + self.piece.len() > self.limit {
            self.failure = Some(BatchError::TooLarge { limit: self.limit });
            self.piece.clear();
        }
        if self.piece.is_empty() { Err(CUT) } else { Ok(()) }
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Reason> {
        if self.at == self.piece.len() {
            self.refill()?;
        }
        let byte = self.piece[self.at];
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, mut bytes: usize) -> Result<(), Reason> {
        loop {
            let here = bytes.min(self.piece.len() - self.at);
            self.at += here;
            bytes -= here;
            if bytes == 0 {
                return Ok(());
            }
            self.refill()?;
        }
    }

    fn varint(&mut self) -> Result<i32, Reason> {
        raw_varint(&mut || self.byte(), 5).map(zigzag32)
    }

    fn varlong(&mut self) -> Result<i64, Reason> {
        raw_varint(&mut || self.byte(), 10).map(zigzag64)
    }

    /// A length and as many bytes; negative lengths have none.
    fn skip_sized(&mut self) -> Result<i32, Reason> {
        let length = self.varint()?;
        self.skip(usize::try_from(length).unwrap_or(0))?;
        Ok(length)
    }

    fn position(&self) -> usize {
        self.before + self.at
    }

    fn record(&mut self, index: usize) -> Result<Seen, Reason> {
        let length = usize::try_from(self.varint()?).map_err(|_| "its length is negative")?;
        let start = self.position();
        self.byte()?;
        let timestamp_delta = self.varlong()?;
        let offset_delta = self.varint()?;
        let key_length = self.skip_sized()?;
        let value_length = self.skip_sized()?;
        let headers = self.varint()?;
        if headers < 0 {
            return Err("its header count is negative");
        }
        for _ in 0..headers {
            if self.skip_sized()? < 0 {
                return Err("a header key is null");
            }
            self.skip_sized()?;
        }
        if self.position() - start != length {
            return Err("its length is not that of its content");
        }
        Ok(Seen { index, timestamp_delta, offset_delta, key_length, value_length })
    }
}

/// The first record whose timestamp is at or after `target`, in one whole batch.
pub fn find_by_timestamp(batch: &[u8], target: TimestampMs) -> Result<Option<(Offset, TimestampMs)>, BatchError> {
    find_by_timestamp_from(batch, target, 0)
}

/// Like [`find_by_timestamp`], among the records at or after the offset `from`.
pub fn find_by_timestamp_from(
    batch: &[u8],
    target: TimestampMs,
    from: Offset,
) -> Result<Option<(Offset, TimestampMs)>, BatchError> {
    let (header, batch) = batch::whole(batch)?;
    let mut found = None;
    if header.max_timestamp < target || header.last_offset() < from {
        return Ok(None);
    }
    walk(&header, batch, MAX_UNCOMPRESSED_BYTES, |seen| {
        let at = (offset(&header, &seen), timestamp(&header, seen.timestamp_delta));
        if found.is_none() && at.1 >= target && at.0 >= from {
            found = Some(at);
        }
    })?;
    Ok(found)
}

/// The first record with the highest timestamp of one whole batch; `None` if no record has a timestamp. With
/// LogAppendTime all records have the same, so it is the first record.
pub fn find_max_timestamp(batch: &[u8]) -> Result<Option<(Offset, TimestampMs)>, BatchError> {
    let (header, batch) = batch::whole(batch)?;
    let mut found: Option<(Offset, TimestampMs)> = None;
    walk(&header, batch, MAX_UNCOMPRESSED_BYTES, |seen| {
        let at = (offset(&header, &seen), timestamp(&header, seen.timestamp_delta));
        if at.1 > found.map_or(batch::NONE, |found| found.1) {
            found = Some(at);
        }
    })?;
    Ok(found)
}

fn offset(header: &BatchHeader, seen: &Seen) -> Offset {
    header.base_offset.saturating_add(i64::from(seen.offset_delta))
}

//! The length guard: walks a request body before kafka-protocol decodes it.
//!
//! The decoder allocates what the lengths on the wire ask for; four bytes can ask for 150 GB. So every length and count is
//! checked here against the bytes that remain, by the table of field kinds in [`super::fields`]. After it the decoder
//! allocates at most a small multiple of the body. Bytes behind the request are ignored, as Kafka does: librdkafka 2.16
//! leaves three behind a Metadata request for all topics.
//! The walk allocates nothing, reads each byte of a length once, and skips contents.

use super::table::{self, ApiRow};

/// Structs, strings inside arrays and unknown tagged fields that one request may hold. Each costs the decoder up to some
/// 200 bytes whatever its size on the wire. Elements of fixed size cost what they take on the wire and are not counted.
pub const MAX_ELEMENTS: usize = 262_144;

/// The first length in bytes that no string may have.
const MAX_TEXT_BYTES: usize = 1 << 15;

/// The decoder keeps unknown tagged fields in a map of its own for each struct, some 500 bytes for the first: one counts
/// as so many elements.
pub const UNKNOWN_TAG_ELEMENTS: usize = 4;

/// The fields of a struct in wire order.
pub type Fields = &'static [Field];

/// How a field is written.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// So many bytes: booleans, integers, ids.
    Fixed(u8),
    /// i16 length and bytes; compact: varint length + 1.
    Text,
    /// i32 length and bytes; compact: varint length + 1. Also record batches.
    Blob,
    /// Array of primitives.
    List(&'static Kind),
    /// Array of structs.
    Structs(Fields),
    /// A struct that is always there.
    Struct(Fields),
    /// A byte, 1 or -1, and the struct if 1.
    OptionStruct(Fields),
}

/// A field: what it is and in which versions.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    name: &'static str,
    kind: Kind,
    since: i16,
    until: i16,
    null_since: i16,
    tag: Option<u32>,
}

pub(super) const fn f(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, since: 0, until: i16::MAX, null_since: i16::MAX, tag: None }
}

impl Field {
    pub(super) const fn since(self, version: i16) -> Field {
        Field { since: version, ..self }
    }

    pub(super) const fn until(self, version: i16) -> Field {
        Field { until: version, ..self }
    }

    /// May be null from this version on.
    pub(super) const fn null(self, version: i16) -> Field {
        Field { null_since: version, ..self }
    }

    pub(super) const fn tag(self, tag: u32) -> Field {
        Field { tag: Some(tag), ..self }
    }

    fn stands_in(&self, version: i16) -> bool {
        self.since <= version && version <= self.until
    }
}

/// Why a body is refused. The connection is closed then, as Kafka does on a request that it can't parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    #[error("API {api_key} version {version} is not served")]
    NotServed { api_key: i16, version: i16 },
    #[error("{api}: field {field} ends behind the request")]
    Truncated { api: &'static str, field: &'static str },
    #[error("{api}: field {field} has an impossible length")]
    BadLength { api: &'static str, field: &'static str },
    #[error("{api}: field {field} may not be null")]
    Null { api: &'static str, field: &'static str },
    #[error("{api}: more than {MAX_ELEMENTS} elements")]
    TooMany { api: &'static str },
}

/// Checks the body of a request (what follows the header). `Ok` means that decoding it needs bounded memory, and tells how
/// many bytes lie behind the request.
pub fn check(api_key: i16, version: i16, body: &[u8]) -> Result<usize, GuardError> {
    let Some(row) = table::find(api_key).filter(|row| row.serves(version)) else {
        return Err(GuardError::NotServed { api_key, version });
    };
    let mut walk = Walk { row, version, flexible: row.is_flexible(version), rest: body, elements: 0, field: "" };
    walk.fields(row.fields)?;
    Ok(walk.rest.len())
}

struct Walk<'a> {
    row: &'static ApiRow,
    version: i16,
    flexible: bool,
    rest: &'a [u8],
    elements: usize,
    /// Where the walk is, for the error.
    field: &'static str,
}

impl<'a> Walk<'a> {
    fn fields(&mut self, fields: Fields) -> Result<(), GuardError> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.tag.is_none() && field.stands_in(version)) {
            self.field(field)?;
        }
        if self.flexible { self.tags(fields) } else { Ok(()) }
    }

    fn field(&mut self, field: &Field) -> Result<(), GuardError> {
        self.field = field.name;
        let nullable = field.null_since <= self.version;
        match field.kind {
            Kind::List(element) => self.array(nullable, self.min_size(element), |walk| walk.element(element)),
            Kind::Structs(fields) => {
                let min_size = self.min_struct_size(fields);
                self.array(nullable, min_size, |walk| {
                    walk.count(1)?;
                    walk.fields(fields)
                })
            }
            Kind::Struct(fields) => self.fields(fields),
            Kind::OptionStruct(fields) => match self.take(1)? {
                [1] => self.fields(fields),
                [0xff] => Ok(()),
                _ => Err(self.bad_length()),
            },
            _ => self.scalar(&field.kind, nullable),
        }
    }

    /// An element of an array of primitives. Each text is a value of its own in memory, so it counts.
    fn element(&mut self, kind: &Kind) -> Result<(), GuardError> {
        if !matches!(kind, Kind::Fixed(_)) {
            self.count(1)?;
        }
        self.scalar(kind, false)
    }

    fn scalar(&mut self, kind: &Kind, nullable: bool) -> Result<(), GuardError> {
        let bytes = match kind {
            Kind::Fixed(bytes) => Some(usize::from(*bytes)),
            Kind::Text => self.text_length()?,
            _ => self.length(4)?,
        };
        match bytes {
            Some(bytes) => self.take(bytes).map(drop),
            None if nullable => Ok(()),
            None => Err(GuardError::Null { api: self.row.name, field: self.field }),
        }
    }

    fn array(
        &mut self,
        nullable: bool,
        min_size: usize,
        mut element: impl FnMut(&mut Self) -> Result<(), GuardError>,
    ) -> Result<(), GuardError> {
        let Some(count) = self.length(4)? else {
            let error = GuardError::Null { api: self.row.name, field: self.field };
            return if nullable { Ok(()) } else { Err(error) };
        };
        if count.saturating_mul(min_size) > self.rest.len() {
            return Err(self.truncated());
        }
        (0..count).try_for_each(|_| element(self))
    }

    /// The tag section of a struct: known tags must have exactly the size that they claim, others are skipped.
    fn tags(&mut self, fields: Fields) -> Result<(), GuardError> {
        self.field = "tagged fields";
        for _ in 0..self.varint()? {
            self.field = "tagged fields";
            let tag = self.varint()?;
            let size = usize::try_from(self.varint()?).map_err(|_| self.bad_length())?;
            let value = self.take(size)?;
            let known = fields.iter().find(|field| field.tag == Some(tag) && field.stands_in(self.version));
            let Some(known) = known else {
                self.count(UNKNOWN_TAG_ELEMENTS)?;
                continue;
            };
            let after = std::mem::replace(&mut self.rest, value);
            self.field(known)?;
            if !self.rest.is_empty() {
                return Err(self.bad_length());
            }
            self.rest = after;
        }
        Ok(())
    }

    /// Longer ones than an i16 can count are refused in every encoding, as in Kafka.
    fn text_length(&mut self) -> Result<Option<usize>, GuardError> {
        match self.length(2)? {
            Some(MAX_TEXT_BYTES..) => Err(self.bad_length()),
            length => Ok(length),
        }
    }

    /// A length or count: `width` bytes, or a varint of one more; `None` is null.
    fn length(&mut self, width: usize) -> Result<Option<usize>, GuardError> {
        let length = if self.flexible {
            i64::from(self.varint()?) - 1
        } else if width == 2 {
            let bytes = self.take(2)?;
            i64::from(i16::from_be_bytes([bytes[0], bytes[1]]))
        } else {
            let bytes = self.take(4)?;
            i64::from(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        match length {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| self.bad_length()),
        }
    }

    fn varint(&mut self) -> Result<u32, GuardError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?[0];
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.bad_length())
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], GuardError> {
        let Some((head, rest)) = self.rest.split_at_checked(bytes) else {
            return Err(self.truncated());
        };
        self.rest = rest;
        Ok(head)
    }

    fn count(&mut self, elements: usize) -> Result<(), GuardError> {
        self.elements += elements;
        if self.elements > MAX_ELEMENTS {
            return Err(GuardError::TooMany { api: self.row.name });
        }
        Ok(())
    }

    fn min_size(&self, kind: &Kind) -> usize {
        match kind {
            Kind::Fixed(bytes) => usize::from(*bytes),
            Kind::Struct(fields) => self.min_struct_size(fields),
            Kind::OptionStruct(_) => 1,
            _ if self.flexible => 1,
            Kind::Text => 2,
            _ => 4,
        }
    }

    fn min_struct_size(&self, fields: Fields) -> usize {
        let own = fields.iter().filter(|field| field.tag.is_none() && field.stands_in(self.version));
        own.map(|field| self.min_size(&field.kind)).sum::<usize>() + usize::from(self.flexible)
    }

    fn truncated(&self) -> GuardError {
        GuardError::Truncated { api: self.row.name, field: self.field }
    }

    fn bad_length(&self) -> GuardError {
        GuardError::BadLength { api: self.row.name, field: self.field }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_by_name() {
        let table: &[(i16, i16, &[u8], GuardError)] = &[
            (4, 0, &[], GuardError::NotServed { api_key: 4, version: 0 }),
            (0, 2, &[], GuardError::NotServed { api_key: 0, version: 2 }),
            (3, 14, &[], GuardError::NotServed { api_key: 3, version: 14 }),
            (3, 4, &[0x7f, 255, 255, 255], GuardError::Truncated { api: "Metadata", field: "topics" }),
            (3, 4, &[0xff, 255, 255, 254], GuardError::BadLength { api: "Metadata", field: "topics" }),
            (3, 0, &[0xff, 255, 255, 255], GuardError::Null { api: "Metadata", field: "topics" }),
            (3, 1, &[0, 0, 0, 1, 0xff, 255], GuardError::Null { api: "Metadata", field: "name" }),
            (
                16,
                3,
                &[0x80, 0x80, 0x80, 0x80, 0x10],
                GuardError::BadLength { api: "ListGroups", field: "tagged fields" },
            ),
            (16, 3, &[1, 0, 9], GuardError::Truncated { api: "ListGroups", field: "tagged fields" }),
        ];
        for (api_key, version, body, error) in table {
            assert_eq!(check(*api_key, *version, body), Err(error.clone()), "{api_key} {version} {body:?}");
        }
        assert_eq!(check(16, 3, &[1, 7, 2, 0, 0]), Ok(0));
        assert_eq!(check(3, 1, &[0xff, 255, 255, 255]), Ok(0));
        assert_eq!(check(3, 13, &[0, 0, 0, 0, 1, 0, 0]), Ok(3), "librdkafka 2.16 asking for all topics");
    }

    #[test]
    fn known_tags_must_have_the_size_that_they_claim() {
        let mut body = vec![0u8; 4 + 4 + 4 + 1 + 4 + 4];
        body.extend([1, 1, 1]);
        for (tags, good) in [
            (&[1u8, 1, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0][..], false),
            (&[1, 1, 13, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0], true),
            (&[1, 1, 14, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0], false),
        ] {
            let body = [body.as_slice(), tags].concat();
            assert_eq!(check(1, 15, &body).is_ok(), good, "{tags:?}");
        }
    }

    #[test]
    fn elements_are_limited() {
        let count = MAX_ELEMENTS + 1;
        let mut body = Vec::from(u32::try_from(count).unwrap_or(0).to_be_bytes());
        body.resize(4 + 2 * count, 0);
        assert_eq!(check(3, 0, &body), Err(GuardError::TooMany { api: "Metadata" }));
        body[..4].copy_from_slice(&u32::try_from(MAX_ELEMENTS).unwrap_or(0).to_be_bytes());
        body.truncate(4 + 2 * MAX_ELEMENTS);
        assert_eq!(check(3, 0, &body), Ok(0));
    }
}

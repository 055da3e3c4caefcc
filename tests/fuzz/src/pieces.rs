//! Inputs of several parts. A separator survives mutations better than lengths do.

/// Stands between the pieces of an input.
pub const SEPARATOR: [u8; 4] = [0xfa, 0xce, 0xfe, 0xed];

/// The pieces in order; an input without a separator is one piece.
pub fn split(data: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
        pieces.push(&rest[..at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    pieces.push(rest);
    pieces
}

/// The input that [`split`] takes apart.
pub fn join<T: AsRef<[u8]>>(pieces: &[T]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(&SEPARATOR);
        }
        out.extend_from_slice(piece.as_ref());
    }
    out
}

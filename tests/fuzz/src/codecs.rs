//! Compressed sections of any bytes, and any bytes compressed: `[codec] [level] bytes`.

use alluvium::wire::batch::BatchError;
use alluvium::wire::codec::{Codec, compress, decompress};

use crate::memory;

/// What a section may decompress to here.
const LIMIT: usize = 1 << 20;
/// State of the Rust codecs; a snappy block is made whole, at most 22 times its size. (The C libraries' memory is not counted; the
/// process's is limited.)
const STATE: usize = 4 << 20;

pub fn run(data: &[u8]) {
    let Some(([codec, level], bytes)) = data.split_first_chunk() else { return };
    let codec = Codec::ALL[usize::from(*codec) % Codec::ALL.len()];
    let level = (*level != 0).then(|| i32::from(level.cast_signed()));
    memory::within(2 * LIMIT + STATE + 64 * bytes.len(), || {
        match decompress(codec, bytes, LIMIT) {
            Ok(section) => assert!(section.len() <= LIMIT),
            Err(BatchError::TooLarge { limit }) => assert_eq!(limit, LIMIT),
            Err(_) => {}
        }
        let packed = compress(codec, level, bytes).expect("anything can be compressed");
        let back = decompress(codec, &packed, bytes.len());
        assert_eq!(back.as_deref().ok(), Some(bytes), "{codec:?} at {level:?}");
    });
}

//! Records of `__consumer_offsets`: `key | value`, or a subscription. What is understood is written and read back the same.

use alluvium::coord::CoordRecord;
use alluvium::coord::records::{Decoded, Record};
use alluvium::coord::subscription;
use bytes::Bytes;

use crate::{memory, pieces};

pub fn run(data: &[u8]) {
    memory::within(64 * data.len() + 16 * 1024, || {
        let _ = subscription::topics(data);
        let pieces = pieces::split(data);
        let value = pieces.get(1).map(|value| Bytes::copy_from_slice(value));
        let record = CoordRecord { key: Bytes::copy_from_slice(pieces[0]), value };
        if let Ok(Decoded::Known(known)) = Record::decode(&record) {
            assert_eq!(Record::decode(&known.encode()), Ok(Decoded::Known(known)));
        }
    });
}

//! What brokers say to each other: asks, as the broker's door reads them, and answers, as who asked does.

use alluvium::wire::link::{
    ANSWER_BYTES, ASK_BYTES, FRAME_MAX_BYTES, decode_answer, decode_ask, encode_answer, encode_ask,
};

use crate::memory;

/// The version of an answer.
const VERSION_AT: usize = 4;

pub fn run(data: &[u8]) {
    let (ask, answer) = memory::within(1024, || (decode_ask(data), decode_answer(data)));
    if let Ok((id, ask)) = ask {
        assert!(data.len() <= FRAME_MAX_BYTES);
        // What is known of any version stands in front, as in version 0, but for the client id.
        let again = encode_ask(id, ask);
        let body = &again[again.len() - ASK_BYTES..];
        assert!(data.windows(ASK_BYTES).any(|window| window == body));
        assert_eq!(decode_ask(&again[4..]), Ok((id, ask)));
    }
    if let Ok((id, answer)) = answer {
        assert!((ANSWER_BYTES..=FRAME_MAX_BYTES).contains(&data.len()));
        let again = encode_answer(id, &answer);
        assert_eq!(again[4..4 + VERSION_AT], data[..VERSION_AT]);
        assert_eq!(again[4 + VERSION_AT + 2..], data[VERSION_AT + 2..ANSWER_BYTES]);
        assert_eq!(decode_answer(&again[4..]), Ok((id, answer)));
    }
}

//! Asks of other brokers ([`crate::wire::link`]): no API of Kafka's, and ApiVersions does not tell of it.
//!
//! The answer is what this session knows of itself at that moment. Nothing in an ask is believed: its revision is a hint, see
//! [`crate::meta::Metadata::hint`]. A session that is fenced and does not know it yet answers, too; what it tells does not advance.

use super::Services;
use super::dispatch::Reply;
use crate::log::append::budget::Charge;
use crate::wire::link::{Answer, decode_ask, encode_answer};

pub fn answer(services: &Services, frame: &[u8]) -> Reply {
    let (correlation_id, ask) = match decode_ask(frame) {
        Ok(ask) => ask,
        Err(error) => return Reply::Close(error.to_string()),
    };
    services.meta.hint(ask.revision);
    let log = &services.log;
    let newest = log.proof.newest();
    let age = services.env.clock.boot().saturating_sub(newest.sent_at);
    let answer = Answer {
        session: log.session,
        committed: newest.number + 1,
        nonce: newest.nonce,
        age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        revision: services.meta.read(|image| image.revision),
    };
    Reply::Send(vec![encode_answer(correlation_id, &answer)], Charge::none())
}

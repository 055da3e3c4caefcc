//! Maps what the engine says to Kafka's error codes: the one place, without wildcards.

use kafka_protocol::error::ResponseError;

use crate::log::append::AppendError;
use crate::log::fetch::ReadError;
use crate::log::partition::AdmitError;
use crate::log::slot::Unavailable;

/// Kafka's code for "no error".
pub const NONE: i16 = 0;

pub fn of_unavailable(error: &Unavailable) -> ResponseError {
    match error {
        Unavailable::Parked | Unavailable::NotHeld => ResponseError::NotLeaderOrFollower,
        Unavailable::Damaged(_) => ResponseError::KafkaStorageError,
    }
}

pub fn of_append(error: &AppendError) -> ResponseError {
    match error {
        AppendError::Unavailable(unavailable) => of_unavailable(unavailable),
        AppendError::Refused(AdmitError::StaleProducerEpoch) => ResponseError::InvalidProducerEpoch,
        AppendError::Refused(AdmitError::OutOfOrderSequence) => ResponseError::OutOfOrderSequenceNumber,
        AppendError::Refused(AdmitError::TooEarly) | AppendError::Over(_) => ResponseError::NotLeaderOrFollower,
    }
}

pub fn of_read(error: &ReadError) -> ResponseError {
    match error {
        ReadError::Unavailable(unavailable) => of_unavailable(unavailable),
        ReadError::OutOfRange(_) => ResponseError::OffsetOutOfRange,
        ReadError::Store(_) | ReadError::Damaged { .. } => ResponseError::KafkaStorageError,
    }
}

/// As [`check_leader_epoch`], for ListOffsets and OffsetForLeaderEpoch, where only -1 asks for no check
/// (`RequestUtils.getLeaderEpoch`).
pub fn check_given_leader_epoch(requested: i32, current: i32) -> Result<(), ResponseError> {
    match requested {
        ..-1 => Err(ResponseError::FencedLeaderEpoch),
        _ => check_leader_epoch(requested, current),
    }
}

/// Checks the leader epoch that a client believes in (KIP-320): a negative one asks for no check.
pub fn check_leader_epoch(requested: i32, current: i32) -> Result<(), ResponseError> {
    match requested {
        ..0 => Ok(()),
        older if older < current => Err(ResponseError::FencedLeaderEpoch),
        newer if newer > current => Err(ResponseError::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leader_epochs() {
        let (fenced, unknown) = (Err(ResponseError::FencedLeaderEpoch), Err(ResponseError::UnknownLeaderEpoch));
        for (requested, of_a_fetch, of_a_look_up) in [
            (-7, Ok(()), fenced),
            (-1, Ok(()), Ok(())),
            (3, fenced, fenced),
            (4, Ok(()), Ok(())),
            (5, unknown, unknown),
        ] {
            assert_eq!(check_leader_epoch(requested, 4), of_a_fetch, "{requested}");
            assert_eq!(check_given_leader_epoch(requested, 4), of_a_look_up, "{requested}");
        }
    }
}

//! Why a coordinator says no, in Kafka's words. The numbers are Kafka's error codes (`org.apache.kafka.common.protocol.Errors`).

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    #[error("the offset's metadata is too large")]
    OffsetMetadataTooLarge,
    #[error("the coordinator is loading")]
    LoadInProgress,
    #[error("the coordinator is not available")]
    NotAvailable,
    #[error("not the coordinator of this group")]
    NotCoordinator,
    #[error("the generation is not the group's")]
    IllegalGeneration,
    #[error("the protocol does not fit the group's")]
    InconsistentProtocol,
    #[error("the group id is not valid")]
    InvalidGroupId,
    #[error("the group has no such member")]
    UnknownMember,
    #[error("the session timeout is out of range")]
    InvalidSessionTimeout,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("the group has members")]
    NonEmpty,
    #[error("there is no such group")]
    GroupNotFound,
    #[error("the member is to join again with the id it was given")]
    MemberIdRequired,
    #[error("the group is full")]
    MaxSizeReached,
    #[error("another member uses the instance id")]
    FencedInstance,
    #[error("the group is subscribed to the topic")]
    Subscribed,
    #[error("the group is too large to be stored")]
    TooLarge,
}

impl GroupError {
    /// Kafka's error code.
    pub fn code(self) -> i16 {
        match self {
            // Kafka answers a record that is too large with UNKNOWN_SERVER_ERROR.
            GroupError::TooLarge => -1,
            GroupError::OffsetMetadataTooLarge => 12,
            GroupError::LoadInProgress => 14,
            GroupError::NotAvailable => 15,
            GroupError::NotCoordinator => 16,
            GroupError::IllegalGeneration => 22,
            GroupError::InconsistentProtocol => 23,
            GroupError::InvalidGroupId => 24,
            GroupError::UnknownMember => 25,
            GroupError::InvalidSessionTimeout => 26,
            GroupError::RebalanceInProgress => 27,
            GroupError::NonEmpty => 68,
            GroupError::GroupNotFound => 69,
            GroupError::MemberIdRequired => 79,
            GroupError::MaxSizeReached => 81,
            GroupError::FencedInstance => 82,
            GroupError::Subscribed => 86,
        }
    }
}

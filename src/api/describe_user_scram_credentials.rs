//! DescribeUserScramCredentials (50), v0: nobody has credentials, since nobody authenticates. All users: none. A user by name:
//! RESOURCE_NOT_FOUND, named twice DUPLICATE_RESOURCE (`ScramPublisher`, `ScramImage.describe`).

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use kafka_protocol::messages::{DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse};
use kafka_protocol::protocol::StrBytes;

pub fn handle(request: DescribeUserScramCredentialsRequest) -> DescribeUserScramCredentialsResponse {
    let mut users: BTreeMap<StrBytes, usize> = BTreeMap::new();
    for user in request.users.unwrap_or_default() {
        *users.entry(user.name).or_default() += 1;
    }
    let results = users.into_iter().map(|(user, times)| {
        let (error, message) = if times > 1 {
            (
                ResponseError::DuplicateResource,
                format!(
                    "Cannot describe SCRAM credentials for the same user twice in a single request: {}",
                    user.as_str()
                ),
            )
        } else {
            (
                ResponseError::ResourceNotFound,
                format!("Attempt to describe a user credential that does not exist: {}", user.as_str()),
            )
        };
        DescribeUserScramCredentialsResult::default()
            .with_user(user)
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_string(message)))
    });
    DescribeUserScramCredentialsResponse::default()
        .with_error_message(Some(StrBytes::new()))
        .with_results(results.collect())
}

//! What a broker without security says of it, as Kafka does: the differential test compares the same and more.

use bytes::BytesMut;
use kafka_protocol::messages as m;
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::refusal::{string, topic_name};
use super::testing::{at_version, one_broker};
use super::*;

fn writes(response: &impl Encodable, version: i16) {
    let mut bytes = BytesMut::new();
    response.encode(&mut bytes, version).unwrap_or_else(|error| panic!("version {version}: {error}"));
}

#[test]
fn acls_are_disabled() {
    let describe = |kind| {
        m::DescribeAclsRequest::default()
            .with_resource_type_filter(kind)
            .with_pattern_type_filter(1)
            .with_operation(1)
            .with_permission_type(1)
    };
    let rule = |kind| {
        m::create_acls_request::AclCreation::default()
            .with_resource_type(kind)
            .with_resource_pattern_type(3)
            .with_operation(3)
            .with_permission_type(3)
    };
    let filter = |kind| {
        m::delete_acls_request::DeleteAclsFilter::default()
            .with_resource_type_filter(kind)
            .with_pattern_type_filter(3)
            .with_operation(1)
            .with_permission_type(1)
    };
    for version in 1..=3 {
        let response = describe_acls::handle(&describe(1)).expect("known");
        assert_eq!(response.error_code, 54);
        assert_eq!(response.error_message.as_deref(), Some("No Authorizer is configured on the broker"));
        writes(&response, version);
        let request = m::CreateAclsRequest::default().with_creations(vec![rule(2), rule(3)]);
        let response = create_acls::handle(&request).expect("known");
        assert_eq!(response.results.iter().map(|row| row.error_code).collect::<Vec<_>>(), [54, 54]);
        assert_eq!(response.results[0].error_message.as_deref(), Some("No Authorizer is configured."));
        writes(&response, version);
        let request = m::DeleteAclsRequest::default().with_filters(vec![filter(2)]);
        let response = delete_acls::handle(&request).expect("known");
        assert_eq!(response.filter_results.iter().map(|row| row.error_code).collect::<Vec<_>>(), [54]);
        writes(&response, version);
    }
    assert!(describe_acls::handle(&describe(0)).is_none());
    let unknown = m::CreateAclsRequest::default().with_creations(vec![rule(2), rule(0)]);
    assert!(create_acls::handle(&unknown).is_none());
    assert!(delete_acls::handle(&m::DeleteAclsRequest::default().with_filters(vec![filter(0)])).is_none());
}

#[test]
fn nobody_logs_in_here() {
    for version in 0..=1 {
        let response = sasl_handshake::handle();
        assert_eq!((response.error_code, response.mechanisms.len()), (34, 0));
        writes(&response, version);
    }
    for version in 0..=2 {
        let response = sasl_authenticate::handle();
        assert_eq!((response.error_code, response.error_message.is_some()), (34, true));
        writes(&response, version);
    }
    for version in 1..=3 {
        let owned = m::CreateDelegationTokenRequest::default()
            .with_owner_principal_type(Some(string("Group")))
            .with_owner_principal_name(Some(string("someone")));
        for (request, owner) in [(owned, "someone"), (m::CreateDelegationTokenRequest::default(), "ANONYMOUS")] {
            let response = create_delegation_token::handle(version, request);
            assert_eq!((response.error_code, response.principal_name.as_str()), (64, owner));
            let requester = if version < 3 { "" } else { "ANONYMOUS" };
            assert_eq!(response.token_requester_principal_name.as_str(), requester, "version {version}");
            writes(&response, version);
        }
        let response = describe_delegation_token::handle();
        assert_eq!(response.error_code, 64);
        writes(&response, version);
    }
    for version in 1..=2 {
        let (renewed, expired) = (renew_delegation_token::handle(), expire_delegation_token::handle());
        assert_eq!((renewed.error_code, renewed.expiry_timestamp_ms), (64, -1));
        assert_eq!((expired.error_code, expired.expiry_timestamp_ms), (64, -1));
        writes(&renewed, version);
        writes(&expired, version);
    }
    let user = |name| m::describe_user_scram_credentials_request::UserName::default().with_name(string(name));
    let request =
        m::DescribeUserScramCredentialsRequest::default().with_users(Some(vec![user("b"), user("a"), user("b")]));
    let response = describe_user_scram_credentials::handle(request);
    let rows: Vec<_> = response.results.iter().map(|row| (row.user.as_str(), row.error_code)).collect();
    assert_eq!(rows, [("a", 91), ("b", 92)]);
    writes(&response, 0);
    let all = m::DescribeUserScramCredentialsRequest::default().with_users(None);
    assert!(describe_user_scram_credentials::handle(all).results.is_empty());
}

#[test]
fn filters_of_quotas() {
    let of = |kind: &str, match_type: i8, name: Option<&str>| {
        m::describe_client_quotas_request::ComponentData::default()
            .with_entity_type(string(kind))
            .with_match_type(match_type)
            .with_match(name.map(string))
    };
    let x = Some("x");
    let table = [
        (vec![], 0),
        (vec![of("user", 0, x)], 0),
        (vec![of("user", 1, None), of("client-id", 2, None)], 0),
        (vec![of("ip", 2, None)], 0),
        (vec![of("user", 0, None)], 42),
        (vec![of("user", 1, x)], 42),
        (vec![of("user", 2, x)], 42),
        (vec![of("user", 3, None)], 42),
        (vec![of("", 0, x)], 42),
        (vec![of("group", 0, x)], 35),
        (vec![of("user", 0, x), of("user", 2, None)], 42),
        (vec![of("ip", 0, x), of("client-id", 2, None)], 42),
    ];
    for (components, code) in table {
        let request = m::DescribeClientQuotasRequest::default().with_components(components.clone());
        let response = describe_client_quotas::handle(&request);
        assert_eq!((response.error_code, response.entries.is_some()), (code, code == 0), "{components:?}");
        assert_eq!(response.error_message == Some(StrBytes::new()), code == 0);
        writes(&response, 0);
        writes(&response, 1);
    }
}

#[tokio::test]
async fn one_broker_with_one_directory() {
    let services = one_broker().await;
    let topic = m::create_topics_request::CreatableTopic::default()
        .with_name(topic_name("t1"))
        .with_num_partitions(2)
        .with_replication_factor(1);
    let request = m::CreateTopicsRequest::default().with_topics(vec![topic]);
    create_topics::handle(&services, &at_version(7), request).await;
    for (id, code) in [(1, 42), (99, 102), (-1, 102)] {
        let request = m::UnregisterBrokerRequest::default().with_broker_id(m::BrokerId(id));
        let response = unregister_broker::handle(&services, &request);
        assert_eq!(response.error_code, code, "broker {id}");
        writes(&response, 0);
    }
    let dir = |path: &str, topic: &str, partitions: Vec<i32>| {
        let topic = m::alter_replica_log_dirs_request::AlterReplicaLogDirTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions);
        m::alter_replica_log_dirs_request::AlterReplicaLogDir::default()
            .with_path(string(path))
            .with_topics(vec![topic])
    };
    let long = "x".repeat(214);
    let dirs = vec![
        dir("memory:", &long, vec![0]),
        dir("memory:", &long[1..], vec![0]),
        dir("memory:", "t1", vec![0, 1, 7]),
        dir("/elsewhere", "t1", vec![1]),
        dir("memory:", "t2", vec![0]),
    ];
    let request = m::AlterReplicaLogDirsRequest::default().with_dirs(dirs);
    let response = alter_replica_log_dirs::handle(&services, &request);
    let rows = response.results.iter().flat_map(|topic| {
        topic.partitions.iter().map(|row| (topic.topic_name.as_str(), row.partition_index, row.error_code))
    });
    assert_eq!(
        rows.collect::<Vec<_>>(),
        [("t1", 0, 0), ("t1", 1, 57), ("t1", 7, 3), ("t2", 0, 3), (&long[1..], 0, 3), (&long[..], 0, 17)]
    );
    writes(&response, 1);
    writes(&response, 2);
}

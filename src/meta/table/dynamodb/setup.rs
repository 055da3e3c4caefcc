//! The DynamoDB table itself: found, made, or named as what is missing.

use std::time::Duration;

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableDescription, TableStatus,
};

use super::{CLUSTER, Dynamodb, REVISION};
use crate::meta::table::TableError;

/// A new table is looked at so often until it can be used.
const ACTIVE_ROUNDS: usize = 120;
const ACTIVE_PAUSE: Duration = Duration::from_millis(500);

/// Whether the table serves reads and writes. It does while it is UPDATING, which a change of its capacity mode takes minutes to hours for.
fn is_usable(status: Option<&TableStatus>) -> bool {
    matches!(status, Some(TableStatus::Active | TableStatus::Updating))
}

impl Dynamodb {
    /// Makes sure that the table is there and has the right keys. `create`: make it (pay per request) if it is not.
    ///
    /// # Errors
    /// What is missing, with the command that makes it.
    pub async fn prepare(&self, create: bool) -> Result<(), TableError> {
        for round in 0..ACTIVE_ROUNDS {
            match self.describe().await? {
                Some(table) if is_usable(table.table_status.as_ref()) => return self.check_keys(&table),
                Some(_) => {}
                None if round == 0 && create => self.create().await?,
                None if round == 0 => {
                    let reason = "it is not there, and the cluster's metadata is in it: look for another region, account or endpoint";
                    return Err(TableError::Permanent(format!(
                        "DynamoDB table {} in {}: {reason}",
                        self.table, self.region
                    )));
                }
                None => {}
            }
            tokio::time::sleep(ACTIVE_PAUSE).await;
        }
        Err(TableError::Unavailable(format!("DynamoDB table {}: it does not become active", self.table)))
    }

    async fn describe(&self) -> Result<Option<TableDescription>, TableError> {
        match self.client.describe_table().table_name(&self.table).send().await {
            Ok(answer) => Ok(answer.table),
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(None),
            Err(error) => Err(self.refusal(&error)),
        }
    }

    async fn create(&self) -> Result<(), TableError> {
        let wrong = |error: aws_sdk_dynamodb::error::BuildError| TableError::Permanent(error.to_string());
        let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
        let attribute =
            |name: &str, kind| AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build();
        let created = self
            .client
            .create_table()
            .table_name(&self.table)
            .key_schema(key(CLUSTER, KeyType::Hash).map_err(wrong)?)
            .key_schema(key(REVISION, KeyType::Range).map_err(wrong)?)
            .attribute_definitions(attribute(CLUSTER, ScalarAttributeType::S).map_err(wrong)?)
            .attribute_definitions(attribute(REVISION, ScalarAttributeType::N).map_err(wrong)?)
            .billing_mode(BillingMode::PayPerRequest)
            .send()
            .await;
        match created {
            Ok(_) => {
                tracing::info!(table = self.table, region = self.region, "created the DynamoDB table of the metadata");
                Ok(())
            }
            // Another broker was first.
            Err(error) if error.code() == Some("ResourceInUseException") => Ok(()),
            Err(error) if error.code() == Some("AccessDeniedException") => {
                Err(self.missing("it is not there, and these credentials may not make it (dynamodb:CreateTable)"))
            }
            Err(error) => Err(self.refusal(&error)),
        }
    }

    fn check_keys(&self, table: &TableDescription) -> Result<(), TableError> {
        let keys: Vec<(&str, &KeyType)> =
            table.key_schema().iter().map(|key| (key.attribute_name(), key.key_type())).collect();
        let kinds: Vec<(&str, &ScalarAttributeType)> =
            table.attribute_definitions().iter().map(|each| (each.attribute_name(), each.attribute_type())).collect();
        let fits = keys == [(CLUSTER, &KeyType::Hash), (REVISION, &KeyType::Range)]
            && kinds.contains(&(CLUSTER, &ScalarAttributeType::S))
            && kinds.contains(&(REVISION, &ScalarAttributeType::N));
        if fits { Ok(()) } else { Err(self.missing("it is there, but with other keys")) }
    }

    fn missing(&self, what: &str) -> TableError {
        let Dynamodb { table, region, .. } = self;
        TableError::Permanent(format!(
            "DynamoDB table {table} in {region}: {what}. Make it with: aws dynamodb create-table --region {region} --table-name {table} \
             --billing-mode PAY_PER_REQUEST --attribute-definitions AttributeName={CLUSTER},AttributeType=S \
             AttributeName={REVISION},AttributeType=N --key-schema AttributeName={CLUSTER},KeyType=HASH AttributeName={REVISION},KeyType=RANGE"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_updated_is_usable() {
        for (status, usable) in [
            ("ACTIVE", true),
            ("UPDATING", true),
            ("CREATING", false),
            ("DELETING", false),
            ("ARCHIVING", false),
            ("ARCHIVED", false),
            ("INACCESSIBLE_ENCRYPTION_CREDENTIALS", false),
            ("SOMETHING_NEW", false),
        ] {
            assert_eq!(is_usable(Some(&TableStatus::from(status))), usable, "{status}");
        }
        assert!(!is_usable(None));
    }
}

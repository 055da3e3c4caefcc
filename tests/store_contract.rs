//! What every store must do, on every store there is: memory, a local folder, MinIO, LocalStack.
//!
//! S3 servers are named by `ALLUVIUM_TEST_S3_MINIO` and `ALLUVIUM_TEST_S3_LOCALSTACK` (`http://127.0.0.1:PORT`, with a bucket
//! `alluvium-test` and credentials in the AWS variables). Without them these tests say so and pass, but fail where `CI=true`.

#[path = "store_contract/backends.rs"]
mod backends;
#[path = "store_contract/create_once.rs"]
mod create_once;
#[path = "store_contract/figures.rs"]
mod figures;
#[path = "store_contract/local.rs"]
mod local;
#[path = "store_contract/probe.rs"]
mod probe;
#[path = "store_contract/races.rs"]
mod races;
#[path = "store_contract/s3_answers.rs"]
mod s3_answers;
#[path = "store_contract/semantics.rs"]
mod semantics;
#[path = "store_contract/small_disk.rs"]
mod small_disk;

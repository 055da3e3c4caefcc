# Versions of everything that the tests install. One place, so that an update is one line.

KAFKA_VERSION=4.3.1
KAFKA_ARTIFACTS="kafka_2.13 kafka-tools kafka-clients connect-runtime connect-file connect-mirror kafka-streams"
MINIO_VERSION=v0.0.0-20260212201848-7aac2a2c5b7c
LOCALSTACK_VERSION=2026.3.0
LOCALSTACK_PYTHON_VERSION=3.13
# LocalStack leaves its own dependencies open; this date closes them.
LOCALSTACK_DEPENDENCIES_UNTIL=2026-04-01
# Amazon's own licence: for tests only, never shipped.
DYNAMODB_VERSION=3.1.0
UV_VERSION=0.13.8
# Debian keeps one version of each per release, with its security fixes; a change of this line installs anew. The libraries are
# those that a plain Debian lacks.
DEBIAN_PACKAGES="kcat librdkafka1 libyajl2 rsyslog rsyslog-kafka libestr0 libfastjson4 liblognorm5"
POSTGRES_PACKAGES="postgresql-15 postgresql-client-15 libpq5 libxml2 libicu72 libldap-2.5-0 libsasl2-2 libgssapi-krb5-2 libkrb5-3 libk5crypto3 libkrb5support0 libkeyutils1 liblz4-1"

# The bucket and the credentials that every test server is given.
TEST_BUCKET=alluvium-test
TEST_ACCESS_KEY=alluvium
TEST_SECRET_KEY=alluvium-secret
TEST_REGION=us-east-1

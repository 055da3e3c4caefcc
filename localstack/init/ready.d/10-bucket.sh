#!/bin/sh
# Makes the bucket that the broker uses. LocalStack runs this when it is ready; tests/run runs the same file against MinIO.
# Making a bucket that is there already is fine. ALLUVIUM_BUCKET and AWS_ENDPOINT_URL override what it makes and where.
set -eu

bucket=${ALLUVIUM_BUCKET:-alluvium}
region=${AWS_REGION:-us-east-1}

# LocalStack names its own addresses in GATEWAY_LISTEN, "0.0.0.0:4566,0.0.0.0:443" in the container.
gateway=${GATEWAY_LISTEN:-0.0.0.0:4566}
gateway=${gateway%%,*}
case $gateway in
*:*) ;;
*) gateway=$gateway:4566 ;;
esac
case $gateway in
0.0.0.0:*) gateway=127.0.0.1:${gateway##*:} ;;
esac
endpoint=${AWS_ENDPOINT_URL:-http://$gateway}

if command -v curl >/dev/null; then
    status=$(curl -sS -m 30 -o /dev/null -w '%{http_code}' -X PUT --aws-sigv4 "aws:amz:$region:s3" \
        --user "${AWS_ACCESS_KEY_ID:-test}:${AWS_SECRET_ACCESS_KEY:-test}" "$endpoint/$bucket")
    case $status in
    200 | 409) ;;
    *) echo "making bucket $bucket at $endpoint: HTTP $status" >&2; exit 1 ;;
    esac
else
    awslocal s3api head-bucket --bucket "$bucket" 2>/dev/null || awslocal s3api create-bucket --bucket "$bucket"
fi
echo "bucket $bucket is ready at $endpoint"

# Servers that the suites talk to. All listen on loopback, on ports that were free a moment ago, with their data in
# $WORK, which goes away at the end. Each `start_x` returns only when x answers, and leaves its log in $LOGS.

export TEST_ACCESS_KEY TEST_SECRET_KEY
export AWS_ACCESS_KEY_ID=$TEST_ACCESS_KEY AWS_SECRET_ACCESS_KEY=$TEST_SECRET_KEY AWS_REGION=$TEST_REGION

kafka_answers() {
  java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$KAFKA_LIBS/*" org.apache.kafka.tools.ClusterTool cluster-id \
    --bootstrap-server "$1"
}

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# start_kafka [NAME]: Apache Kafka, one KRaft node in both roles. Sets KAFKA_BOOTSTRAP and KAFKA_PID. With KAFKA_IN_MEMORY its
# data is in memory where there is a file system for that: a compiler that fills the disk's queue must not hold the oracle up.
start_kafka() {
  local port controller name=${1:-kafka} dir
  dir=$(kafka_folder)/$name
  read -r port controller <<<"$(free_ports 2)"
  rm -rf "$dir" && mkdir -p "$dir" || return 1
  cat >"$dir/server.properties" <<CONFIG
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$dir/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
CONFIG
  java -XX:TieredStopAtLevel=1 -cp "$KAFKA_LIBS/*" kafka.tools.StorageTool format -t 4L6g3nShT-eMCtK--X86sw \
    -c "$dir/server.properties" >"$LOGS/server-$name.log" 2>&1 || return 1
  java "-Xms${KAFKA_HEAP:-512m}" "-Xmx${KAFKA_HEAP:-512m}" -XX:+UseG1GC -cp "$KAFKA_LIBS/*" kafka.Kafka "$dir/server.properties" >>"$LOGS/server-$name.log" 2>&1 &
  KAFKA_PID=$!
  track "$KAFKA_PID"
  KAFKA_BOOTSTRAP=127.0.0.1:$port
  wait_until 60 "$KAFKA_PID" port_open "$port" && wait_until 60 "$KAFKA_PID" kafka_answers "$KAFKA_BOOTSTRAP"
}

# The folder of all Kafkas of this shell; it is removed with $WORK.
kafka_folder() {
  local memory=/dev/shm/alluvium-tests.$(basename "$WORK")
  [[ ${KAFKA_IN_MEMORY:-} && -w /dev/shm ]] && (($(df --output=avail -k /dev/shm | tail -n 1) > 4 << 20)) && mkdir -p "$memory" && echo "$memory" && return
  echo "$WORK"
}

# A second Apache Kafka beside the target, once per run, for suites that need two clusters. Sets PEER_BOOTSTRAP.
need_peer() {
  [[ -n ${PEER_BOOTSTRAP:-} ]] && return
  local pid=${KAFKA_PID:-} bootstrap=${KAFKA_BOOTSTRAP:-}
  need kafka && start_kafka peer && export PEER_BOOTSTRAP=$KAFKA_BOOTSTRAP || return 1
  KAFKA_PID=$pid KAFKA_BOOTSTRAP=$bootstrap
}

# The very hook that LocalStack's container runs; it makes the bucket on any S3 server.
make_bucket() {
  AWS_ENDPOINT_URL=$1 ALLUVIUM_BUCKET=$TEST_BUCKET sh "$ROOT/localstack/init/ready.d/10-bucket.sh"
}

# MinIO, once per run. Sets MINIO_ENDPOINT.
start_minio() {
  [[ -n ${MINIO_ENDPOINT:-} ]] && return
  local port console pid
  read -r port console <<<"$(free_ports 2)"
  mkdir -p "$WORK/minio"
  MINIO_ROOT_USER=$TEST_ACCESS_KEY MINIO_ROOT_PASSWORD=$TEST_SECRET_KEY MINIO_REGION=$TEST_REGION \
    "$CACHE/bin/minio" server --address "127.0.0.1:$port" --console-address "127.0.0.1:$console" --quiet "$WORK/minio" \
    >"$LOGS/server-minio.log" 2>&1 &
  pid=$!
  track "$pid"
  wait_until 30 "$pid" http_ok "http://127.0.0.1:$port/minio/health/ready" && wait_until 30 "$pid" make_bucket "http://127.0.0.1:$port" || return 1
  MINIO_ENDPOINT=http://127.0.0.1:$port
}

# LocalStack's S3, once per run; it runs localstack/init itself, as its container does. Sets LOCALSTACK_ENDPOINT.
start_localstack() {
  [[ -n ${LOCALSTACK_ENDPOINT:-} ]] && return
  local port pid root=$WORK/localstack
  port=$(free_ports 1)
  mkdir -p "$root/etc/localstack"
  ln -sfn "$ROOT/localstack/init" "$root/etc/localstack/init"
  env PATH="$CACHE/localstack/bin:$PATH" OVERRIDE_IN_DOCKER=0 FILESYSTEM_ROOT="$root" GATEWAY_LISTEN="127.0.0.1:$port" \
    SERVICES=s3 STRICT_SERVICE_LOADING=1 EAGER_SERVICE_LOADING=1 DISABLE_EVENTS=1 SKIP_SSL_CERT_DOWNLOAD=1 DNS_ADDRESS=0 LS_LOG=warning \
    ALLUVIUM_BUCKET="$TEST_BUCKET" "$CACHE/localstack/bin/python" -m localstack.runtime.main \
    >"$LOGS/server-localstack.log" 2>&1 &
  pid=$!
  track "$pid"
  wait_until 60 "$pid" http_ok "http://127.0.0.1:$port/_localstack/health" &&
    wait_until 30 "$pid" hooks_done "http://127.0.0.1:$port" || return 1
  curl -fsS "http://127.0.0.1:$port/_localstack/init/ready" | grep -q '"state": *"SUCCESSFUL"' ||
    { echo "localstack/init/ready.d/10-bucket.sh failed, see $LOGS/server-localstack.log"; return 1; }
  LOCALSTACK_ENDPOINT=http://127.0.0.1:$port
}

hooks_done() { curl -fsS -m 2 "$1/_localstack/init/ready" | grep -q '"completed": *true'; }

# DynamoDB Local, once per run. Sets DYNAMODB_ENDPOINT.
start_dynamodb() {
  [[ -n ${DYNAMODB_ENDPOINT:-} ]] && return
  local port pid
  port=$(free_ports 1)
  "$ROOT/tests/lib/serve" dynamodb "$port" "$WORK/dynamodb" >"$LOGS/server-dynamodb.log" 2>&1 &
  pid=$!
  track "$pid"
  wait_until 60 "$pid" port_open "$port" || return 1
  DYNAMODB_ENDPOINT=http://127.0.0.1:$port
}

# PostgreSQL, once per run. Its folder must be one that others than root can reach. Sets POSTGRES_URL.
start_postgres() {
  [[ -n ${POSTGRES_URL:-} ]] && return
  local port pid
  port=$(free_ports 1)
  mkdir -p "$(postgres_folder)"
  "$ROOT/tests/lib/serve" postgres "$port" "$(postgres_folder)" >"$LOGS/server-postgres.log" 2>&1 &
  pid=$!
  track "$pid"
  wait_until 60 "$pid" port_open "$port" || return 1
  POSTGRES_URL=postgres://$TEST_ACCESS_KEY:$TEST_SECRET_KEY@127.0.0.1:$port/postgres
}

# The folder of this shell's PostgreSQL; it is removed with $WORK.
postgres_folder() { echo "/tmp/alluvium-postgres.$(basename "$WORK")"; }

# broker_command local|minio|localstack[+dynamodb|+postgres] NAME PORT ADMIN_PORT: prints the command line of a broker whose data is NAME's own
# on that store. This is the only place that knows how the broker is started.
broker_command() {
  local store variable environment=(env) settings=()
  # The broker refuses ALLUVIUM_ variables that are no settings, and settings of the user have no place in a test.
  for variable in "${!ALLUVIUM_@}"; do environment+=(-u "$variable"); done
  case $1 in
  *+dynamodb) start_dynamodb >&2 && settings+=(--metadata dynamodb://alluvium-test --dynamodb-endpoint "$DYNAMODB_ENDPOINT") || return 1 ;;
  *+postgres) start_postgres >&2 && settings+=(--metadata "${POSTGRES_URL/:$TEST_SECRET_KEY@/@}") && environment+=("PGPASSWORD=$TEST_SECRET_KEY") || return 1 ;;
  esac
  case ${1%+*} in
  local) mkdir -p "$WORK/$2" && store=file://$WORK/$2 ;;
  minio) start_minio >&2 && store=s3://$TEST_BUCKET/$2-$$ && environment+=("AWS_ENDPOINT_URL=$MINIO_ENDPOINT") || return 1 ;;
  localstack)
    start_localstack >&2 && store=s3://$TEST_BUCKET/$2-$$ && environment+=("AWS_ENDPOINT_URL=$LOCALSTACK_ENDPOINT") || return 1
    ;;
  *) echo "no such store: $1" >&2; return 1 ;;
  esac
  printf '%q ' "${environment[@]}" "$ALLUVIUM_BIN" serve --listen "127.0.0.1:$3" --admin "127.0.0.1:$4" --store "$store" "${settings[@]}" \
    --set group.initial.rebalance.delay.ms=0
}

# start_alluvium local|minio|localstack[+dynamodb|+postgres]: a fresh broker on that store. Sets ALLUVIUM_BOOTSTRAP and ALLUVIUM_PID.
start_alluvium() {
  local port admin command log=$LOGS/server-alluvium-$1.log
  # The store is started here, for broker_command runs in a subshell that could not remember it.
  [[ ${1%+*} == local ]] || "start_${1%+*}" || return 1
  [[ $1 != *+* ]] || "start_${1#*+}" || return 1
  read -r port admin <<<"$(free_ports 2)"
  command=$(broker_command "$1" "clients-${1/+/-}" "$port" "$admin") || return 1
  echo "$command" >"$log"
  eval "exec $command" >>"$log" 2>&1 &
  ALLUVIUM_PID=$!
  track "$ALLUVIUM_PID"
  ALLUVIUM_BOOTSTRAP=127.0.0.1:$port
  wait_until 30 "$ALLUVIUM_PID" http_ok "http://127.0.0.1:$admin/readyz" || { tail -n 20 "$log"; return 1; }
}

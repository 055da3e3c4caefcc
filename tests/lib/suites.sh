# How one suite runs and how its result is counted. A suite is a row (see tests/run):
#   name | a path that must exist | prerequisites | command
# The command's output goes to its own log; its checks are counted there: cargo's "test result:" lines, and lines
# "ok NAME" and "FAIL NAME: reason". A command that fails, or that runs no check at all, is a failure by itself.

PASSED=0 FAILED=0 SUMMARY=()

# record STATUS NAME PASSED FAILED SECONDS NOTE
record() {
  PASSED=$((PASSED + $3)) FAILED=$((FAILED + $4))
  SUMMARY+=("$(printf '%-8s %-28s %5d passed %4d failed %5d s  %s' "$1" "$2" "$3" "$4" "$5" "${6:-}")")
  printf '%s\n' "${SUMMARY[-1]}"
}

# count_checks LOG: prints "passed failed".
count_checks() {
  awk '
    /^test result: / { for (i = 1; i < NF; i++) { if ($(i + 1) ~ /^passed/) ok += $i; if ($(i + 1) ~ /^failed/) bad += $i } }
    /^[0-9]+ passed, [0-9]+ failed$/ { ok += $1; bad += $3 }
    /^ok [^[:space:]]/ { ok++ }
    /^FAIL [^[:space:]]/ { bad++ }
    END { print ok + 0, bad + 0 }' "$1"
}

# run_suite NAME PATH PREREQUISITES COMMAND…
run_suite() {
  local name=$1 path=$2 needs=$3 log=$LOGS/${1//\//-}.log begin=$SECONDS passed failed code=0 need
  shift 3
  : >"$log"
  if [[ ! -e $ROOT/$path ]]; then
    record FAILED "$name" 0 1 0 "missing: $path"
    return
  fi
  for need in ${needs//,/ }; do
    if ! need "$need" >>"$log" 2>&1; then
      tail -n 5 "$log"
      if [[ ${CI:-} == true ]]; then
        record FAILED "$name" 0 1 $((SECONDS - begin)) "prerequisite $need, see above"
      else
        record skipped "$name" 0 0 $((SECONDS - begin)) "prerequisite $need, see above"
      fi
      return
    fi
  done
  if ((${#ARGUMENTS[@]} > 0)); then
    "$@" 2>&1 | tee -a "$log" || code=$?
  else
    "$@" >>"$log" 2>&1 || code=$?
  fi
  read -r passed failed <<<"$(count_checks "$log")"
  if ((code != 0 && failed == 0)); then
    echo "FAIL $name: the command ended with code $code" >>"$log"
    failed=1
  elif ((code == 0 && failed == 0 && passed == 0)); then
    echo "FAIL $name: no check ran" >>"$log"
    failed=1
  fi
  if ((failed == 0)); then
    record ok "$name" "$passed" 0 $((SECONDS - begin))
  else
    grep '^FAIL ' "$log"
    echo "--- the end of $log"
    grep -v "^ok " "$log" | tail -n 40 | cut -c1-400
    echo "---"
    record FAILED "$name" "$passed" "$failed" $((SECONDS - begin)) "$log"
  fi
}

cargo_tests() { cargo test --locked --no-fail-fast "$@"; }

lint() {
  cargo fmt --check && echo "ok formatting" &&
    cargo clippy --locked --all-targets -- -D warnings && echo "ok clippy"
}

unit_tests() { cargo_tests --lib && cargo_tests --doc; }

# All integration tests that have no row of their own.
broker_tests() {
  local file arguments=()
  for file in tests/*.rs; do
    case $file in
    tests/architecture.rs | tests/store_contract.rs | tests/meta.rs | tests/upgrade.rs) ;;
    *) arguments+=(--test "$(basename "$file" .rs)") ;;
    esac
  done
  for file in tests/*/main.rs; do
    arguments+=(--test "$(basename "$(dirname "$file")")")
  done
  cargo_tests "${arguments[@]}"
}

# The bucket alluvium-test is made when a server starts.
store_tests() {
  start_minio && start_localstack && start_dynamodb && start_postgres &&
    ALLUVIUM_TEST_S3_MINIO=$MINIO_ENDPOINT ALLUVIUM_TEST_S3_LOCALSTACK=$LOCALSTACK_ENDPOINT \
      ALLUVIUM_TEST_DYNAMODB=$DYNAMODB_ENDPOINT ALLUVIUM_TEST_POSTGRES=$POSTGRES_URL ALLUVIUM_TEST_SERVE=$ROOT/tests/lib/serve \
      cargo_tests "$@"
}

# The programs that are upgraded: variable=commit.
# ONE is the last commit of main before the first of the cluster ("Let brokers watch each other"): one broker, entries of version 1, no runs. What
# stands in stores of that time must be readable, and readable by it what is written at feature level 1. NEIGHBOURS landed last before leases
# were handed over and segments merged: entries of version 1 as well, but several brokers that close each other.
OLD_PROGRAMS=(
  ALLUVIUM_TEST_OLD_ONE=1de4f54140a9840214e0eba878c88b3007d209bb
  ALLUVIUM_TEST_OLD_NEIGHBOURS=de29dee80e4202761005e07514d08b93f52cbc1b
)

# old_program COMMIT: builds it, once per cache, and leaves its path in $OLD_PROGRAM. Sources are the commit's; the manifest is this one's, and the
# program is built for a test that tests nothing: then no dependency is compiled that the other suites have not compiled. Package and program
# have a name of their own, for they are built beside this one, and cargo knows packages by their names.
old_program() {
  local commit=$1 name=alluvium-${1:0:10} source=$WORK/old-${1:0:10} target=${CARGO_TARGET_DIR:-$ROOT/target}
  OLD_PROGRAM=$CACHE/old/$name
  [[ -x $OLD_PROGRAM ]] && return
  git -C "$ROOT" cat-file -e "$commit^{commit}" || {
    echo "FAIL upgrade: commit $commit is not here: it takes a clone with its history (of a shallow one: git fetch --unshallow)"
    return 1
  }
  mkdir -p "$source/tests" "$CACHE/old" && git -C "$ROOT" archive "$commit" src | tar -x -C "$source" && cp Cargo.toml Cargo.lock "$source" || return 1
  sed -i "s/^name = \"alluvium\"$/name = \"$name\"/; s/^\[lib\]$/&\nname = \"alluvium\"/" "$source/Cargo.toml" "$source/Cargo.lock" && : >"$source/tests/nothing.rs"
  (cd "$source" && CARGO_TARGET_DIR=$target cargo test --no-run --locked --test nothing) || { echo "FAIL upgrade: $commit can't be built"; return 1; }
  mv "$target/debug/$name" "$OLD_PROGRAM.new" && mv "$OLD_PROGRAM.new" "$OLD_PROGRAM"
}

upgrade_tests() {
  local pair
  for pair in "${OLD_PROGRAMS[@]}"; do
    old_program "${pair#*=}" || return 1
    export "${pair%%=*}=$OLD_PROGRAM"
  done
  start_minio && ALLUVIUM_TEST_S3_MINIO=$MINIO_ENDPOINT cargo_tests --test upgrade
}

sim_tests() {
  cd "$ROOT/tests/sim" || return
  ./run "$@"
}

# Replays the kept corpus of every target and fuzzes on for FUZZ_SECONDS each (10).
fuzz_tests() { "$ROOT/tests/fuzz/run"; }

# chaos_tests local|minio: the suite starts and kills the broker itself, by the command that it is given.
chaos_tests() {
  local port admin command
  [[ $1 == local ]] || "start_$1" || return 1
  read -r port admin <<<"$(free_ports 2)"
  command=$(broker_command "$1" "chaos-$1" "$port" "$admin") || return 1
  BROKER_CMD=$command BOOTSTRAP=127.0.0.1:$port ADMIN=127.0.0.1:$admin CHAOS_SECONDS=${CHAOS_SECONDS:-40} \
    timeout -k 20 600 "$ROOT/tests/chaos/run"
}

# cluster_chaos_tests bucket|dynamodb|postgres SECONDS: brokers on one bucket of MinIO, with that metadata table.
cluster_chaos_tests() {
  local command table= shared= kind=minio
  start_minio || { echo "FAIL chaos-cluster: MinIO did not start"; return 1; }
  case $1 in
  dynamodb) start_dynamodb || { echo "FAIL chaos-cluster: DynamoDB Local did not start"; return 1; }; table=${DYNAMODB_ENDPOINT#http://} kind=minio+dynamodb ;;
  postgres)
    start_postgres || { echo "FAIL chaos-cluster: PostgreSQL did not start"; return 1; }
    table=${POSTGRES_URL##*@} kind=minio+postgres shared=yes
    table=${table%%/*}
    ;;
  esac
  # Merging and collection belong to it, so they come within seconds too.
  command="$(broker_command "$kind" "chaos-cluster-$1" @PORT@ @ADMIN@) --merge-window-ms 4000 --collect-grace-ms 20000" || return 1
  BROKER_CMD=$command CLUSTER=1 STORE=${MINIO_ENDPOINT#http://} TABLE=$table SHARED_TABLE=$shared CHAOS_SECONDS=${CHAOS_SECONDS:-$2} TERM_LIMIT=30 READY_LIMIT=45 \
    timeout -k 20 $((${CHAOS_SECONDS:-$2} + 500)) "$ROOT/tests/chaos/run"
}

# table_tests STORE+TABLE…: one client's quick tests on brokers that keep their metadata elsewhere, and what `alluvium metadata` says of it
# afterwards.
table_tests() {
  local pair code=0
  for pair in "$@"; do
    echo "--- $pair"
    start_alluvium "$pair" || { echo "FAIL $pair: the broker did not start"; code=1; continue; }
    TARGET=local LEVEL=smoke BOOTSTRAP=$ALLUVIUM_BOOTSTRAP timeout -k 5 120 "$ROOT/tests/clients/go/run" || code=1
    kill -0 "$ALLUVIUM_PID" 2>/dev/null || { echo "FAIL $pair: the broker ended"; code=1; }
    stop "$ALLUVIUM_PID" 20
    if $(head -n 1 "$LOGS/server-alluvium-$pair.log" | sed 's/ serve / metadata verify /'); then
      echo "ok metadata verify on $pair"
    else
      echo "FAIL metadata verify on $pair: see above"
      code=1
    fi
  done
  return $code
}

# The suite starts the broker itself, by the command that it is given, with one limit after the other.
abuse_tests() {
  local port admin command
  read -r port admin <<<"$(free_ports 2)"
  command=$(broker_command local abuse "$port" "$admin") || return 1
  BROKER_CMD=$command BOOTSTRAP=127.0.0.1:$port ADMIN=127.0.0.1:$admin timeout -k 20 1200 "$ROOT/tests/abuse/run"
}

# The same requests to Apache Kafka and to a fresh broker.
diff_tests() {
  start_kafka && start_alluvium local || { echo "FAIL diff: a broker did not start"; return 1; }
  KAFKA=$KAFKA_BOOTSTRAP BOOTSTRAP=$ALLUVIUM_BOOTSTRAP timeout -k 5 1200 "$ROOT/tests/diff/run"
  local code=$?
  kill -0 "$ALLUVIUM_PID" 2>/dev/null || { echo "FAIL server: it ended during this suite"; code=1; }
  stop "$KAFKA_PID"
  stop "$ALLUVIUM_PID"
  return $code
}

# client_suite CLIENT LEVEL TARGET BOOTSTRAP SERVER_PID
client_suite() {
  if [[ -z $4 ]]; then
    echo "FAIL server: $3 did not start"
    tail -n 20 "$LOGS/target-$3.log"
    return 1
  fi
  BOOTSTRAP=$4 LEVEL=$2 TARGET=$3 timeout -k 5 600 "$ROOT/tests/clients/$1/run" || return
  kill -0 "$5" 2>/dev/null || { echo "FAIL server: it ended during this suite"; return 1; }
}

# Starts the server of a target for the client suites; leaves TARGET_BOOTSTRAP and TARGET_PID, empty when it fails.
start_target() {
  TARGET_BOOTSTRAP= TARGET_PID=
  if [[ $1 == kafka ]]; then
    need kafka && start_kafka && TARGET_BOOTSTRAP=$KAFKA_BOOTSTRAP TARGET_PID=$KAFKA_PID
  else
    { [[ $1 == local ]] || need "$1"; } && need alluvium && start_alluvium "$1" &&
      TARGET_BOOTSTRAP=$ALLUVIUM_BOOTSTRAP TARGET_PID=$ALLUVIUM_PID
  fi
}

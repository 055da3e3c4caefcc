# What must be there, and how it gets there. `need_x` either finds x, installs x into $CACHE by the ordinary client of
# its registry, or prints one line `missing: x; install it with: command` and fails. A finished installation leaves a
# stamp file with its version, so that a new pin installs anew and an interrupted download never counts.

# need X: need_X, by one lane at a time. What it starts must not inherit the lock.
need() {
  local code
  mkdir -p "$CACHE/locks"
  exec 9>"$CACHE/locks/$1" && flock 9
  "need_$1" 9>&-
  code=$?
  exec 9>&-
  return $code
}

missing() {
  echo "missing: $1; install it with: $2"
  return 1
}

need_cargo() { command -v cargo >/dev/null || missing cargo "rustup, Rust's installer (or apt-get install -y rustup)"; }
need_cxx() { command -v c++ >/dev/null || missing "a C++ compiler" "apt-get install -y g++"; }
need_go() { command -v go >/dev/null || missing go "apt-get install -y golang-go (1.24 or later)"; }
need_node() { command -v npm >/dev/null || missing npm "apt-get install -y nodejs npm (Node 20 or later)"; }
need_curl() { command -v curl >/dev/null || missing curl "apt-get install -y curl"; }
need_maven() { need_java && { command -v mvn >/dev/null || missing mvn "apt-get install -y maven"; }; }

need_java() {
  command -v javac >/dev/null && [[ $(javac -version 2>&1) =~ javac\ ([0-9]+) ]] && ((BASH_REMATCH[1] >= 17)) ||
    missing "a JDK of version 17 or later" "apt-get install -y openjdk-17-jdk-headless"
}

need_python() {
  python3 -c 'import sys, venv; sys.exit(sys.version_info < (3, 9))' 2>/dev/null ||
    missing "python3 with venv" "apt-get install -y python3 python3-venv"
}

# Is the thing of this name already installed at this version?
installed() { [[ $(cat "$CACHE/stamps/$1" 2>/dev/null) == "$2" ]]; }

stamp() { mkdir -p "$CACHE/stamps" && echo "$2" >"$CACHE/stamps/$1"; }

need_kafka() {
  need_maven || return 1
  installed kafka "$KAFKA_VERSION $KAFKA_ARTIFACTS" && return
  say "  installing the Apache Kafka $KAFKA_VERSION jars"
  local dir=$CACHE/kafka-$KAFKA_VERSION artifact dependencies=
  rm -rf "$dir" && mkdir -p "$dir" || return 1
  for artifact in $KAFKA_ARTIFACTS; do
    dependencies+="<dependency><groupId>org.apache.kafka</groupId><artifactId>$artifact</artifactId><version>$KAFKA_VERSION</version></dependency>"
  done
  cat >"$dir/pom.xml" <<XML
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>alluvium.tests</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>$dependencies</dependencies>
</project>
XML
  (cd "$dir" && mvn -q -B dependency:copy-dependencies -DoutputDirectory=libs) && stamp kafka "$KAFKA_VERSION $KAFKA_ARTIFACTS"
}

# Debian's kcat and rsyslogd with omkafka: those of the machine, or unpacked into the cache, which needs no root. Sets
# DEBIAN_ROOT and DEBIAN_LIBRARIES, for LD_LIBRARY_PATH.
need_kcat() {
  local install="apt-get install -y kcat rsyslog-kafka (Debian)"
  DEBIAN_ROOT= DEBIAN_LIBRARIES=
  if ! [[ -x /usr/bin/kcat && -x /usr/sbin/rsyslogd ]] || ! compgen -G "/usr/lib/*/rsyslog/omkafka.so" >/dev/null; then
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || { missing "kcat and rsyslogd" "$install"; return; }
    DEBIAN_ROOT=$CACHE/debian/root
    unpack_debian debian "kcat and rsyslog" "$DEBIAN_PACKAGES" || { missing "kcat and rsyslogd" "$install"; return; }
    DEBIAN_LIBRARIES=$(libraries_below "$DEBIAN_ROOT")
  fi
  if LD_LIBRARY_PATH=$DEBIAN_LIBRARIES ldd "$DEBIAN_ROOT/usr/bin/kcat" "$DEBIAN_ROOT/usr/sbin/rsyslogd" | grep "not found"; then
    missing "libraries of kcat and rsyslogd" "$install"
    return
  fi
  export DEBIAN_ROOT DEBIAN_LIBRARIES
}

# unpack_debian NAME WHAT PACKAGES: unpacks the packages into $CACHE/NAME/root, unless they are there.
unpack_debian() {
  local packages=$CACHE/$1/packages root=$CACHE/$1/root file
  installed "$1" "$3" && return
  say "  installing $2 from Debian's packages"
  rm -rf "${CACHE:?}/$1" && mkdir -p "$packages" "$root" || return 1
  # shellcheck disable=SC2086 # it is words
  (cd "$packages" && { apt-get -q download $3 || { apt-get -q update && apt-get -q download $3; }; }) || return 1
  for file in "$packages"/*.deb; do dpkg-deb -x "$file" "$root" || return 1; done
  stamp "$1" "$3"
}

# The library folders below a root, for LD_LIBRARY_PATH.
libraries_below() {
  local folders
  folders=$(compgen -G "$1/usr/lib/*-linux-gnu*" | tr '\n' :)$(compgen -G "$1/lib/*-linux-gnu*" | tr '\n' :)
  echo "${folders%:}"
}

need_openssl() { command -v openssl >/dev/null || missing openssl "apt-get install -y openssl"; }

# Can the user that PostgreSQL runs as start this file?
nobody_runs() { ((EUID != 0)) || setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$1"; }

# PostgreSQL: the machine's, or unpacked into the cache. Sets POSTGRES_BIN and POSTGRES_LIBRARIES, for tests/lib/serve.
need_postgres() {
  local install="apt-get install -y postgresql (Debian)" root
  need_openssl || return 1
  POSTGRES_BIN=$(compgen -G "/usr/lib/postgresql/*/bin" | sort -V | tail -n 1) POSTGRES_LIBRARIES=
  if [[ ! -x $POSTGRES_BIN/postgres || ! -x $POSTGRES_BIN/initdb ]]; then
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || { missing PostgreSQL "$install"; return; }
    root=$CACHE/debian-postgres/root
    unpack_debian debian-postgres PostgreSQL "$POSTGRES_PACKAGES" || { missing PostgreSQL "$install"; return; }
    POSTGRES_BIN=$(compgen -G "$root/usr/lib/postgresql/*/bin") POSTGRES_LIBRARIES=$(libraries_below "$root")
  fi
  if LD_LIBRARY_PATH=$POSTGRES_LIBRARIES ldd "$POSTGRES_BIN/postgres" "$POSTGRES_BIN/initdb" | grep "not found"; then
    missing "libraries of PostgreSQL" "$install"
    return
  fi
  if ! nobody_runs "$POSTGRES_BIN/postgres" && [[ -n ${root:-} ]]; then
    # The cache lies in a folder of root's own.
    cp -r "$root" "$(postgres_folder).server" || return 1
    POSTGRES_BIN=${POSTGRES_BIN/"$root"/"$(postgres_folder).server"}
    POSTGRES_LIBRARIES=${POSTGRES_LIBRARIES//"$root"/"$(postgres_folder).server"}
  fi
  nobody_runs "$POSTGRES_BIN/postgres" || { missing "a PostgreSQL that others than root can run (it refuses to be root)" "$install"; return; }
  export POSTGRES_BIN POSTGRES_LIBRARIES
}

# DynamoDB Local. Sets DYNAMODB_LIBS, for tests/lib/serve.
need_dynamodb() {
  local dir=$CACHE/dynamodb
  export DYNAMODB_LIBS=$dir/libs
  need_maven || return 1
  installed dynamodb "$DYNAMODB_VERSION" && return
  say "  installing DynamoDB Local $DYNAMODB_VERSION"
  rm -rf "$dir" && mkdir -p "$dir" || return 1
  cat >"$dir/pom.xml" <<XML
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>alluvium.tests</groupId><artifactId>dynamodb</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>software.amazon.dynamodb</groupId><artifactId>DynamoDBLocal</artifactId><version>$DYNAMODB_VERSION</version></dependency>
  </dependencies>
</project>
XML
  (cd "$dir" && mvn -q -B dependency:copy-dependencies -DoutputDirectory=libs) && stamp dynamodb "$DYNAMODB_VERSION"
}

need_minio() {
  need_go && need_curl || return 1
  installed minio "$MINIO_VERSION" && return
  say "  installing MinIO $MINIO_VERSION (builds for about three minutes)"
  GOBIN=$CACHE/bin go install "github.com/minio/minio@$MINIO_VERSION" && stamp minio "$MINIO_VERSION"
}

need_uv() {
  need_python || return 1
  installed uv "$UV_VERSION" && return
  say "  installing uv $UV_VERSION"
  rm -rf "$CACHE/uv-venv"
  python3 -m venv "$CACHE/uv-venv" && "$CACHE/uv-venv/bin/pip" install -q "uv==$UV_VERSION" &&
    ln -sf ../uv-venv/bin/uv "$CACHE/bin/uv" && stamp uv "$UV_VERSION"
}

# An interpreter of the wanted version that really starts; if there is none, uv gets it by the version's name.
python_for_localstack() {
  local candidate
  for candidate in "python$LOCALSTACK_PYTHON_VERSION" "$HOME/.pyenv/versions/$LOCALSTACK_PYTHON_VERSION".*/bin/python; do
    "$candidate" -c 'import sys' 2>/dev/null && { command -v "$candidate"; return; }
  done
  echo "$LOCALSTACK_PYTHON_VERSION"
}

need_localstack() {
  need uv && need_curl || return 1
  installed localstack "$LOCALSTACK_VERSION" && return
  say "  installing LocalStack $LOCALSTACK_VERSION"
  local venv=$CACHE/localstack
  rm -rf "$venv"
  uv venv -q --python "$(python_for_localstack)" "$venv" &&
    uv pip install -q --python "$venv/bin/python" --exclude-newer "$LOCALSTACK_DEPENDENCIES_UNTIL" \
      "localstack-core[runtime]==$LOCALSTACK_VERSION" && stamp localstack "$LOCALSTACK_VERSION"
}

# The binary under test. ALLUVIUM_BIN names one that is built already.
need_alluvium() {
  if [[ -n ${ALLUVIUM_BIN:-} ]]; then
    [[ -x $ALLUVIUM_BIN ]] || missing "$ALLUVIUM_BIN" "cargo build --release"
    return
  fi
  need_cargo || return 1
  say "  building target/release/alluvium"
  cargo build --release --locked --bin alluvium || return 1
  ALLUVIUM_BIN=${CARGO_TARGET_DIR:-$ROOT/target}/release/alluvium
  export ALLUVIUM_BIN
}

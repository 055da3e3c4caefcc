# Small things that all parts of the runner share: messages, ports, waiting, processes and their end.

# Messages of progress go to the terminal (descriptor 3), whatever the suite's output is redirected to.
exec 3>&2
say() { printf '%s\n' "$*" >&3; }

# Picks N free loopback ports at once, so that they differ.
free_ports() {
  python3 - "$1" <<'PY'
import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))
PY
}

# wait_until SECONDS PID COMMAND…: polls COMMAND until it succeeds; fails when PID is gone or the time is over.
wait_until() {
  local deadline=$((SECONDS + $1)) pid=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    kill -0 "$pid" 2>/dev/null || { echo "process $pid ended before it was ready"; return 1; }
    ((SECONDS < deadline)) || { echo "process $pid is not ready in time"; return 1; }
    sleep 0.1
  done
}

http_ok() { curl -fsS -m 2 -o /dev/null "$1"; }

# Servers are background children of this shell; they end by their own pid, at the latest in the EXIT trap.
SERVER_PIDS=()

track() { SERVER_PIDS+=("$1"); }

stop() {
  local pid=$1 seconds=${2:-5} i
  [[ -n $pid ]] || return 0
  kill -TERM "$pid" 2>/dev/null
  for ((i = 0; i < seconds * 20; i++)); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.05
  done
  kill -KILL "$pid" 2>/dev/null
  wait "$pid" 2>/dev/null
  local left=() p
  for p in "${SERVER_PIDS[@]}"; do [[ $p == "$pid" ]] || left+=("$p"); done
  SERVER_PIDS=("${left[@]}")
  return 0
}

stop_all() {
  local pid
  for pid in "${SERVER_PIDS[@]}"; do stop "$pid" 1; done
  [[ -n ${WORK:-} ]] && rm -rf "$WORK" "/dev/shm/alluvium-tests.$(basename "$WORK")" "/tmp/alluvium-postgres.$(basename "$WORK")" "/tmp/alluvium-postgres.$(basename "$WORK").server"
  return 0
}

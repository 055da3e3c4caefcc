# rsyslogd follows a log file and ships each line with omkafka; nothing is lost or repeated when the file grows and is
# rotated, and when rsyslogd ends and starts again.

rsyslog_pid=

rsyslog_start() {
  local modules
  modules=$(dirname "$(compgen -G "$root/usr/lib/*/rsyslog/omkafka.so")")
  cat >"$work/rsyslog.conf" <<CONFIG
global(workDirectory="$work")
module(load="imfile" mode="inotify")
module(load="omkafka")
template(name="line" type="string" string="%msg%")
input(type="imfile" File="$work/app.log" Tag="app" ruleset="ship" reopenOnTruncate="on")
ruleset(name="ship") {
  action(type="omkafka" broker=["$BOOTSTRAP"] topic="$1" template="line" partitions.auto="on" resubmitOnFailure="on"
         confParam=["linger.ms=20", "compression.codec=lz4", "acks=all"] action.resumeRetryCount="-1")
}
CONFIG
  "$root/usr/sbin/rsyslogd" -n -f "$work/rsyslog.conf" -i "$work/rsyslog.pid" -M "$modules" >"$work/rsyslog.out" 2>&1 &
  rsyslog_pid=$!
}

# It ends after it has sent what it read.
rsyslog_stop() {
  [[ -n $rsyslog_pid ]] || return 0
  kill -TERM "$rsyslog_pid" 2>/dev/null
  wait "$rsyslog_pid" 2>/dev/null
  rsyslog_pid=
}

# arrived COUNT TOPIC: waits until so many lines are there.
arrived() {
  local i found
  for ((i = 0; i < 150; i++)); do
    found=$(kcat -Q -t "$2:0:-1" 2>/dev/null)
    [[ ${found##* } =~ ^[0-9]+$ ]] && ((${found##* } >= $1)) && return
    kill -0 "$rsyslog_pid" || { say "rsyslogd ended: $(cat "$work/rsyslog.out")"; return 1; }
    sleep 0.2
  done
  say "expected $1 lines, got <$found>; rsyslogd says: $(cat "$work/rsyslog.out")"
  return 1
}

# lines FROM TO: as many lines of a log as an application would write.
lines() {
  awk -v from="$1" -v to="$2" 'BEGIN { for (i = from; i < to; i++)
    printf "2026-01-01T%02d:%02d:%02d.%03dZ INFO [worker-%d] request %d took %d ms, path=/a/%d?q=\"ü %d\"\n", i / 3600 % 24, i / 60 % 60, i % 60, i % 1000, i % 8, i, i * 7 % 301, i % 50, i }'
}

log_file() {
  local topic=rsyslog-$run
  # The machine's own log first, if it has one.
  { grep -hv '^$' /var/log/dpkg.log 2>/dev/null | head -n 2000; lines 0 2000; } >"$work/app.log"
  cp "$work/app.log" "$work/expected"
  rsyslog_start "$topic"
  arrived "$(wc -l <"$work/expected")" "$topic" || return
  lines 2000 3000 | tee -a "$work/expected" >>"$work/app.log"
  arrived "$(wc -l <"$work/expected")" "$topic" || return
  mv "$work/app.log" "$work/app.log.1"
  lines 3000 4000 | tee -a "$work/expected" >"$work/app.log"
  arrived "$(wc -l <"$work/expected")" "$topic" || return
  rsyslog_stop
  lines 4000 5000 | tee -a "$work/expected" >>"$work/app.log"
  rsyslog_start "$topic"
  arrived "$(wc -l <"$work/expected")" "$topic" || return
  rsyslog_stop
  kcat -C -q -t "$topic" -o beginning -e >"$work/back" || return
  cmp "$work/expected" "$work/back"
}

# Not in a subshell, for the EXIT trap must know rsyslogd's pid.
log_file_here() { log_file >"$work/reason" 2>&1; }
if [[ rsyslog_ships_a_log_file == *"${ONLY:-}"* ]]; then
  if log_file_here; then said=true; else said=false; fi
  report() { cat "$work/reason"; $said; }
  check rsyslog_ships_a_log_file report
fi

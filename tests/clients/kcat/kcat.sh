# kcat's modes: metadata, producer, consumer, group consumer, query of offsets.

metadata() {
  local text
  kcat -P -t "meta-$run" -p 0 <<<"one" || return
  text=$(kcat -L -t "meta-$run") || return
  contains " 1 brokers:" "$text" && contains "at $BOOTSTRAP (controller)" "$text" && contains "topic \"meta-$run\" with 1 partitions:" "$text" &&
    contains "partition 0, leader 1, replicas: 1, isrs: 1" "$text" || return
  text=$(kcat -J -L) || return
  python3 - "meta-$run" "$text" <<'PY'
import json, sys
metadata = json.loads(sys.argv[2])
assert len(metadata["brokers"]) == 1 and metadata["controllerid"] == 1, metadata
topics = {topic["topic"]: topic for topic in metadata["topics"]}
assert topics[sys.argv[1]]["partitions"] == [{"partition": 0, "leader": 1, "replicas": [{"id": 1}], "isrs": [{"id": 1}]}], topics
PY
}
check kcat_metadata metadata

keys_headers_and_nulls() {
  local topic=shapes-$run
  printf 'k0:v0\nk1:\nno-key\n' | kcat -P -t "$topic" -p 0 -K: -Z -H one=1 -H two=2 || return
  equal $'0 k0 v0 one=1,two=2 0\n1 k1 NULL one=1,two=2 0\n2 NULL no-key one=1,two=2 0' \
    "$(kcat -C -q -Z -t "$topic" -o beginning -e -f '%o %k %s %h %p\n')" records
}
check kcat_keys_headers_and_nulls keys_headers_and_nulls

codecs() {
  local topic=codecs-$run codec
  for codec in none gzip snappy lz4 zstd; do
    seq -f "$codec %g" 1 200 | kcat -P -t "$topic" -p 0 -z "$codec" -X enable.idempotence=true || return
  done
  equal "$(for codec in none gzip snappy lz4 zstd; do seq -f "$codec %g" 1 200; done)" \
    "$(kcat -C -q -t "$topic" -o beginning -e)" records
}
check kcat_codecs codecs

large_file() {
  local topic=large-$run file=$work/large
  seq -f "%.0f the quick brown fox jumps over the lazy dog" 1 50000 >"$file"
  kcat -P -t "$topic" -p 0 -l "$file" -X linger.ms=20 -X acks=all || return
  kcat -C -q -t "$topic" -o beginning -e >"$file.back" || return
  cmp "$file" "$file.back"
}
check kcat_large_file large_file

positions() {
  local topic=positions-$run before
  seq 0 9 | kcat -P -t "$topic" -p 0 || return
  sleep 0.05
  before=$(date +%s%3N)
  sleep 0.05
  seq 10 19 | kcat -P -t "$topic" -p 0 || return
  equal "$(seq 0 19)" "$(kcat -C -q -t "$topic" -o beginning -e)" "from the beginning" &&
    equal "$(seq 15 19)" "$(kcat -C -q -t "$topic" -o -5 -e)" "the last five" &&
    equal "" "$(kcat -C -q -t "$topic" -o end -e)" "from the end" &&
    equal "$(seq 7 9)" "$(kcat -C -q -t "$topic" -p 0 -o 7 -c 3)" "three from offset 7" &&
    equal "$(seq 10 19)" "$(kcat -C -q -t "$topic" -o "s@$before" -e)" "from a time" &&
    equal "$(seq 0 9)" "$(kcat -C -q -t "$topic" -o beginning -o "s@0" -o "e@$before" -e)" "up to a time" &&
    equal "$topic [0] offset 10" "$(kcat -Q -t "$topic:0:$before")" "offset of a time" &&
    equal "$topic [0] offset 20" "$(kcat -Q -t "$topic:0:-1")" "the end" &&
    equal "$topic [0] offset 0" "$(kcat -Q -t "$topic:0:-2")" "the beginning"
}
check kcat_positions_and_queries positions full

json() {
  local topic=json-$run
  kcat -P -t "$topic" -p 0 -k key -H a=b <<<"value" || return
  kcat -C -q -J -t "$topic" -o beginning -e | python3 -c '
import json, sys
record = json.loads(sys.stdin.read())
found = {name: record[name] for name in ("partition", "offset", "tstype", "headers", "key", "payload")}
assert found == {"partition": 0, "offset": 0, "tstype": "create", "headers": ["a", "b"], "key": "key", "payload": "value"}, record'
}
check kcat_json_envelope json full

group() {
  local topic=grouped-$run group=group-$run
  seq 0 9 | kcat -P -t "$topic" -p 0 || return
  equal "$(seq 0 9)" "$(kcat -q -G "$group" -X auto.offset.reset=earliest -e "$topic")" "the first time" || return
  seq 10 14 | kcat -P -t "$topic" -p 0 || return
  equal "$(seq 10 14)" "$(kcat -q -G "$group" -X auto.offset.reset=earliest -e "$topic")" "the second time"
}
check kcat_group group

acks() {
  local topic=acks-$run acks
  for acks in 0 1 all; do kcat -P -t "$topic" -p 0 -X "acks=$acks" <<<"acks $acks" || return; done
  equal $'acks 0\nacks 1\nacks all' "$(kcat -C -q -t "$topic" -o beginning -c 3)" records
}
check kcat_acks acks full

transactional() {
  local topic=transactional-$run said
  kcat -P -t "$topic" -p 0 <<<"plain" || return
  said=$(kcat -P -t "$topic" -p 0 -X "transactional.id=id-$run" <<<"in a transaction" 2>&1)
  local code=$?
  if [[ $TARGET == kafka ]]; then
    equal 0 $code "exit code, $said" && equal $'plain\nin a transaction' "$(kcat -C -q -t "$topic" -o beginning -c 2)" records
  else
    ((code != 0 && code != 124)) || { say "exit code $code: $said"; return 1; }
    contains "Transactional Id authorization failed" "$said" && equal plain "$(kcat -C -q -t "$topic" -o beginning -e)" records
  fi
}
check kcat_transactional_producer transactional full

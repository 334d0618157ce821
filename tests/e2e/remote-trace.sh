#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a start-up reads is recorded, and replayed at the next launch: then nothing that it reads has
# to be waited for.  Whatever ends a recording, and whatever becomes of a trace, reads are right.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit
need_python_nbd

export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home"
seed=$(seed)
say "seed $seed"
make_image img $((96 * 1024 * 1024)) 200 "$seed"
flat=$work/img/flat.raw
start_registry reg
push_image "http://127.0.0.1:${port[reg]}" app/disk obd "$work"/img/[123].obd
image=127.0.0.1:${port[reg]}/app/disk:obd

# startup NAME [SEED [MIB [OPTION...]]]: reads as a machine that starts.
startup()
{
	local name=$1 with=${2:-$seed} mib=${3:-4}

	shift $(($# < 3 ? $# : 3))
	"$python" "$tests/startup.py" "$(uri "$name")" "$flat" "$with" "$mib" "$@" ||
		fail "$name: a start-up fails"
}

# serve_image NAME CACHE PARAMETER...
serve_image()
{
	local name=$1 cache=$2

	shift 2
	serve "$name" "$plugin" "image=$image" "cache-dir=$work/$cache" -v "$@"
}

# counter FILE NAME
counter()
{
	"$python" -c 'import json, sys
print(json.load(open(sys.argv[1]))["images"][0]["counters"].get(sys.argv[2], 0))' "$@"
}

# is_quiet: the registry has sent nothing for a moment.
is_quiet()
{
	local before

	before=$(count reg bytes_sent)
	sleep 0.3
	[ "$(count reg bytes_sent)" = "$before" ]
}

# no_leftovers CACHE: there are no half files among the traces.
no_leftovers()
{
	local found

	found=$(find "$work/$1/traces" -type f ! -name '*.trace' ! -name '*.asked' 2>/dev/null)
	[ -z "$found" ] || fail "left in the folder of traces: $found"
}

# ---- record, replay ----

serve_image first cache-1
startup first
stop first
trace=$(find "$work/cache-1/traces" -name '*.trace')
[ -s "$trace" ] || fail "no trace after a start-up"
no_leftovers cache-1
say "ok: recorded $(stat -c %s "$trace") bytes"

# replayed NAME CACHE: the image is served with the trace over an empty cache until nothing more comes.
replay()
{
	mkdir -p "$work/$2/traces"
	cp "$trace" "$work/$2/traces/"
	serve_image "$1" "$2" "stats=$work/$1.json" "trace=${3:-auto}"
	await 30 is_quiet || fail "a replay does not end"
}

replay second cache-2
tell reg /reset
startup second
same "requests of blobs after the replay" "$(count reg requests blob)" 0
stop second
serve_image third cache-2 "stats=$work/third.json" trace=off
startup third
stop third
same "demand misses after the replay" "$("$python" - "$work/third.json" <<'END'
import json, sys
layers = json.load(open(sys.argv[1]))["images"][0]["layers"]
print(sum(l["counters"]["cache_misses"] for l in layers))
END
)" 0
say "ok: replayed"

# ---- what is fetched ----

# The chunks that the plan names, and what the registry sent for them, but for what opening reads.
serve_image plain cache-3 trace=off
opened=$(count reg bytes_sent)
stop plain
tell reg /reset
replay fourth cache-4
sent=$(($(count reg bytes_sent) - opened))
stop fourth
chunks=$(sed -n 's/.*replay: [0-9]* reads, \([0-9]*\) chunks.*/\1/p' "$work/fourth.log")
[ "$sent" -le $((chunks * 16384 * 115 / 100)) ] ||
	fail "$sent bytes fetched for $chunks chunks"
say "ok: $sent bytes for $chunks chunks"

# ---- what ends a recording ----

# has_trace CACHE
has_trace()
{
	[ -n "$(find "$work/$1/traces" -name '*.trace' 2>/dev/null)" ]
}

serve_image idle cache-idle trace-idle=1
startup idle
await 10 has_trace cache-idle || fail "a recording does not end when nothing new is read"
stop idle
serve_image late cache-late trace-seconds=1 trace-idle=3600
startup late "$seed" 4 &
starting=$!
await 10 has_trace cache-late || fail "a recording does not end after its time"
wait $starting
stop late
# A client holds on: nbdkit does not end, but what was recorded is there at once.
: >"$work/holding"
serve_image held cache-held
startup held "$seed" 4 --hold "$work/holding" &
starting=$!
await 20 sh -c "grep -q 'pread' '$work/held.log'" || fail "no read"
sleep 2
kill "${servers[held]}"
await 10 has_trace cache-held || fail "SIGTERM does not save a recording while a client is there"
rm "$work/holding"
wait $starting
unset "servers[held]"
say "ok: a recording ends when nothing is new, after its time, with the server"

# kill -9: no trace, and no half one.
serve_image killed cache-killed
startup killed
kill -9 "${servers[killed]}"
wait "${servers[killed]}" 2>/dev/null || true
unset "servers[killed]"
! has_trace cache-killed || fail "a killed server has left a trace"
no_leftovers cache-killed

# ---- what is no start-up is not kept ----

serve_image tiny cache-tiny trace-idle=1
startup tiny "$seed" 0.5
sleep 3
! has_trace cache-tiny || fail "a look at the disk is kept as a start-up"
startup tiny
await 10 has_trace cache-tiny || fail "after a look at the disk no start-up is recorded"
stop tiny
serve_image scan cache-scan
nbdcopy "$(uri scan)" "$work/copy.raw"
stop scan
cmp "$work/copy.raw" "$flat" || fail "wrong bytes"
! has_trace cache-scan || fail "a copy of the disk is kept as a start-up"
serve_image wanted cache-wanted trace=record
nbdcopy "$(uri wanted)" "$work/copy.raw"
stop wanted
has_trace cache-wanted || fail "trace=record does not keep what it was told to record"
serve_image off cache-off trace=off
startup off
stop off
! has_trace cache-off || fail "trace=off records"
say "ok: kept is what is a start-up, or what was asked for"

# ---- two launches at once ----

serve_image one cache-both
serve_image two cache-both
startup one &
starting=$!
startup two
wait $starting
stop one
stop two
no_leftovers cache-both
both=$(find "$work/cache-both/traces" -name '*.trace')
"$overlaybd" trace show "$both" >/dev/null || fail "two launches leave a bad trace"
same "the traces of two launches" "$(basename "$both")" "$(basename "$trace")"
say "ok: two launches record, one trace is left"

# ---- a trace that misses too much is mended ----

replay other cache-other
before=$(sha256 "$work/cache-other/traces/$(basename "$trace")")
startup other $((seed + 1))
stop other
[ "$(sha256 "$work/cache-other/traces/$(basename "$trace")")" != "$before" ] ||
	fail "a trace that misses most reads is left as it is"
"$overlaybd" trace diff "$trace" "$work/cache-other/traces/$(basename "$trace")" >"$work/diff" || true
trace=$work/cache-other/traces/$(basename "$trace")
replay again cache-again
startup again
startup again $((seed + 1))
tell reg /reset
stop again
same "its sha256 after a replay that misses nothing" "$(sha256 "$work/cache-again/traces/$(basename "$trace")")" \
	"$(sha256 "$trace")"
say "ok: a trace learns what it missed"

# Starts that have nothing in common do not make it a trace of the whole disk.
make_image dense $((16 * 1024 * 1024)) 400 "$seed"
push_image "http://127.0.0.1:${port[reg]}" app/dense obd "$work"/dense/[123].obd
for round in 1 2 3; do
	serve grows "$plugin" "image=127.0.0.1:${port[reg]}/app/dense:obd" "cache-dir=$work/cache-grows"
	flat=$work/dense/flat.raw startup grows $((seed + 10 * round)) 4.5
	stop grows
done
"$overlaybd" trace show --json "$(find "$work/cache-grows/traces" -name '*.trace')" \
	"127.0.0.1:${port[reg]}/app/dense:obd" --cache-dir "$work/cache-grows" >"$work/grows.json"
"$python" - "$work/grows.json" <<'END' || fail "a trace grows beyond half of the data"
import json, sys
shown = json.load(open(sys.argv[1]))
print(shown["image-read-size"], "of", shown["image-data-size"], "bytes of data in the trace")
sys.exit(not 0 < shown["image-read-size"] <= shown["image-data-size"] // 2)
END
say "ok: a trace does not grow for ever"

# ---- traces that are not to be trusted ----

# bad NAME MESSAGE: serves with $work/bad.trace, which must be refused with this message.
bad()
{
	serve_image bad "cache-bad-$1" trace=replay "trace-file=$work/bad.trace"
	startup bad
	stop bad "no replay: " "is no trace, and left alone"
	log_has bad "$2"
}

head -c 100 "$trace" >"$work/bad.trace"
bad short "no replay: $work/bad.trace"
cp "$trace" "$work/bad.trace"
printf x | dd of="$work/bad.trace" bs=1 seek=90 conv=notrunc status=none
bad flipped "no replay: $work/bad.trace"
: >"$work/bad.trace"
bad empty "no replay: $work/bad.trace"
rm "$work/bad.trace"
bad missing "no replay: $work/bad.trace"
mkdir "$work/bad.trace"
bad folder "no replay: $work/bad.trace"
rmdir "$work/bad.trace"
# Of another image, whole as it is.
make_image foreign $((96 * 1024 * 1024)) 50 $((seed + 7))
serve foreign "$plugin" "config=$work/foreign/image.yaml" trace=record "trace-file=$work/bad.trace"
nbdcopy "$(uri foreign)" "$work/copy.raw"
stop foreign
[ -s "$work/bad.trace" ] || fail "an image of local layers is not recorded when it is asked for"
bad foreign "is the trace of another image"
# What is no trace is not replaced by one.
echo "somebody's notes" >"$work/bad.trace"
serve_image bad cache-bad-notes "trace-file=$work/bad.trace"
startup bad
stop bad "no replay: " "is no trace, and left alone"
log_has bad "$work/bad.trace is no trace, and left alone"
same "a file that is no trace" "$(cat "$work/bad.trace")" "somebody's notes"
refuses "dir= and trace-file= exclude each other" "dir=$work" "trace-file=$work/x"
say "ok: a bad trace is a line in the log"

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

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Traces that come from elsewhere: pushed beside the image, of the reference (recordTracePath, an
# acceleration layer), made of paths.  After a replay nothing of it has to be fetched.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit docker-registry
need_python_nbd

export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home"
golden=$GOLDEN/trace
start_registry reg
push_image "http://127.0.0.1:${port[reg]}" app/golden obd "$golden"/layer[012].obd
image=127.0.0.1:${port[reg]}/app/golden:obd

# is_quiet: the registry has sent nothing for a moment.
is_quiet()
{
	local before

	before=$(count reg bytes_sent)
	sleep 0.3
	[ "$(count reg bytes_sent)" = "$before" ]
}

# replays NAME TRACE ARGUMENT...: the server of these arguments fetches what the trace names, by itself.
replays()
{
	local name=$1

	"$overlaybd" trace show --json --reads "$2" >"$work/$name.reads"
	shift 2
	serve "$name" "$plugin" "cache-dir=$work/cache-$name" -v "$@"
	await 30 log_says "$name" "replay: " || fail "$name: no replay"
	await 30 is_quiet || fail "$name: a replay does not end"
	tell reg /reset
	"$python" "$tests/replayed.py" "$(uri "$name")" "$work/$name.reads"
	stop "$name" "/not/there"
	same "$name: requests of blobs after the replay" "$(count reg requests blob)" 0
	say "ok: $name"
}

log_says()
{
	grep -qF -- "$2" "$work/$1.log"
}

# write_config NAME KEYS: of the image, without traces of our own.
write_config()
{
	printf 'image: %s\n%s\n' "$image" "$2" >"$work/$1.yaml"
}

"$overlaybd" trace import "$golden/recorded.trace" "$golden/config.v1.json" -o "$work/golden.trace"

# ---- recordTracePath ----

cp "$golden/recorded.trace" "$work/recorded"
write_config path "recordTracePath: recorded"
replays path "$work/golden.trace" "config=$work/path.yaml"

: >"$work/recorded"
serve record "$plugin" "config=$work/path.yaml" "cache-dir=$work/cache-record"
[ -e "$work/recorded.lock" ] || fail "recordTracePath makes no lock file"
"$python" "$tests/replayed.py" "$(uri record)" "$work/path.reads"
rm "$work/recorded.lock"
await 10 test -e "$work/recorded.ok" || fail "recordTracePath: nothing is written when the lock goes"
stop record
"$overlaybd" trace import "$work/recorded" "$golden/config.v1.json" -o "$work/again.trace"
same "what is read but not in our recording" \
	"$("$overlaybd" trace diff "$work/golden.trace" "$work/again.trace" | grep -c '^<' || true)" 0
replays recorded "$work/again.trace" "config=$work/path.yaml"

# ---- acceleration layers ----

mkdir "$work/acceleration"
cp "$golden/recorded.trace" "$work/acceleration/trace"
{
	echo "repoBlobUrl: http://127.0.0.1:${port[reg]}/v2/app/golden/blobs"
	echo "accelerationLayer: true"
	echo "lowers:"
	for n in 0 1 2; do
		echo "  - {digest: 'sha256:$(sha256 "$golden/layer$n.obd")', size: $(stat -c %s "$golden/layer$n.obd")}"
	done
	echo "  - {dir: acceleration}"
} >"$work/folder.yaml"
replays folder "$work/golden.trace" "config=$work/folder.yaml"

# A list of paths makes the server parse the image's file system: only when it is asked to.
mkdir "$work/unasked"
echo / >"$work/unasked/trace"
sed 's/dir: acceleration/dir: unasked/' "$work/folder.yaml" >"$work/unasked.yaml"
serve unasked "$plugin" "config=$work/unasked.yaml" "cache-dir=$work/cache-unasked"
await 30 log_says unasked "acceleration-paths=true allows that" || fail "a list of paths is not refused"
same "lines" "$(wc -l <"$work/unasked.log")" 1
stop unasked "no replay: acceleration layer: it is a list of paths, for which this server would have to parse"
serve unasked "$plugin" "config=$work/unasked.yaml" "cache-dir=$work/cache-unasked" acceleration-paths=true
await 30 log_says unasked "the disk holds no ext4 file system" || fail "a list of paths is not followed"
stop unasked "the disk holds no ext4 file system"

"$overlaybd" trace export "$work/golden.trace" "$golden/config.v1.json" -o "$work/exported"
"$overlaybd" push --acceleration "$work/exported" "$golden"/layer[012].obd \
	"127.0.0.1:${port[reg]}/app/accelerated:obd"
replays accelerated "$work/golden.trace" "image=127.0.0.1:${port[reg]}/app/accelerated:obd"
complains 1 "$golden/layer0.obd: not a trace of overlaybd's own form" push \
	--acceleration "$golden/layer0.obd" "$golden/layer0.obd" "127.0.0.1:${port[reg]}/app/x:obd"

# ---- pushed beside the image ----

# A trace names its image by the digests of the layers, where they are known.
"$overlaybd" trace import "$work/recorded" "$image" --cache-dir "$work/cache-tool" \
	-o "$work/pushed.trace"

# pushed_is_found NAME REGISTRY: a trace that was pushed is found once somebody reads.
pushed_is_found()
{
	local ref=127.0.0.1:${port[$2]}/app/golden:obd

	"$overlaybd" trace push "$ref" "$work/pushed.trace"
	"$overlaybd" trace push "$ref" "$work/pushed.trace" # the same once more
	serve "$1" "$plugin" "image=$ref" "cache-dir=$work/cache-$1" -v
	"$python" -c 'import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
for _ in sys.stdin:
	pass' "$(uri "$1")" < <(await 30 log_says "$1" "replay: ")
	log_says "$1" "replay: " || fail "$1: a pushed trace is not found"
	stop "$1"
	# From then on it is on this machine.
	[ ! -S "$work/$2.control" ] || tell "$2" /reset
	serve "$1-again" "$plugin" "image=${ref%:obd}@$pushed" "cache-dir=$work/cache-$1" -v
	"$python" -c 'import nbd, sys, time
h = nbd.NBD()
h.connect_uri(sys.argv[1])
time.sleep(1)' "$(uri "$1-again")"
	log_says "$1-again" "replay: " || fail "$1: a pushed trace is not kept"
	stop "$1-again"
	[ ! -S "$work/$2.control" ] || same "$1: questions at the second start" \
		"$(($(count "$2" requests other) + $(count "$2" requests manifest) + $(count "$2" requests blob)))" 0
	say "ok: $1"
}

# One that lists referrers, and two for which we keep the list.
pushed_is_found by-tag reg
start_registry lists --referrers
push_image "http://127.0.0.1:${port[lists]}" app/golden obd "$golden"/layer[012].obd
pushed_is_found listed lists
[ ! -e "$work/lists/manifests/app/golden/sha256-${pushed#sha256:}" ] ||
	fail "a list is kept for a registry that keeps one"
start_docker docker none
push_image "http://127.0.0.1:${port[docker]}" app/golden obd "$golden"/layer[012].obd
pushed_is_found docker docker

make_image other $((4 * 1024 * 1024)) 5
push_image "http://127.0.0.1:${port[reg]}" app/other obd "$work"/other/[123].obd
complains 1 "$work/pushed.trace: the trace is of another image" trace push \
	"127.0.0.1:${port[reg]}/app/other:obd" "$work/pushed.trace"

# A registry without any is asked once, and not again at the next start.
ref=127.0.0.1:${port[reg]}/app/other:obd
for round in first second; do
	tell reg /reset
	serve asked "$plugin" "image=$ref" "cache-dir=$work/cache-asked"
	"$python" -c 'import nbd, sys, time
h = nbd.NBD()
h.connect_uri(sys.argv[1])
time.sleep(1)' "$(uri asked)"
	stop asked
	questions=$(($(count reg requests other) + $(count reg requests manifest) - 1))
	case $round in
	first) [ "$questions" -gt 0 ] || fail "the registry is not asked for a trace" ;;
	second) same "questions at the second start" "$questions" 0 ;;
	esac
done
say "ok: a registry is asked once"

# ---- paths ----

push_image "http://127.0.0.1:${port[reg]}" app/ext4 obd "$GOLDEN"/ext4-3/layer[012].obd
printf '/srv/app.py\n/etc/\n' >"$work/paths"
"$overlaybd" trace import "$work/paths" "$GOLDEN/ext4-3/config.v1.json" -o "$work/paths.trace"
replays paths "$work/paths.trace" "image=127.0.0.1:${port[reg]}/app/ext4:obd" trace=off \
	prefetch=/srv/app.py prefetch=/etc/ prefetch=/not/there
log_has paths "/not/there"
image=127.0.0.1:${port[reg]}/app/ext4:obd
write_config text "recordTracePath: paths"
replays text "$work/paths.trace" "config=$work/text.yaml"

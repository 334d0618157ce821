# SPDX-License-Identifier: Apache-2.0
# lib.sh - what the end-to-end tests share; each sources it first.
#
# From the environment (meson sets the first three):
#   BUILD, SOURCE   the build folder and the source folder
#   GOLDEN          layers written by the reference implementation
#   FULL=1          loops at their full length, else a twentieth
#   SEED=N          repeats a run with the seed that it printed
#   NBDKIT_PRELOAD  a sanitizer's library, preloaded into nbdkit alone
set -euo pipefail

: "${BUILD:?names the build folder}"
: "${SOURCE:?names the source folder}"
: "${GOLDEN:=$SOURCE/tests/golden}"

plugin=$BUILD/nbdkit-plugin/nbdkit-overlaybd-plugin.so
overlaybd=$BUILD/tools/overlaybd
# The distribution's, which libnbd's bindings belong to.  The first in PATH may be a script that takes its
# time to find an interpreter.
python=/usr/bin/python3
[ -x $python ] || python=python3
work=$(mktemp -d "${TMPDIR:-/tmp}/overlaybd-test.XXXXXX")
declare -A servers=()
mounts=() # undone at the end
if [ -n "${NBDKIT_PRELOAD:-}" ]; then
	NBDKIT_PRELOAD+=" $BUILD/tests/libsanitizer-preload.so"
fi

# What the plugin says at the start with dir= when nbdkit is older than that.
old_nbdkit="dir=: nbdkit before 1.34 ends when a client is killed"

say()
{
	printf '%s\n' "$*"
}

fail()
{
	printf 'FAIL: %s\n' "$*" >&2
	exit 1
}

skip()
{
	printf 'SKIP: %s\n' "$*"
	exit 77
}

cleanup()
{
	local status=$? name

	trap - EXIT
	for name in "${!servers[@]}"; do
		kill "${servers[$name]}" 2>/dev/null || true
		wait "${servers[$name]}" 2>/dev/null || true
	done
	if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
		tail -n 20 "$work"/*.log >&2 2>/dev/null || true
	fi
	for name in "${mounts[@]}"; do
		umount -l "$name" || true
	done
	rm -rf "$work"
	exit "$status"
}
trap cleanup EXIT

# need PROGRAM...: skips the test where one is missing.
need()
{
	local program

	for program; do
		command -v "$program" >/dev/null || skip "$program is not installed"
	done
}

need_python_nbd()
{
	"$python" -c 'import nbd' 2>/dev/null || skip "$python has no nbd module (libnbd's bindings)"
}

# times N: N under FULL=1, else a twentieth of it.
times()
{
	if [ "${FULL:-0}" = 1 ]; then
		echo "$1"
	else
		echo $((($1 + 19) / 20))
	fi
}

seed()
{
	echo "${SEED:-$RANDOM$RANDOM}"
}

nbdkit_()
{
	LD_PRELOAD=${NBDKIT_PRELOAD:-} command nbdkit "$@"
}

# await SECONDS COMMAND...: repeats the command until it succeeds.
await()
{
	local tries=$(($1 * 20))

	shift
	until "$@"; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || return 1
		sleep 0.05
	done
}

# serve NAME ARGUMENT...: runs nbdkit with these arguments on the socket of that name, its messages
# going to $work/NAME.log, and returns when it accepts clients.
serve()
{
	local name=$1

	shift
	rm -f "$work/$name.pid" "$work/$name.sock"
	LD_PRELOAD=${NBDKIT_PRELOAD:-} command nbdkit -f --log=stderr -P "$work/$name.pid" \
		-U "$work/$name.sock" "$@" 2>"$work/$name.log" &
	servers[$name]=$!
	await 30 server_is_settled "$name" || fail "server $name does not start"
	[ -s "$work/$name.pid" ] || fail "server $name ended: $(cat "$work/$name.log")"
}

server_is_settled()
{
	[ -s "$work/$1.pid" ] || ! kill -0 "${servers[$1]}" 2>/dev/null
}

# stop NAME [TEXT...]: ends a server, which must end well (under a sanitizer: without a finding).  One of
# `serve` must have logged nothing, but for debug lines and lines that hold one of these texts.
stop()
{
	local pid=${servers[$1]}

	kill "$pid"
	unset "servers[$1]"
	wait "$pid" || fail "server $1 ended with status $?"
	[ ! -S "$work/$1.sock" ] || says_only "$@"
}

# says_only NAME [TEXT...]: the log of that name holds no other lines of nbdkit's, see stop.
says_only()
{
	local name=$1 text options=(-e ': debug: ')

	shift
	for text; do
		options+=(-e "$text")
	done
	if grep -a '^nbdkit: ' "$work/$name.log" | grep -avF "${options[@]}" >"$work/unexpected"; then
		fail "server $name says: $(head -5 "$work/unexpected")"
	fi
}

# uri NAME [EXPORT]
uri()
{
	echo "nbd+unix:///${2:-}?socket=$work/$1.sock"
}

# refuses MESSAGE ARGUMENT...: nbdkit must not start with these arguments, and say so.
refuses()
{
	local message=$1

	shift
	if nbdkit_ -f --log=stderr -U - "$plugin" "$@" --run true 2>"$work/refused.log"; then
		fail "nbdkit starts with: $*"
	fi
	log_has refused "$message"
	say "ok: refused with '$message'"
}

# log_has NAME TEXT: the log holds this text, taken literally.
log_has()
{
	grep -qF -- "$2" "$work/$1.log" || fail "'$2' is not in the log: $(tail -5 "$work/$1.log")"
}

same()
{
	[ "$2" = "$3" ] || fail "$1: got '$2', not '$3'"
}

sha256()
{
	sha256sum "$1" | cut -d' ' -f1
}

# expected SET FIELD, from the golden list.
expected()
{
	"$python" -c 'import json, sys
print(json.load(open(sys.argv[1]))[sys.argv[2]][sys.argv[3]])' "$GOLDEN/expected.json" "$1" "$2"
}

golden_sets()
{
	"$python" -c 'import json, sys
print(*json.load(open(sys.argv[1])))' "$GOLDEN/expected.json"
}

# golden_config SET: the config to serve.  An upper is opened for writing, so a copy of it is served; the
# sparse one's holes travel in a tar.
golden_config()
{
	local folder=$GOLDEN/$1

	if compgen -G "$folder/upper.*" >/dev/null; then
		folder=$work/golden-$1
		if [ ! -d "$folder" ]; then
			cp -r "$GOLDEN/$1" "$folder"
			[ ! -e "$folder/upper.tar" ] || tar -C "$folder" -xSf "$folder/upper.tar"
		fi
	fi
	echo "$folder/$(expected "$1" config)"
}

# make_flat SET: serves the set as `flat`, copies it to $work/SET.raw, and checks its digest.
make_flat()
{
	serve flat "$plugin" "$(golden_config "$1")"
	rm -f "$work/$1.raw"
	nbdcopy "$(uri flat)" "$work/$1.raw"
	same "sha256 of $1" "$(sha256 "$work/$1.raw")" "$(expected "$1" sha256)"
	stop flat "is sparse, and served read-only: "
}

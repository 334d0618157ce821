# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# upper-lib.sh - what the tests of `overlaybd` on writable layers share beyond tool-lib.sh, which this
# sources.
. "$(dirname "${BASH_SOURCE[0]}")/tool-lib.sh"

seed=$(seed)
say "seed $seed"
size=$((5 * 1024 * 1024 + 512))

# make_upper NAME OPTION...: a writable layer $work/NAME, and the disk $work/NAME.raw that it makes.
make_upper()
{
	local name=$1

	shift
	"$python" "$tests/make-upper.py" "$seed" $size "$work/$name" "$work/$name.raw" "$@"
}

# layer_is LAYER OPTION...: what check-layer.py says of a bare layer.
layer_is()
{
	"$python" "$SOURCE/tests/check-layer.py" "$@" >"$work/out" 2>&1 || fail "$*: $(cat "$work/out")"
}

# hold NAME [PART]: a process that has the writable layer open, $holder.
hold()
{
	: >"$work/held"
	flock -x "$1.${2:-data}" sh -c 'echo held; exec sleep 60' >"$work/held" &
	holder=$!
	await 10 grep -q held "$work/held" || fail "nobody holds $1"
}

release()
{
	# The lock is that of both, flock and what it runs.
	pkill -P "$holder"
	wait "$holder" || true
}

# uuid_of FILE, parent_of FILE: what a header says.
uuid_of()
{
	head -c 92 "$1" | tail -c 36
}

parent_of()
{
	head -c 129 "$1" | tail -c 36
}

# log_is UPPER DISK: what check-upper.py says of a log.
log_is()
{
	"$python" "$SOURCE/tests/check-upper.py" "$1.data" "$1.index" "$2" >"$work/out" 2>&1 ||
		fail "$1: $(cat "$work/out")"
}

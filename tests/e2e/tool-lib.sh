# SPDX-License-Identifier: Apache-2.0
# tool-lib.sh - what the tests of `overlaybd` share beyond lib.sh, which this sources.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

tests=$(dirname "${BASH_SOURCE[0]}")

# exits STATUS TEXT COMMAND...: runs the command, which must end with this status and print this text,
# taken literally, on one line of standard output or error.  Both stay in $work/out.
exits()
{
	local wanted=$1 text=$2 status=0

	shift 2
	"$@" >"$work/out" 2>&1 || status=$?
	[ "$status" -eq "$wanted" ] ||
		fail "status $status, not $wanted, of: $* ($(cat "$work/out"))"
	grep -qF -- "$text" "$work/out" || fail "'$text' is not in: $(cat "$work/out") ($*)"
}

# complains STATUS TEXT ARGUMENT...: the same for `overlaybd` when it fails with one line.
complains()
{
	local wanted=$1 text=$2

	shift 2
	exits "$wanted" "overlaybd: $text" "$overlaybd" "$@"
	same "lines of its message" "$(wc -l <"$work/out")" 1
}

# config FILE LAYER...: writes the config of an image, its layers from the bottom up.
config()
{
	local file=$1 layer

	shift
	echo "lowers:" >"$file"
	for layer; do
		echo "  - file: $layer" >>"$file"
	done
}

# holds CONFIG DISK [TEXT...]: what nbdkit serves for the config must be this disk, byte for byte; it may say
# what holds these texts.
holds()
{
	serve image "$plugin" "config=$1"
	rm -f "$work/served.raw"
	nbdcopy "$(uri image)" "$work/served.raw"
	stop image "${@:3}"
	cmp "$work/served.raw" "$2" || fail "$1 does not hold $2"
}

# one_cpu: the number of a processor that this process may use.
one_cpu()
{
	"$python" -c 'import os; print(min(os.sched_getaffinity(0)))'
}

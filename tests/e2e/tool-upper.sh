#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tool-upper.sh - what `overlaybd` does to writable layers, ours and the reference's.  Bytes are checked by
# programs that share no code with the writer.
. "$(dirname "$0")/tool-lib.sh"
need nbdkit nbdcopy python3

seed=$(seed)
say "seed $seed"
size=$((12 * 1024 * 1024 + 512))

# make_upper NAME OPTION...: a writable layer $work/NAME, and the disk $work/NAME.raw that it makes.
make_upper()
{
	local name=$1

	shift
	python3 "$tests/make-upper.py" "$seed" $size "$work/$name" "$work/$name.raw" "$@"
}

# layer_is LAYER OPTION...: what check-layer.py says of a bare layer.
layer_is()
{
	python3 "$SOURCE/tests/check-layer.py" "$@" >"$work/out" 2>&1 || fail "$*: $(cat "$work/out")"
}

# hold NAME: a process that has the writable layer open, $holder.
hold()
{
	python3 -c 'import fcntl, sys, time
f = open(sys.argv[1] + ".data", "rb")
fcntl.flock(f, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)' "$1" >"$work/held" &
	holder=$!
	await 10 grep -q held "$work/held" || fail "nobody holds $1"
}

release()
{
	kill "$holder"
	wait "$holder" || true
}

# ---- seal ----

# The reference's own log becomes what its own tool made of it; only what it left between index and
# trailer is not ours.
cp -r "$GOLDEN/upper-log" "$work/log"
"$overlaybd" seal "$work/log/upper" >"$work/summary"
grep -qF "$work/log/upper.data: 313856 bytes, sealed" "$work/summary" || fail "$(cat "$work/summary")"
python3 - "$work/log/upper.data" "$GOLDEN/sealed/layer1.sealed" <<'END' || fail "sealed otherwise"
import sys
ours, theirs = (open(path, "rb").read() for path in sys.argv[1:])
end = len(ours) - 4096
sys.exit(len(ours) != len(theirs) or ours[:end - 352] != theirs[:end - 352] or ours[end:] != theirs[end:])
END
[ ! -e "$work/log/upper.index" ] || fail "a sealed layer has an index file"
layer_is "$work/log/upper.data" --in-place
config "$work/log/sealed.yaml" layer0.obd upper.data
exits 0 ": ok" "$overlaybd" check "$work/log/sealed.yaml"
complains 1 "$work/log/upper.data: is sealed already" seal "$work/log/upper"
say "ok: the reference's log is sealed"

# A log with the tail of a crash.
make_upper tailed --tail
"$overlaybd" seal "$work/tailed" >"$work/summary" 2>"$work/out"
layer_is "$work/tailed.data" --in-place --disk "$work/tailed.raw" \
	--parent-uuid 00000000-0000-0000-0000-00000000000A
config "$work/tailed.yaml" tailed.data
holds "$work/tailed.yaml" "$work/tailed.raw"
# By the config that names it.
make_upper named
printf 'lowers: []\nupper:\n  data: named.data\n  index: named.index\n' >"$work/named.yaml"
"$overlaybd" seal "$work/named.yaml" >"$work/summary"
layer_is "$work/named.data" --in-place --disk "$work/named.raw"
say "ok: logs are sealed"

make_upper used
before=$(sha256 "$work/used.data")
hold "$work/used"
complains 1 "$work/used.data: is in use by another process" seal "$work/used"
release
same "a log in use" "$(sha256 "$work/used.data")" "$before"
make_upper sparse --sparse
complains 1 "$work/sparse.data: a sparse layer is not written to" seal "$work/sparse"
complains 1 "$work/none: there is no $work/none.data, and no config of that name" seal "$work/none"
complains 1 "'$work/used.data' is a part of a writable layer: name it '$work/used'" \
	seal "$work/used.data"
complains 1 "$work/tailed.yaml: the config names no upper" seal "$work/tailed.yaml"
complains 2 "seal: UPPER|CONFIG is missing" seal
say "ok: what is not sealed"

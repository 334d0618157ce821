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
	"$python" "$tests/make-upper.py" "$seed" $size "$work/$name" "$work/$name.raw" "$@"
}

# layer_is LAYER OPTION...: what check-layer.py says of a bare layer.
layer_is()
{
	"$python" "$SOURCE/tests/check-layer.py" "$@" >"$work/out" 2>&1 || fail "$*: $(cat "$work/out")"
}

# hold NAME: a process that has the writable layer open, $holder.
hold()
{
	"$python" -c 'import fcntl, sys, time
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
"$python" - "$work/log/upper.data" "$GOLDEN/sealed/layer1.sealed" <<'END' || fail "sealed otherwise"
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

# ---- create ----

uuid_of()
{
	"$python" -c 'import sys; print(open(sys.argv[1], "rb").read()[56:92].decode())' "$1"
}

parent_of()
{
	"$python" -c 'import sys; print(open(sys.argv[1], "rb").read()[93:129].decode())' "$1"
}

# log_is UPPER DISK: what check-upper.py says of a log.
log_is()
{
	"$python" "$SOURCE/tests/check-upper.py" "$1.data" "$1.index" "$2" >"$work/out" 2>&1 ||
		fail "$1: $(cat "$work/out")"
}

"$overlaybd" create "$work/new" --size 3M >"$work/summary"
grep -qxF "$work/new.data, $work/new.index: a disk of 3145728 bytes" "$work/summary" ||
	fail "$(cat "$work/summary")"
truncate -s 3M "$work/empty.raw"
log_is "$work/new" "$work/empty.raw"
same "its parent" "$(parent_of "$work/new.data")" 00000000-0000-0000-0000-000000000000
"$overlaybd" create "$work/other" --size 1g >"$work/summary"
[ "$(uuid_of "$work/new.data")" != "$(uuid_of "$work/other.data")" ] || fail "two of one uuid"
complains 1 "$work/new.index: File exists" create "$work/new" --size 4M
mv "$work/new.index" "$work/moved"
complains 1 "$work/new.data: File exists" create "$work/new" --size 4M
[ ! -e "$work/new.index" ] && [ ! -e "$work/new.index.new" ] || fail "a refused create leaves a file"
mv "$work/moved" "$work/new.index"
log_is "$work/new" "$work/empty.raw"
complains 1 "virtual size 1000 is not a multiple of 512" create "$work/odd" --size 1000
complains 1 "$work/no/such.data: No such file" create "$work/no/such" --size 1M
complains 2 "create: --config, --size or --from is missing" create "$work/odd"
complains 2 "create: --size 'x' is not a size" create "$work/odd" --size x
complains 2 "create: --size 0 is no disk" create "$work/odd" --size 0
complains 2 "create: --from goes with neither" create "$work/odd" --size 1 --from x
[ ! -e "$work/odd.data" ] || fail "a refused create leaves a file"
say "ok: new layers"

# Over an image, whose config names the layer that is not there yet.
mkdir "$work/over"
cp "$work/tailed.data" "$work/over/lower.obd"
printf 'lowers:\n  - file: lower.obd\nupper:\n  data: vm.data\n  index: vm.index\n' >"$work/over/image.yaml"
"$overlaybd" create "$work/over/vm" --config "$work/over/image.yaml" >"$work/summary"
same "its parent" "$(parent_of "$work/over/vm.data")" "$(uuid_of "$work/tailed.data")"
holds "$work/over/image.yaml" "$work/tailed.raw"
rm "$work/over/vm".*
"$overlaybd" create "$work/over/vm" --config "$work/over/image.yaml" --size 20M >"$work/summary"
cp "$work/tailed.raw" "$work/grown.raw"
truncate -s 20M "$work/grown.raw"
holds "$work/over/image.yaml" "$work/grown.raw"
rm "$work/over/vm".*
complains 1 "$work/over/image.yaml: --size 8388608 is smaller than the image's $size" \
	create "$work/over/vm" --config "$work/over/image.yaml" --size 8M
printf 'lowers: []\nupper:\n  data: vm.data\n  index: vm.index\n' >"$work/over/none.yaml"
complains 1 "$work/over/none.yaml: the image has no layers" create "$work/over/vm" --config "$work/over/none.yaml"
# What a lower layer holds beyond the image's end does not come back.
head -c 4M "$work/tailed.raw" >"$work/small.raw"
"$overlaybd" commit --raw "$work/small.raw" --base "$work/tailed.yaml" -o "$work/over/small.obd" >/dev/null
printf 'lowers:\n  - file: lower.obd\n  - file: small.obd\nupper:\n  data: vm.data\n  index: vm.index\n' \
	>"$work/over/image.yaml"
"$overlaybd" create "$work/over/vm" --config "$work/over/image.yaml" --size 12M >"$work/summary"
cp "$work/small.raw" "$work/grown.raw"
truncate -s 12M "$work/grown.raw"
holds "$work/over/image.yaml" "$work/grown.raw"
say "ok: new layers over images"

# The sparse form becomes a log.
"$overlaybd" create "$work/converted" --from "$work/sparse" >"$work/summary"
log_is "$work/converted" "$work/sparse.raw"
same "its uuid" "$(uuid_of "$work/converted.data")" "$(uuid_of "$work/sparse.data")"
mkdir "$work/theirs"
cp "$GOLDEN/upper-sparse/layer0.obd" "$GOLDEN/upper-sparse/config.v1.json" "$work/theirs"
tar -C "$work/theirs" -xSf "$GOLDEN/upper-sparse/upper.tar"
"$overlaybd" create "$work/theirs/log" --from "$work/theirs/config.v1.json" >"$work/summary"
printf 'lowers:\n  - file: layer0.obd\nupper:\n  data: log.data\n  index: log.index\n' >"$work/theirs/log.yaml"
make_flat upper-sparse
holds "$work/theirs/log.yaml" "$work/upper-sparse.raw"
complains 1 "$work/converted.data: is an append log already" create "$work/x" --from "$work/converted"
hold "$work/sparse"
complains 1 "$work/sparse.data: is in use by another process" create "$work/x" --from "$work/sparse"
release
[ ! -e "$work/x.data" ] || fail "a refused create leaves a file"
say "ok: the sparse form becomes a log"

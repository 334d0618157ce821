#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tool-upper.sh - what `overlaybd` does to writable layers, ours and the reference's.  Bytes are checked by
# programs that share no code with the writer.
. "$(dirname "$0")/upper-lib.sh"
need nbdkit nbdcopy flock pkill python3 taskset

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
cp "$work/tailed.data" "$work/mute.data" && cp "$work/tailed.index" "$work/mute.index"
"$overlaybd" seal "$work/tailed" >"$work/summary" 2>"$work/out"
# Where there is no standard error its messages go nowhere, above all not into the layer.
"$overlaybd" seal "$work/mute" >"$work/summary" 2>&-
cmp "$work/tailed.data" "$work/mute.data" || fail "a message is in the layer"
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
mkfifo "$work/pipe.data"
complains 1 "$work/pipe.data: not a regular file" seal "$work/pipe"
cp "$work/used.data" "$work/cut.data"
mkfifo "$work/cut.index"
complains 1 "$work/cut.index: not a regular file" seal "$work/cut"
rm "$work/cut.index"
head -c 4000 "$work/used.index" >"$work/cut.index"
truncate -s 4000 "$work/cut.data"
complains 1 "$work/cut.data: LSMT data file's header: 4000 bytes" seal "$work/cut"
rm "$work"/pipe.* "$work"/cut.*
say "ok: what is not sealed"

# ---- create ----

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
[ ! -e "$work/new.index" ] && [ ! -e "$work/new.index.part" ] || fail "a refused create leaves a file"
mv "$work/moved" "$work/new.index"
log_is "$work/new" "$work/empty.raw"
complains 1 "virtual size 1000 is not a multiple of 512" create "$work/odd" --size 1000
complains 1 "$work/no/such.data.part: No such file" create "$work/no/such" --size 1M
complains 2 "create: --config, --size or --from is missing" create "$work/odd"
complains 2 "create: --size 'x' is not a size" create "$work/odd" --size x
complains 2 "create: --size 0 is no disk" create "$work/odd" --size 0
complains 2 "create: --from goes with neither" create "$work/odd" --size 1 --from x
complains 1 "'' is no name of a writable layer" create "" --size 1M
complains 1 "'$work/' is no name of a writable layer" create "$work/" --size 1M
[ ! -e "$work/odd.data" ] || fail "a refused create leaves a file"
# What a create that was killed left is not in the way of the next one; one that runs is.
head -c 9M /dev/zero >"$work/odd.data.part"
: >"$work/odd.index.part"
hold "$work/odd" data.part
complains 1 "$work/odd.data.part: is in use by another process" create "$work/odd" --size 3M
release
"$overlaybd" create "$work/odd" --size 3M >/dev/null
log_is "$work/odd" "$work/empty.raw"
rm "$work"/odd.*
ls "$work" >"$work/out"
! grep -F .part "$work/out" || fail "left behind"
say "ok: new layers"

# Over an image, whose config names the layer that is not there yet.
mkdir "$work/over"
cp "$work/tailed.data" "$work/over/lower.obd"
printf 'lowers:\n  - file: lower.obd\nupper:\n  data: vm.data\n  index: vm.index\n' >"$work/over/image.yaml"
"$overlaybd" create "$work/over/vm" --config "$work/over/image.yaml" >"$work/summary"
same "its parent" "$(parent_of "$work/over/vm.data")" "$(uuid_of "$work/tailed.data")"
holds "$work/over/image.yaml" "$work/tailed.raw"
rm "$work/over/vm".*
"$overlaybd" create "$work/over/vm" --config "$work/over/image.yaml" --size 9M >"$work/summary"
cp "$work/tailed.raw" "$work/grown.raw"
truncate -s 9M "$work/grown.raw"
holds "$work/over/image.yaml" "$work/grown.raw"
rm "$work/over/vm".*
complains 1 "$work/over/image.yaml: --size 4194304 is smaller than the image's $size" \
	create "$work/over/vm" --config "$work/over/image.yaml" --size 4M
printf 'lowers: []\nupper:\n  data: vm.data\n  index: vm.index\n' >"$work/over/none.yaml"
complains 1 "$work/over/none.yaml: the image has no layers" create "$work/over/vm" --config "$work/over/none.yaml"
# What a lower layer holds beyond the image's end does not come back.
head -c 2M "$work/tailed.raw" >"$work/small.raw"
"$overlaybd" commit --raw "$work/small.raw" --base "$work/tailed.yaml" -o "$work/over/small.obd" >/dev/null
printf 'lowers:\n  - file: lower.obd\n  - file: small.obd\nupper:\n  data: vm.data\n  index: vm.index\n' \
	>"$work/over/image.yaml"
"$overlaybd" create "$work/over/vm" --config "$work/over/image.yaml" --size 5M >"$work/summary"
cp "$work/small.raw" "$work/grown.raw"
truncate -s 5M "$work/grown.raw"
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

# ---- commit ----

# commits UPPER OPTION...: its layer is $work/layer.obd.
commits()
{
	"$overlaybd" commit "$@" -o "$work/layer.obd" >"$work/summary" || fail "commit $*"
}

parent=00000000-0000-0000-0000-00000000000A
nil=00000000-0000-0000-0000-000000000000
make_upper long --writes 10 --span 9000
make_upper pending --pending
make_upper plain --base "$work/tailed.raw"
make_upper tailed --tail # the other one is sealed
for name in tailed pending sparse long; do
	commits "$work/$name" --compress none
	layer_is "$work/layer.obd" --disk "$work/$name.raw" --uuid $nil --parent-uuid $parent
done
commits "$work/plain" --compress none --uuid 0000000a-0000-0000-0000-00000000000b --parent-uuid $nil
layer_is "$work/layer.obd" --base "$work/tailed.raw" --disk "$work/plain.raw" \
	--uuid 0000000A-0000-0000-0000-00000000000B --parent-uuid $nil
[ -e "$work/pending.pending" ] || fail "a commit takes the pending file away"
"$overlaybd" seal "$work/pending" >/dev/null
layer_is "$work/pending.data" --in-place --disk "$work/pending.raw"
say "ok: commits of logs and of the sparse form"

# Compressed, wrapped, over a lower layer; the same bytes on one processor and by the config's name.
config "$work/stack.yaml" over/lower.obd layer.obd
for form in "--compress lz4" "--compress zstd --block-size 64K --tar" "--compress lz4 --level 9 --tar"; do
	# shellcheck disable=SC2086 # several options
	commits "$work/plain" $form
	holds "$work/stack.yaml" "$work/plain.raw"
	exits 0 ": ok" "$overlaybd" check "$work/stack.yaml"
	# shellcheck disable=SC2086
	taskset -c "$(one_cpu)" "$overlaybd" commit "$work/plain" -o "$work/again.obd" $form >/dev/null
	cmp "$work/layer.obd" "$work/again.obd" || fail "one processor gives another layer: $form"
	say "ok: commit $form"
done
printf 'lowers:\n  - file: over/lower.obd\nupper:\n  data: plain.data\n  index: plain.index\n' \
	>"$work/plain.yaml"
"$overlaybd" commit "$work/plain.yaml" -o "$work/again.obd" --compress lz4 --level 9 --tar >/dev/null
cmp "$work/layer.obd" "$work/again.obd" || fail "a config gives another layer"

# What the reference committed comes out byte for byte, whatever the order of the writes was.
# same_as_theirs LAYER OPTION...
same_as_theirs()
{
	local layer=$GOLDEN/$1 uuid parent

	shift
	"$overlaybd" extract "$layer" -o "$work/bare.obd" >/dev/null 2>&1 || cp "$layer" "$work/bare.obd"
	read -r uuid parent < <("$python" "$tests/layer-to-log.py" "$seed" "$work/bare.obd" "$work/like")
	commits "$work/like" --uuid "$uuid" "$@"
	cmp "$work/layer.obd" "$layer" || fail "$layer is committed otherwise"
}

for n in 0 1 2 3 4; do
	same_as_theirs raw-5/layer$n.obd --compress none
done
same_as_theirs mixed-3/layer0.obd --compress lz4 --tar
same_as_theirs mixed-3/layer1.obd --compress zstd --block-size 16K --tar
same_as_theirs mixed-3/layer2.obd --compress none
same_as_theirs tags/layer0.obd --tar --message "a commit message, 256 bytes at most"
say "ok: the reference's layers, byte for byte"

before=$(sha256 "$work/plain.data")
for part in data index pending intent data.new index.new; do
	complains 1 "the output: '$work/./plain.$part' is a file of the image: $work/plain.$part" \
		commit "$work/plain" -o "$work/./plain.$part"
	complains 1 "the output: '$work/./plain.$part' is a file of the image" \
		merge "$work/plain.yaml" -o "$work/./plain.$part"
done
complains 1 "the output: '$work/plain.yaml' is a file of the image" commit "$work/plain.yaml" \
	-o "$work/plain.yaml"
hold "$work/plain"
complains 1 "$work/plain.data: is in use by another process; 'overlaybd snapshot'" \
	commit "$work/plain" -o "$work/x.obd"
release
same "the input" "$(sha256 "$work/plain.data")" "$before"
printf 'lowers: []\nupper:\n  data: plain.data\n  index: other.index\n' >"$work/mixed.yaml"
complains 1 "$work/plain.data, $work/other.index: data and index file have different" \
	commit "$work/mixed.yaml" -o "$work/x.obd"
[ ! -e "$work/x.obd" ] || fail "a refused commit leaves a file"
say "ok: what is not committed"

# ---- merge ----

# The reference's images as one layer, whatever they are made of; the writable layer among them.
for set in mixed-3 raw-5 upper-log upper-sparse sealed; do
	"$overlaybd" merge "$(golden_config $set)" -o "$work/merged.obd" --compress none >"$work/summary"
	[ -e "$work/$set.raw" ] || make_flat $set
	layer_is "$work/merged.obd" --disk "$work/$set.raw" --uuid $nil --parent-uuid $nil
	grep -q " and 0 zeroed" "$work/summary" || fail "marks at the bottom: $(cat "$work/summary")"
done
say "ok: merges of the reference's images"

# Runs of layers: what is above and below stays as it is.
cp "$GOLDEN"/raw-5/*.obd "$work"
for run in 0-1 0-3 1-2 1-3 2- 3 0-; do
	from=${run%%-*} to=${run#*-}
	"$overlaybd" merge "$GOLDEN/raw-5/config.v1.json" --layers $run -o "$work/merged.obd" \
		--compress none >"$work/summary"
	layers=()
	for n in 0 1 2 3 4; do
		if [ "$n" -eq "$from" ]; then
			layers+=(merged.obd)
		elif [ "$n" -lt "$from" ] || [ "$n" -gt "${to:-4}" ]; then
			layers+=("layer$n.obd")
		fi
	done
	layer_is "$work/merged.obd"
	config "$work/run.yaml" "${layers[@]}"
	holds "$work/run.yaml" "$work/raw-5.raw"
	exits 0 "$work/run.yaml: ok" "$overlaybd" check "$work/run.yaml"
done
"$overlaybd" merge "$GOLDEN/mixed-3/config.v1.json" --layers 1-2 -o "$work/merged.obd" >"$work/summary"
grep -q " and [1-9][0-9]* zeroed" "$work/summary" || fail "no marks: $(cat "$work/summary")"
cp "$GOLDEN/mixed-3/layer0.obd" "$work"
config "$work/run.yaml" layer0.obd merged.obd
holds "$work/run.yaml" "$work/mixed-3.raw"
say "ok: merges of some layers"

# A small layer in the middle hides nothing of what it does not map.
printf 'lowers:\n  - file: over/lower.obd\n  - file: over/small.obd\nupper:\n  data: plain.data\n  index: plain.index\n' \
	>"$work/three.yaml"
serve three "$plugin" "$work/three.yaml"
nbdcopy "$(uri three)" "$work/three.raw"
complains 1 "$work/plain.data: is in use by process" merge "$work/three.yaml" -o "$work/x.obd"
stop three
"$overlaybd" merge "$work/three.yaml" --layers 0-1 -o "$work/merged.obd" >"$work/summary"
printf 'lowers:\n  - file: merged.obd\nupper:\n  data: plain.data\n  index: plain.index\n' >"$work/run.yaml"
holds "$work/run.yaml" "$work/three.raw"
"$overlaybd" merge "$work/three.yaml" -o "$work/merged.obd" --compress none >"$work/summary"
layer_is "$work/merged.obd" --disk "$work/three.raw"
# Above a run that holds more than its size says there is a layer that says none: the image stays as large.
head -c 4096 "$work/small.raw" >"$work/unsized.raw"
"$overlaybd" commit --raw "$work/unsized.raw" --compress none -o "$work/unsized.obd" >/dev/null
for at in 48 $(($(stat -c %s "$work/unsized.obd") - 4048)); do
	head -c 8 /dev/zero | dd of="$work/unsized.obd" bs=1 seek=$at conv=notrunc status=none
done
config "$work/run.yaml" over/lower.obd over/small.obd unsized.obd
holds "$work/run.yaml" "$work/small.raw"
"$overlaybd" merge "$work/run.yaml" --layers 0-1 -o "$work/merged.obd" >"$work/summary"
config "$work/run.yaml" merged.obd unsized.obd
holds "$work/run.yaml" "$work/small.raw"
complains 1 "the output: '$work/plain.data' is a file of the image" merge "$work/three.yaml" \
	-o "$work/plain.data"
complains 1 "$work/three.yaml: there is no layer 3, the topmost is 2" merge "$work/three.yaml" \
	--layers 1-3 -o "$work/x.obd"
complains 1 "$work/three.yaml: there is no layer 7, the topmost is 2" merge "$work/three.yaml" \
	--layers 7- -o "$work/x.obd"
complains 2 "merge: --layers '2-1' ends before it begins" merge "$work/three.yaml" --layers 2-1 -o x
complains 2 "merge: layer 'x' is not a number" merge "$work/three.yaml" --layers x -o "$work/x.obd"
complains 2 "merge: --output is missing" merge "$work/three.yaml"
[ ! -e "$work/x.obd" ] || fail "a refused merge leaves a file"
say "ok: what is not merged"

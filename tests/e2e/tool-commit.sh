#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tool-commit.sh - disks through `overlaybd commit` and back through nbdkit: the same bytes, whatever
# the compression, the wrapping and the number of layers; the same input gives the same layer.
. "$(dirname "$0")/tool-lib.sh"
need nbdkit nbdcopy taskset python3

seed=$(seed)
say "seed $seed"
disks=$tests/tool-disks.py

# commit ARGUMENT...: must work, and say in its summary how large the layer is.
commit()
{
	"$overlaybd" commit "$@" >"$work/summary" || fail "commit $*"
}

# three_layers NAME ARGUMENT...: disks a, b, c as a stack of layers that these options make.
three_layers()
{
	local name=$1 d=$work/$1

	shift
	mkdir "$d"
	config "$d/1.yaml" 1.obd
	config "$d/2.yaml" 1.obd 2.obd
	config "$d/3.yaml" 1.obd 2.obd 3.obd
	commit --raw "$work/a.raw" -o "$d/1.obd" "$@"
	commit --raw "$work/b.raw" --base "$d/1.yaml" -o "$d/2.obd" "$@"
	commit --raw "$work/c.raw" --base "$d/2.yaml" -o "$d/3.obd" "$@"
	holds "$d/1.yaml" "$work/a.raw"
	holds "$d/2.yaml" "$work/b.raw"
	holds "$d/3.yaml" "$work/c.raw"
	exits 0 ": ok" "$overlaybd" check "$d/3.yaml"
	say "ok: three layers, $name"
	rm -r "$d"
}

# Sizes that are no multiple of 4 KiB; the last disk has the first one's size.
size=$((3 * 1024 * 1024 + 4096 + 512))
"$python" "$disks" "$seed" $size "$work/a.raw"
"$python" "$disks" $((seed + 1)) $size "$work/b.raw" "$work/a.raw"
"$python" "$disks" $((seed + 2)) $size "$work/c.raw" "$work/b.raw"

# All forms in a full run, else some of them, which the seed chooses.
forms=("none --compress none" "none-tar --compress none --tar")
for algorithm in lz4 zstd; do
	for block_size in 4K 8K 16384 32k 64K; do
		form="$algorithm-$block_size --compress $algorithm --block-size $block_size"
		forms+=("$form" "${form/ /-tar } --tar")
	done
	forms+=("$algorithm-level --compress $algorithm --level 9")
done
[ "${FULL:-0}" = 1 ] || mapfile -t forms < <(printf '%s\n' "${forms[@]}" |
	shuf -n 6 --random-source=<(yes "$seed"))
for form in "${forms[@]}"; do
	# shellcheck disable=SC2086 # several options
	three_layers $form
done

# A disk that shrinks and grows again: what the lower layers hold beyond the smaller size must not
# come back.
d=$work/resized
mkdir "$d"
"$python" "$disks" $((seed + 3)) 1049088 "$d/small.raw" "$work/a.raw"
"$python" "$disks" $((seed + 4)) 5242880 "$d/large.raw" "$d/small.raw"
config "$d/1.yaml" 1.obd
config "$d/2.yaml" 1.obd 2.obd
config "$d/3.yaml" 1.obd 2.obd 3.obd
commit --raw "$work/a.raw" -o "$d/1.obd"
commit --raw "$d/small.raw" --base "$d/1.yaml" -o "$d/2.obd"
commit --raw "$d/large.raw" --base "$d/2.yaml" -o "$d/3.obd"
holds "$d/2.yaml" "$d/small.raw"
holds "$d/3.yaml" "$d/large.raw"
exits 0 "beyond the virtual size of 1049088" "$overlaybd" check "$d/2.yaml"
say "ok: a disk that shrinks and grows"

# Nothing changed: nothing is mapped.
commit --raw "$d/large.raw" --base "$d/3.yaml" -o "$d/4.obd"
grep -q "mapped 0 data and 0 zeroed" "$work/summary" || fail "an unchanged disk is not empty"
# All of it is gone: only zeroed ranges.
truncate -s 5242880 "$d/empty.raw"
commit --raw "$d/empty.raw" --base "$d/3.yaml" -o "$d/5.obd"
grep -q "mapped 0 data and [1-9]" "$work/summary" || fail "an emptied disk holds data"
config "$d/5.yaml" 1.obd 2.obd 3.obd 5.obd
holds "$d/5.yaml" "$d/empty.raw"
# Holes over holes are not read.
truncate -s 1T "$d/huge.raw"
printf x | dd of="$d/huge.raw" bs=1 seek=$((999 * 1024 * 1024 * 1024)) conv=notrunc status=none
commit --raw "$d/huge.raw" -o "$d/huge.obd"
grep -q "mapped 4096 data" "$work/summary" || fail "one block of a huge disk: $(cat "$work/summary")"
config "$d/huge.yaml" huge.obd
commit --raw "$d/huge.raw" --base "$d/huge.yaml" -o "$d/huge2.obd"
grep -q "mapped 0 data and 0 zeroed" "$work/summary" || fail "a huge disk over itself"
same "its data" "$("$overlaybd" map --json "$d/huge.yaml" |
	"$python" -c 'import json, sys
print(*[x["start"] for x in json.load(sys.stdin) if x["data"]])')" $((999 * 1024 * 1024 * 1024))
say "ok: unchanged, emptied and huge disks"

# The same input gives the same bytes: again, on one processor, and when holes are written zeroes.
for form in "--compress lz4" "--compress zstd --tar --block-size 64K" "--compress none"; do
	# shellcheck disable=SC2086 # several options
	commit --raw "$work/b.raw" --base "$d/1.yaml" -o "$d/x.obd" $form
	commit --raw "$work/b.raw" --base "$d/1.yaml" -o "$d/y.obd" $form
	cmp "$d/x.obd" "$d/y.obd" || fail "two runs differ: $form"
	taskset -c "$(one_cpu)" "$overlaybd" commit --raw "$work/b.raw" --base "$d/1.yaml" \
		-o "$d/y.obd" $form >"$work/summary"
	cmp "$d/x.obd" "$d/y.obd" || fail "one processor gives another layer: $form"
	cp --sparse=always "$work/b.raw" "$d/sparse.raw"
	commit --raw "$d/sparse.raw" --base "$d/1.yaml" -o "$d/y.obd" $form
	cmp "$d/x.obd" "$d/y.obd" || fail "holes give another layer: $form"
	cp --sparse=never "$work/b.raw" "$d/full.raw"
	commit --raw "$d/full.raw" --base "$d/1.yaml" -o "$d/y.obd" $form
	cmp "$d/x.obd" "$d/y.obd" || fail "written zeroes give another layer: $form"
	say "ok: the same bytes, $form"
done

# Identity.
uuid=01234567-89ab-cdef-0123-456789abcdef
commit --raw "$work/a.raw" -o "$d/u1.obd" --uuid $uuid --message "first
line"
config "$d/u1.yaml" u1.obd
commit --raw "$work/b.raw" --base "$d/u1.yaml" -o "$d/u2.obd"
field()
{
	"$overlaybd" info --json "$1" | "$python" -c 'import json, sys
print(json.load(sys.stdin)["lsmt"][sys.argv[1]])' "$2"
}
same uuid "$(field "$d/u1.obd" uuid)" ${uuid^^}
same message "$(field "$d/u1.obd" message)" "first
line"
same "escaped message" "$("$overlaybd" info "$d/u1.obd" | grep message:)" \
	'  message: first\x0aline'
same "parent uuid" "$(field "$d/u2.obd" parent-uuid)" ${uuid^^}
commit --raw "$work/b.raw" --base "$d/u1.yaml" -o "$d/u2.obd" \
	--parent-uuid 00000000-0000-0000-0000-00000000000a
same "given parent uuid" "$(field "$d/u2.obd" parent-uuid)" 00000000-0000-0000-0000-00000000000A
config "$d/u2.yaml" u1.obd u2.obd
exits 0 "warning: $d/u2.yaml: layer 1: its parent uuid is 00000000-0000-0000-0000-00000000000A" \
	"$overlaybd" check "$d/u2.yaml"
say "ok: uuids and message"

# What is refused, and leaves nothing behind.
commit --raw "$work/a.raw" -o "$d/1.obd"
before=$(sha256 "$d/1.obd")
complains 1 "the output: '$d/1.obd' is a file of the image" commit --raw "$work/a.raw" --base "$d/1.yaml" \
	-o "$d/1.obd"
ln -s 1.obd "$d/link"
complains 1 "the output: '$d/link' is a file of the image" commit --raw "$work/a.raw" --base "$d/1.yaml" \
	-o "$d/link"
complains 1 "the output '$work/a.raw' is the input" commit --raw "$work/a.raw" -o "$work/a.raw"
complains 1 "the output: '$d/1.yaml' is a file of the image" commit --raw "$work/a.raw" --base "$d/1.yaml" \
	-o "$d/1.yaml"
same "the input" "$(sha256 "$d/1.obd")" "$before"
truncate -s 1000 "$d/odd.raw"
complains 1 "$d/odd.raw: its size, 1000, is not a multiple of 512" commit --raw "$d/odd.raw" \
	-o "$d/odd.obd"
truncate -s 0 "$d/none.raw"
complains 1 "$d/none.raw: an empty disk" commit --raw "$d/none.raw" -o "$d/odd.obd"
# Most file systems have no files of this size, tmpfs does.
huge=/dev/shm/overlaybd-huge.$$
if truncate -s 1E "$huge" 2>/dev/null; then
	(
		trap 'rm -f "$huge"' EXIT
		complains 1 "$huge: its size, 1152921504606846976, is over 2^50 sectors" \
			commit --raw "$huge" -o "$d/odd.obd"
	)
fi
complains 1 "$d/no.raw: No such file" commit --raw "$d/no.raw" -o "$d/odd.obd"
complains 1 "$d: " commit --raw "$d" -o "$d/odd.obd"
complains 1 "$d/no/odd.obd: " commit --raw "$work/a.raw" -o "$d/no/odd.obd"
complains 1 "$d: exists and is not a regular file" commit --raw "$work/a.raw" -o "$d"
complains 1 "/dev/null: " commit --raw /dev/null -o "$d/odd.obd"
mkfifo "$d/fifo"
complains 1 "$d/fifo: " commit --raw "$d/fifo" -o "$d/odd.obd"
complains 1 "$d/no.yaml: No such file" commit --raw "$work/a.raw" --base "$d/no.yaml" \
	-o "$d/odd.obd"
[ ! -e "$d/odd.obd" ] || fail "a refused commit left a file"
say "ok: refusals"

# A disk that changes while it is read: slowly, so that the change comes in the middle.
has_open()
{
	ls -l "/proc/$1/fd" 2>/dev/null | grep -qF "$2"
}

"$python" -c 'import random, sys
sys.stdout.buffer.write(random.Random(1).randbytes(1 << 20) * 48)' >"$d/slow.raw"
for change in "touch" "truncate -s +1M" "truncate -s 8M"; do
	cp "$d/slow.raw" "$d/changing.raw"
	taskset -c "$(one_cpu)" "$overlaybd" commit --raw "$d/changing.raw" --compress zstd \
		--level 19 -o "$d/odd.obd" >"$work/out" 2>&1 &
	pid=$!
	await 30 has_open $pid "$d/changing.raw" || fail "the commit does not begin"
	sleep 0.2
	has_open $pid "$d/changing.raw" || fail "the commit was too quick: $(cat "$work/out")"
	$change "$d/changing.raw"
	status=0
	wait $pid || status=$?
	same "status after $change" $status 1
	grep -qF "while it was read" "$work/out" || fail "no word of the change: $(cat "$work/out")"
	[ ! -e "$d/odd.obd" ] || fail "a failed commit left a file"
done
say "ok: disks that change"

# A block device has neither holes nor a time of change.
cp "$work/a.raw" "$d/device.raw"
if device=$(losetup --find --show --read-only "$d/device.raw" 2>"$work/out"); then
	status=0
	"$overlaybd" commit --raw "$device" -o "$d/device.obd" >"$work/summary" || status=$?
	losetup --detach "$device"
	same "status" $status 0
	cmp "$d/1.obd" "$d/device.obd" || fail "a block device gives another layer"
	say "ok: a block device"
else
	say "not tested, no loop device here: $(cat "$work/out")"
fi

# What is made stays although nobody can be told of it, and the message says so.
if [ -w /dev/full ]; then
	full()
	{
		local made=$1

		shift
		exits 1 "" bash -c '"$@" >/dev/full' - "$overlaybd" "$@"
		same "message" "$(cat "$work/out")" \
			"overlaybd: writing to standard output: No space left on device ($made is complete)"
	}
	full "$work/full.obd" commit --raw "$work/a.raw" -o "$work/full.obd"
	commit --raw "$work/a.raw" -o "$work/told.obd"
	cmp "$work/full.obd" "$work/told.obd" || fail "a layer that nobody was told of is another"
	"$overlaybd" create "$work/upper" --size 1M >"$work/summary"
	full "$work/upper" resize "$work/upper" 2M
	full "$work/upper" compact "$work/upper"
	full "$work/upper" seal "$work/upper"
	exits 0 ": ok" "$overlaybd" check "$work/upper.data"
	say "ok: a full standard output"
fi

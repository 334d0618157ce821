#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tool-compress.sh - any file to a ZFile and back, tar wrappers, what is refused.
. "$(dirname "$0")/tool-lib.sh"
need taskset python3

seed=$(seed)
say "seed $seed"

# round_trip FILE OPTION...
round_trip()
{
	local file=$1

	shift
	"$overlaybd" compress "$file" -o "$work/z" "$@" >/dev/null
	taskset -c "$(one_cpu)" "$overlaybd" compress "$file" -o "$work/z1" "$@" >/dev/null
	cmp "$work/z" "$work/z1" || fail "one processor gives another ZFile: $file $*"
	"$overlaybd" extract "$work/z" -o "$work/back" >/dev/null
	cmp "$file" "$work/back" || fail "$file is not what it was: $*"
	exits 0 "holds no layer" "$overlaybd" check "$work/z"
}

"$python" "$tests/tool-disks.py" "$seed" 3000000 "$work/data"
for algorithm in lz4 zstd; do
	for size in 0 1 4095 4096 4097 65536 2999999; do
		head -c $size "$work/data" >"$work/file"
		round_trip "$work/file" --algorithm $algorithm
		round_trip "$work/file" --algorithm $algorithm --block-size 64K --level 7
	done
	for block_size in 4096 8K 16K 32K 65536; do
		round_trip "$work/data" --algorithm $algorithm --block-size $block_size
	done
	say "ok: there and back, $algorithm"
done

# Blocks that grow.
head -c 1000000 /dev/urandom >"$work/random"
round_trip "$work/random" --block-size 64K
round_trip "$work/random" --block-size 64K --algorithm zstd
say "ok: data that does not compress"

# Tar wrappers, with and without a ZFile in them.
for set in mixed-3 lz4-64k-grown zstd-64k-grown; do
	"$overlaybd" extract "$GOLDEN/$set/layer0.obd" -o "$work/lsmt" >/dev/null
	same "magic of $set" "$(head -c 4 "$work/lsmt")" LSMT
	exits 0 ": ok" "$overlaybd" check "$work/lsmt"
done
tar -C "$work" --format=ustar -cf "$work/bare.tar" lsmt
"$overlaybd" extract "$work/bare.tar" -o "$work/back" >/dev/null
cmp "$work/lsmt" "$work/back" || fail "the payload of a tar archive"
say "ok: tar wrappers"

# An output takes the place of a file only when it is whole.
echo precious >"$work/kept"
printf '\xff' | dd of="$work/z" bs=1 seek=600 conv=notrunc status=none
complains 1 "$work/z: zfile block " extract "$work/z" -o "$work/kept"
same "the file" "$(cat "$work/kept")" precious
complains 1 "$work/file: neither a ZFile nor in a tar archive" extract "$work/file" -o "$work/kept"
complains 1 "$work/no: No such file" compress "$work/no" -o "$work/kept"
complains 1 "$work/no: No such file" extract "$work/no" -o "$work/kept"
complains 1 "the output '$work/file' is the input" compress "$work/file" -o "$work/file"
complains 1 "the output '$work/z' is the input" extract "$work/z" -o "$work/z"
same "the file" "$(cat "$work/kept")" precious
if [ -w /dev/full ]; then
	exits 1 "writing to standard output" bash -c '"$1" info "$2" >/dev/full' - "$overlaybd" \
		"$GOLDEN/tags/layer0.obd"
	same "what info says" "$(cat "$work/out")" \
		"overlaybd: writing to standard output: No space left on device"
fi
say "ok: refusals"

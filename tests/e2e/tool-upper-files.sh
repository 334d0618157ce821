#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tool-upper-files.sh - `overlaybd resize` and `overlaybd compact`, and what they leave when they are killed.
. "$(dirname "$0")/upper-lib.sh"
need nbdkit nbdcopy flock pkill python3

# over NAME LAYER...: the config $work/NAME.yaml of the writable layer NAME over these.
over()
{
	local name=$1

	shift
	config "$work/$name.yaml" "$@"
	[ $# -gt 0 ] || echo "lowers: []" >"$work/$name.yaml"
	printf 'upper:\n  data: %s.data\n  index: %s.index\n' "$name" "$name" >>"$work/$name.yaml"
}

# ---- compact ----

make_upper log --tail --writes 400
before=$(uuid_of "$work/log.data")
chmod 600 "$work/log.data"
"$overlaybd" compact "$work/log" >"$work/summary" 2>"$work/out"
same "its mode" "$(stat -c %a "$work/log.data")" 600
log_is "$work/log" "$work/log.raw"
same "its uuid" "$(uuid_of "$work/log.data")" "$before"
now=$(($(stat -c %s "$work/log.data") + $(stat -c %s "$work/log.index")))
grep -qE "^$work/log.data, $work/log.index: $now bytes, before [0-9]+\$" "$work/summary" ||
	fail "$(cat "$work/summary")"
[ "$now" -lt "${size}" ] || fail "$now bytes are left"
cp "$work/log.data" "$work/once"
chmod 600 "$work/log.data"
chmod 640 "$work/log.index"
[ "$(id -u)" != 0 ] || chown 1234:4321 "$work/log.data"
owner=$(stat -c %u:%g "$work/log.data")
"$overlaybd" compact "$work/log" >"$work/summary"
cmp "$work/log.data" "$work/once" || fail "a dense log changes"
same "owner and modes" "$(stat -c %u:%g:%a "$work/log.data") $(stat -c %a "$work/log.index")" "$owner:600 640"
make_upper pending --pending
over pending
"$overlaybd" compact "$work/pending.yaml" >"$work/summary"
log_is "$work/pending" "$work/pending.raw"
ls "$work" >"$work/out"
! grep -qE '\.(new|intent|pending|part)$' "$work/out" || fail "left behind: $(cat "$work/out")"
# The reference's own log.
cp -r "$GOLDEN/upper-log" "$work/theirs"
make_flat upper-log
"$overlaybd" compact "$work/theirs/config.v1.json" >"$work/summary"
holds "$work/theirs/config.v1.json" "$work/upper-log.raw"
hold "$work/log"
complains 1 "$work/log.data: is in use by another process" compact "$work/log"
complains 1 "$work/log.data: is in use by another process" resize "$work/log" 8M
printf 'upper: {data: log.data, index: log.index}\n' >"$work/based.yaml"
truncate -s 8M "$work/based.raw"
complains 1 "$work/log.data: is in use by another process" commit --raw "$work/based.raw" \
	--base "$work/based.yaml" -o "$work/based.obd"
release
make_upper sparse --sparse
complains 1 "$work/sparse.data: a sparse layer is not written to" compact "$work/sparse"
complains 1 "$work/sparse.data: a sparse layer is not written to" resize "$work/sparse" 8M
say "ok: compact"

# ---- resize ----

# grows_to SIZE: the log is a larger disk, of zeroes at its end.
grows_to()
{
	cp "$work/log.raw" "$work/grown.raw"
	truncate -s "$1" "$work/grown.raw"
	log_is "$work/log" "$work/grown.raw"
}

"$overlaybd" resize "$work/log" 8M >"$work/summary"
grep -qxF "$work/log.data: a disk of 8388608 bytes, before $size" "$work/summary" || fail "$(cat "$work/summary")"
grows_to 8M
complains 1 "$work/log.data: it holds data at " resize "$work/log" 1M
grows_to 8M
complains 1 "1000 is no virtual size" resize "$work/log" 1000
complains 1 "0 is no virtual size" resize "$work/log" 0
complains 1 "$work/log.data: too much grows at once where the layers below are not known" \
	resize "$work/log" 65536T
[ "$(stat -c %s "$work/log.index")" -lt 65536 ] || fail "a refused resize leaves records"
complains 2 "resize: size 'x' is not a size" resize "$work/log" x
# The reference and whoever else reads both headers.
"$overlaybd" resize "$work/log" $size >"$work/summary"
over log
holds "$work/log.yaml" "$work/log.raw"
same "size of one file" "$("$overlaybd" resize "$work/log" $size | tail -1)" \
	"$work/log.data: a disk of $size bytes, before $size"
say "ok: resize"

# Layers below: what they hold beyond a smaller disk's end does not come back.
make_upper lower
"$overlaybd" commit "$work/lower" -o "$work/lower.obd" >/dev/null
over vm lower.obd
"$overlaybd" create "$work/vm" --config "$work/vm.yaml" >/dev/null
complains 1 "$work/vm.yaml: its layers hold data beyond 1048576" resize "$work/vm.yaml" 1M
"$overlaybd" resize "$work/vm" 1M >/dev/null
head -c 1M "$work/lower.raw" >"$work/vm.raw"
holds "$work/vm.yaml" "$work/vm.raw"
for operand in vm vm.yaml; do
	cp "$work/vm.data" "$work/data" && cp "$work/vm.index" "$work/index"
	"$overlaybd" resize "$work/$operand" 7M >/dev/null
	head -c 1M "$work/lower.raw" >"$work/vm.raw"
	truncate -s 7M "$work/vm.raw"
	holds "$work/vm.yaml" "$work/vm.raw"
	mv "$work/data" "$work/vm.data" && mv "$work/index" "$work/vm.index"
done
say "ok: resize over layers"

# ---- killed half way ----

# An intent whose work was not begun, or done in part: whoever opens the log completes it.
intent()
{
	"$python" - "$@" <<'END'
import struct, sys
def crc(data):
    state = 0
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state
path, kind, size, uuid = sys.argv[1:]
head = b"OBDINTN1" + struct.pack("<QQ", int(kind), int(size)) + uuid.encode()
head = head.ljust(124, b"\0")
open(path, "wb").write(head + struct.pack("<I", crc(head)))
END
}

make_upper cut
over cut
uuid=$(uuid_of "$work/cut.data")
intent "$work/cut.intent" 1 6291456 "$uuid"
same "what a reader sees" "$("$overlaybd" info --json "$work/cut.yaml" |
	"$python" -c 'import json, sys; print(json.load(sys.stdin)["virtual-size"])')" 6291456
[ -e "$work/cut.intent" ] || fail "a reader completes what it may not"
cp "$work/cut.raw" "$work/log.raw"
mv "$work/log.data" "$work/old.data"
"$overlaybd" compact "$work/cut" >/dev/null
truncate -s 6M "$work/cut.raw"
log_is "$work/cut" "$work/cut.raw"
[ ! -e "$work/cut.intent" ] || fail "the intent is still there"

# New files, of which one has its name already.
make_upper full
for done in none data both; do
	cp "$work/full.data" "$work/cut.data" && cp "$work/full.index" "$work/cut.index"
	cp "$work/full.data" "$work/new.data" && cp "$work/full.index" "$work/new.index"
	"$overlaybd" compact "$work/new" >/dev/null
	case $done in
	none) mv "$work/new.data" "$work/cut.data.new" && mv "$work/new.index" "$work/cut.index.new" ;;
	data) mv "$work/new.data" "$work/cut.data" && mv "$work/new.index" "$work/cut.index.new" ;;
	both) mv "$work/new.data" "$work/cut.data" && mv "$work/new.index" "$work/cut.index" ;;
	esac
	intent "$work/cut.intent" 2 0 "$(uuid_of "$work/full.data")"
	"$overlaybd" commit "$work/cut" --compress none -o "$work/cut.obd" >/dev/null
	layer_is "$work/cut.obd" --disk "$work/full.raw"
	holds "$work/cut.yaml" "$work/full.raw" "$work/cut" # opens it for writing, and says what it completed
	[ ! -e "$work/cut.intent" ] && [ ! -e "$work/cut.data.new" ] && [ ! -e "$work/cut.index.new" ] ||
		fail "not completed: $done"
	log_is "$work/cut" "$work/full.raw"
done

# An intent for another layer, a damaged one, new files without one.
intent "$work/cut.intent" 1 512 11111111-1111-1111-1111-111111111111
cp "$work/full.data" "$work/cut.data.new"
holds "$work/cut.yaml" "$work/full.raw" "an intent for another layer" "what a compaction that was stopped left is removed"
[ ! -e "$work/cut.intent" ] && [ ! -e "$work/cut.data.new" ] || fail "leftovers stay"
intent "$work/cut.intent" 1 512 "$(uuid_of "$work/full.data")"
printf x | dd of="$work/cut.intent" bs=1 seek=16 conv=notrunc status=none
complains 1 "$work/cut.intent: is damaged" commit "$work/cut" -o "$work/x.obd"
complains 1 "$work/cut.intent: is damaged" compact "$work/cut"
intent "$work/cut.intent" 7 512 "$(uuid_of "$work/full.data")"
complains 1 "$work/cut.intent: is of an unknown kind, 7" compact "$work/cut"
rm "$work/cut.intent"
# A new layer of that name has nothing to do with an old one's intent.
intent "$work/fresh.intent" 1 512 "$(uuid_of "$work/full.data")"
"$overlaybd" create "$work/fresh" --size 1M >/dev/null
[ ! -e "$work/fresh.intent" ] || fail "a new layer has an intent"
say "ok: what was begun is completed"

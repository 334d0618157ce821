#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tool-damage.sh - a damaged writable layer is found, refused and repaired; and tools read an image
# while snapshots replace its config.
. "$(dirname "$0")/upper-lib.sh"
need nbdkit nbdcopy python3
need_python_nbd

# ---- damage ----

make_upper log --writes 100
printf 'lowers: []\nupper:\n  data: log.data\n  index: log.index\n' >"$work/log.yaml"
"$overlaybd" compact "$work/log" >"$work/summary" # gives it our checksums
exits 0 "$work/log.yaml: ok" "$overlaybd" check "$work/log.yaml"
cp "$work/log.index" "$work/whole"
"$python" - "$work/log.index" <<'END'
import sys
f = open(sys.argv[1], "r+b")
f.seek(4096 + 16 * 3 + 1)
byte = f.read(1)[0]
f.seek(-1, 1)
f.write(bytes([byte ^ 4]))
END
cp "$work/log.index" "$work/damaged"
exits 1 "overlaybd repair" "$overlaybd" check "$work/log.yaml"
exits 1 "overlaybd repair" "$overlaybd" info "$work/log.yaml"
exits 1 "overlaybd repair" "$overlaybd" seal "$work/log"
exits 1 "overlaybd repair" nbdkit_ -f -U "$work/no.sock" "$plugin" "$work/log.yaml"
cmp "$work/log.index" "$work/damaged" || fail "somebody cut the damaged log"
exits 0 "was damaged" "$overlaybd" repair "$work/log"
exits 0 "$work/log.yaml: ok" "$overlaybd" check "$work/log.yaml"
exits 0 "nothing to repair" "$overlaybd" repair "$work/log.yaml"
cp "$work/whole" "$work/log.index"
log_is "$work/log" "$work/log.raw"
exits 0 "nothing to repair" "$overlaybd" repair "$work/log"
cmp "$work/whole" "$work/log.index" || fail "a whole log was repaired"
hold "$work/log"
complains 1 "$work/log.data: is in use by another process" repair "$work/log"
release
say "ok: found, refused, repaired"

# ---- what an older version acknowledged ----

# older: a pending file of its form, which marks zeroes and so tells nobody how new it is
older()
{
	"$python" - "$work/log.index" "$work/log.pending" "$(dirname "$0")" <<-'END'
		import importlib.util, struct, sys
		spec = importlib.util.spec_from_file_location("maker", sys.argv[3] + "/make-upper.py")
		maker = importlib.util.module_from_spec(spec)
		spec.loader.exec_module(maker)
		uuid = open(sys.argv[1], "rb").read(93)[56:92]
		boot = open("/proc/sys/kernel/random/boot_id", "rb").read()[:36]
		head = (b"OBDPEND1" + struct.pack("<Q", 4321) + boot + uuid).ljust(124, b"\0")
		head += struct.pack("<I", maker.crc(head))
		record = struct.pack("<QQ", 2 | 3 << 50, 8 | 1 << 55)
		open(sys.argv[2], "wb").write(head + record)
	END
}
older
for tool in check info map; do
	exits 1 "process 4321, acknowledged 1 writes" "$overlaybd" $tool "$work/log.yaml"
done
exits 1 "overlaybd repair --acknowledged=apply" "$overlaybd" repair "$work/log"
cp "$work/damaged" "$work/log.index"
exits 1 "overlaybd repair --acknowledged=apply" "$overlaybd" repair "$work/log"
cmp "$work/damaged" "$work/log.index" || fail "repaired before it was known what becomes of the rest"
cp "$work/whole" "$work/log.index"
exits 2 "is 'apply' or 'drop', not 'keep'" "$overlaybd" repair --acknowledged keep "$work/log"
log_is_given_up="acknowledged and did not flush is given up as you asked"
exits 0 "$log_is_given_up" "$overlaybd" repair --acknowledged=drop "$work/log"
log_is "$work/log" "$work/log.raw"
older
exits 0 "1 writes that a process acknowledged" "$overlaybd" repair --acknowledged=apply "$work/log"
dd if=/dev/zero of="$work/log.raw" bs=512 seek=2 count=3 conv=notrunc status=none
log_is "$work/log" "$work/log.raw"
[ ! -e "$work/log.pending" ] || fail "what was applied is still there"
say "ok: asked for, given up, applied"

# ---- while snapshots are made ----

mkdir "$work/disk"
cat >"$work/disk/image.yaml" <<-end
	lowers: []
	upper: {data: u.data, index: u.index}
	control: ctl
end
"$overlaybd" create "$work/disk/u" --size 4M >"$work/made"
serve disk "$plugin" "$work/disk/image.yaml"
exits 1 "choose another" "$overlaybd" snapshot --socket "$work/disk/ctl" -o "$work/disk/u-2.pending"
[ ! -e "$work/disk/u-2.pending" ] || fail "a layer has a name that an upper needs"
exits 1 "it is not UTF-8" "$overlaybd" snapshot --socket "$work/disk/ctl" -o "$work/disk/$(printf 'a\377b')"
# snapshots FIRST LAST
snapshots()
{
	local i

	for ((i = $1; i <= $2; i++)); do
		"$overlaybd" snapshot --socket "$work/disk/ctl" -o "$work/disk/$i.obd" >"$work/snapshots" 2>&1 ||
			return 1
	done
}
# A look of each kind while three snapshots are made, eight times.
for round in {0..7}; do
	snapshots $((3 * round + 1)) $((3 * round + 3)) &
	maker=$!
	for what in info map check; do
		"$overlaybd" $what "$work/disk/image.yaml" >"$work/out" 2>&1 ||
			fail "$what while snapshots are made: $(cat "$work/out")"
	done
	wait $maker || fail "a snapshot: $(cat "$work/snapshots")"
done
stop disk
say "ok: 24 looks at an image that changes"

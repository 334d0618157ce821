#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A writable export: every kind of change against a model, who may write and who may not, a full disk,
# and the bytes that are left behind.  The numbers in brackets are the invariants of core/upper_log.c.
. "$(dirname "$0")/lib.sh"
need nbdkit nbdcopy nbdinfo
need_python_nbd

writer()
{
	"$python" "$SOURCE/tests/e2e/writer.py" "$@"
}

field() # NAME FIELD: what nbdinfo says of the export
{
	nbdinfo --json "$(uri "$1")" | "$python" -c 'import json, sys
print(json.load(sys.stdin)["exports"][0].get(sys.argv[1]))' "$2"
}

check_bytes() # UPPER [DISK]
{
	"$python" "$SOURCE/tests/check-upper.py" "$1.data" "$1.index" "${@:2}" >"$work/bytes" ||
		fail "$(cat "$work/bytes")"
}

seed=$(seed)
say "seed $seed"
make_flat mixed-3
mkdir "$work/disk"
cat >"$work/disk/image.yaml" <<-end
	lowers:
	  - file: $GOLDEN/mixed-3/layer0.obd
	  - file: $GOLDEN/mixed-3/layer1.obd
	  - file: $GOLDEN/mixed-3/layer2.obd
	upper: {data: upper.data, index: upper.index}
end

say "an upper that is not there"
refuses "upper: $work/disk/upper.data: no such file; 'overlaybd create' makes an upper" \
	"$work/disk/image.yaml"

say "random changes over three layers, on four connections [1, 6]"
"$overlaybd" create "$work/disk/upper" --config "$work/disk/image.yaml" >"$work/created"
cp "$work/mixed-3.raw" "$work/model"
serve disk "$plugin" "$work/disk/image.yaml"
for key in can_flush can_fua can_trim can_zero can_fast_zero can_multi_conn; do
	same "$key" "$(field disk $key)" True
done
same "is_read_only" "$(field disk is_read_only)" False
writer mix "$(uri disk)" "$work/model" "$(times 10000)" "$seed" 4
"$overlaybd" check "$work/disk/image.yaml" >"$work/checked" 2>&1 ||
	fail "check beside the server: $(cat "$work/checked")"

say "a second process is refused, and told by whom [2]"
refuses "$work/disk/upper.data: is in use by process $(cat "$work/disk.pid")" \
	"$work/disk/image.yaml"
stop disk
check_bytes "$work/disk/upper"
[ ! -e "$work/disk/upper.pending" ] || fail "the pending file outlives an orderly end"
say "what was written is there after a restart, and the tools see it"
serve disk "$plugin" "$work/disk/image.yaml"
writer compare "$(uri disk)" "$work/model"
writer mix "$(uri disk)" "$work/model" "$(times 2000)" "$((seed + 1))" 2
stop disk
check_bytes "$work/disk/upper"
"$overlaybd" check "$work/disk/image.yaml" >"$work/checked"
"$overlaybd" map "$work/disk/image.yaml" >"$work/mapped"
"$overlaybd" info "$work/disk/image.yaml" >"$work/info"

say "nbdkit -r, and an image without an upper: no writing"
for arguments in "-r $work/disk/image.yaml" "$GOLDEN/mixed-3/config.v1.json"; do
	# shellcheck disable=SC2086
	serve only "$plugin" $arguments
	same "is_read_only" "$(field only is_read_only)" True
	"$python" - "$(uri only)" <<-'end'
		import sys, nbd
		h = nbd.NBD()
		h.set_strict_mode(0)
		h.connect_uri(sys.argv[1])
		for change in (lambda: h.pwrite(b"x", 0), lambda: h.zero(512, 0), lambda: h.trim(512, 0)):
		    try:
		        change()
		        sys.exit("a read-only disk takes a change")
		    except nbd.Error as e:
		        assert e.errno in ("EPERM", "EROFS"), e
	end
	stop only "write request on readonly connection"
done
serve disk "$plugin" "$work/disk/image.yaml"
writer compare "$(uri disk)" "$work/model"
stop disk

say "upper= on top of a config and its own upper"
"$overlaybd" create "$work/extra" --config "$work/disk/image.yaml" >"$work/created"
head -c "$(stat -c %s "$work/mixed-3.raw")" "$work/mixed-3.raw" >"$work/model-2"
(cd "$work" && LD_PRELOAD=${NBDKIT_PRELOAD:-} exec nbdkit -f -U "$work/x.sock" -P "$work/x.pid" "$plugin" disk/image.yaml \
	upper=extra upper-garbage=0 2>"$work/x.log") &
servers[x]=$!
await 30 test -s "$work/x.pid" || fail "upper=: $(cat "$work/x.log")"
writer mix "$(uri x)" "$work/model-2" 50 "$((seed + 2))"
stop x
check_bytes "$work/extra"

say "a log of the reference is written on [4]"
make_flat upper-log
config=$(golden_config upper-log)
cp "$work/upper-log.raw" "$work/model-3"
serve log "$plugin" "$config"
writer mix "$(uri log)" "$work/model-3" "$(times 4000)" "$((seed + 3))" 2
stop log
serve log "$plugin" "$config"
writer compare "$(uri log)" "$work/model-3"
stop log

say "a sparse upper of the reference is served read-only, and says so once"
serve sparse "$plugin" "$(golden_config upper-sparse)"
same "is_read_only" "$(field sparse is_read_only)" True
same "warnings" "$(grep -c "is sparse, and served read-only: 'overlaybd create" "$work/sparse.log")" 1
stop sparse "is sparse, and served read-only: "

say "a disk without lowers: its bytes make the disk [6]"
"$overlaybd" create "$work/alone" --size 3M >"$work/created"
printf 'upper: {data: alone.data, index: alone.index}\n' >"$work/alone.yaml"
truncate -s 3M "$work/model-4"
serve alone "$plugin" "$work/alone.yaml"
writer mix "$(uri alone)" "$work/model-4" "$(times 10000)" "$((seed + 4))" 3
stop alone
check_bytes "$work/alone" "$work/model-4"

say "SIGTERM flushes while a client is attached [2]"
serve alone "$plugin" "$work/alone.yaml"
"$python" - "$(uri alone)" "$(cat "$work/alone.pid")" "$work/alone" "$SOURCE/tests/check-upper.py" \
	"$work/model-4" <<'end'
import os, signal, subprocess, sys, time, nbd
uri, pid, upper, check, model = sys.argv[1:]
h = nbd.NBD()
h.connect_uri(uri)
h.pwrite(b"late" * 1024, 8192)
disk = bytearray(open(model, "rb").read())
disk[8192:12288] = b"late" * 1024
open(model, "wb").write(disk)
os.kill(int(pid), signal.SIGTERM)
for _ in range(200):
    time.sleep(0.05)
    if subprocess.run([sys.executable, check, upper + ".data", upper + ".index", model],
                      capture_output=True).returncode == 0:
        break
else:
    sys.exit("no flush at SIGTERM")
end
wait "${servers[alone]}" || fail "the server ends with $?"
unset "servers[alone]"

[ "$(id -u)" -eq 0 ] || skip "only root mounts and changes users; all else passed"

fill_small()
{
	! dd if=/dev/zero bs=4096 2>"$work/dd.log" >>"$work/small/full" || fail "there is space left"
}

if mkdir "$work/small" && mount -t tmpfs -o size=6m none "$work/small" 2>"$work/mount.log"; then
	mounts+=("$work/small")
	say "a full disk: ENOSPC, and nothing that was acknowledged is lost [2, 3]"
	"$overlaybd" create "$work/small/u" --size 32M >"$work/created"
	printf 'upper: {data: small/u.data, index: small/u.index}\n' >"$work/small.yaml"
	truncate -s 32M "$work/model-5"
	serve small "$plugin" "$work/small.yaml"
	writer until "$(uri small)" "$work/model-5" ENOSPC "$seed"
	# As fstrim in the guest does, which makes room.
	"$python" - "$(uri small)" "$work/model-5" <<-'end'
		import sys, time, nbd
		h = nbd.NBD()
		h.connect_uri(sys.argv[1])
		model = open(sys.argv[2], "r+b")
		for at in range(0, 16 << 20, 1 << 20):
		    h.trim(1 << 20, at)
		    model.seek(at)
		    model.write(bytes(1 << 20))
		for _ in range(200):
		    h.flush()
		    try:
		        h.pwrite(b"y" * 4096, 4096)
		        break
		    except nbd.Error:
		        time.sleep(0.05)
		else:
		    sys.exit("trims and flushes make no room")
		model.seek(4096)
		model.write(b"y" * 4096)
		h.flush()
	end
	kill -9 "${servers[small]}"
	wait "${servers[small]}" || true
	unset "servers[small]"
	# Not a byte is left; it starts, and is written to again when there is space.
	fill_small
	serve small "$plugin" "$work/small.yaml"
	fill_small # what the end of the data gave back
	writer compare "$(uri small)" "$work/model-5"
	same "a write" "$("$python" - "$(uri small)" <<-'end'
		import sys, nbd
		h = nbd.NBD()
		h.connect_uri(sys.argv[1])
		try:
		    h.pwrite(b"x" * 4096, 0)
		except nbd.Error as error:
		    print(error.errno)
		end
	)" ENOSPC
	kill -9 "${servers[small]}"
	wait "${servers[small]}" || true
	fill_small # what was given back for the refused write
	serve small "$plugin" "$work/small.yaml"
	# This time the index has no room that it could give back.
	log_has small "$work/small/u.data: no space left: it can be read"
	mount -o remount,size=64m "$work/small"
	writer compare "$(uri small)" "$work/model-5"
	writer mix "$(uri small)" "$work/model-5" 50 "$seed"
	stop small "u.data: no space left: it can be read, and written to once there is space"
	check_bytes "$work/small/u" "$work/model-5"
else
	say "no tmpfs can be mounted: the full disk is left out"
fi

id nobody >/dev/null 2>&1 || skip "there is no user nobody; all else passed"
say "a daemon that becomes nobody goes on writing, and is named by its own pid"
mkdir -m 755 "$work/run"
chmod 711 "$work"
chown nobody "$work/run"
chmod 700 "$work/disk"
nbdkit_ -P "$work/run/pid" -U "$work/run/sock" -u nobody "$plugin" "$work/disk/image.yaml"
await 10 test -s "$work/run/pid" || fail "the daemon writes no pid"
pid=$(cat "$work/run/pid")
same "user" "$(stat -c %U "/proc/$pid")" nobody
await 10 grep -q . "$work/run/pid"
refuses "$work/disk/upper.data: is in use by process $pid" "$work/disk/image.yaml"
writer mix "nbd+unix:///?socket=$work/run/sock" "$work/model" "$(times 2000)" "$seed" 2
writer fill "nbd+unix:///?socket=$work/run/sock" 4096 4096 7
printf '\7%.0s' {1..4096} | dd of="$work/model" bs=4096 seek=1 conv=notrunc status=none
kill -9 "$pid"
process_is_gone()
{
	! kill -0 "$pid" 2>/dev/null
}
await 20 process_is_gone
serve disk "$plugin" "$work/disk/image.yaml"
writer compare "$(uri disk)" "$work/model"
stop disk
check_bytes "$work/disk/upper"

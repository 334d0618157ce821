#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# remote-snapshot.sh - the cache lies on a btrfs of which a snapshot was made, on a full disk: each
# store to a mapped page of the cache needs a block that is not there.  The server reads on, and so
# does one that is started then.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit nbdcopy mkfs.btrfs btrfs
[ "$(id -u)" -eq 0 ] || skip "only root mounts"

export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home" "$work/reg" "$work/disk"
truncate -s 128M "$work/btrfs"
mkfs.btrfs -q "$work/btrfs"
mount -o loop "$work/btrfs" "$work/disk" 2>"$work/mount.log" || skip "no loop mount: $(cat "$work/mount.log")"
mounts+=("$work/disk")

make_image img $((16 * 1024 * 1024)) 60 "$(seed)"
start_registry reg --dir "$work/reg"
push_image "http://127.0.0.1:${port[reg]}" disk obd "$work"/img/[123].obd
btrfs subvolume create "$work/disk/v" >/dev/null

# reads NAME FIRST COUNT: so many MiB of its disk are right.
reads()
{
	"$python" - "$(uri "$1")" "$work/img/flat.raw" "$2" "$3" <<'PYTHON' || fail "$1 does not read MiB $2 to $(($2 + $3))"
import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
first, count = int(sys.argv[3]) << 20, int(sys.argv[4]) << 20
with open(sys.argv[2], "rb") as f:
    f.seek(first)
    want = f.read(count)
for at in range(0, count, 65536):
    if h.pread(65536, first + at) != want[at:at + 65536]:
        sys.exit(f"wrong bytes at {first + at}")
PYTHON
}

need_python_nbd
options=("image=127.0.0.1:${port[reg]}/disk:obd" "cache-dir=$work/disk/v/cache")
serve before "$plugin" "${options[@]}"
reads before 0 4
sync -f "$work/disk"
btrfs subvolume snapshot "$work/disk/v" "$work/disk/s" >/dev/null
! dd if=/dev/zero of="$work/disk/filler" bs=64k 2>/dev/null || fail "the disk is not full"
! dd if=/dev/zero of="$work/disk/filler2" bs=4k 2>/dev/null || fail "the disk is not full"
sync -f "$work/disk" || true
reads before 0 4
reads before 4 6
reads before 0 10
say "ok: a server reads on"

serve after "$plugin" "${options[@]}"
reads after 0 16
say "ok: one that starts then reads as well"
stop after "cache $work/disk/v/cache: " "reads of it go to the registry each time"
stop before "cache $work/disk/v/cache: " "reads of it go to the registry each time"

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A writable image under live clients: nbdkit is killed in the middle of their I/O and started again,
# and everything that was acknowledged is there.  QEMU reconnects by itself; the kernel's device has
# `overlaybd attach`.
. "$(dirname "$0")/guest-lib.sh"
PATH=$PATH:/usr/sbin:/sbin
need nbdkit nbdcopy mke2fs e2fsck
need_guest

seed=$(seed)
kills=2
timeout=5
if [ "${FULL:-0}" = 1 ]; then
	kills=10
	timeout=25
fi
say "seed $seed, $kills kills, time limit $timeout s"

# ---- QEMU's client ----

"$overlaybd" create "$work/disk" --size 64M
echo 'upper: {data: disk.data, index: disk.index}' >"$work/disk.yaml"

kill_often()
{
	local n

	await 300 grep -q begun "$work/guest.log" || return 1
	for ((n = 0; n < kills; n++)); do
		sleep 3
		kill -9 "$(cat "$work/disk.pid")"
		sleep 1
		# What `serve` does, by a process that outlives this one.
		rm -f "$work/disk.sock"
		nbdkit_ -P "$work/disk.pid" -U "$work/disk.sock" "$plugin" "$work/disk.yaml" || return 1
	done
}

say "QEMU's client"
nbdkit_ -P "$work/disk.pid" -U "$work/disk.sock" "$plugin" "$work/disk.yaml"
: >"$work/guest.log"
kill_often &
killer=$!
guest_runs --program "$load" --disk "$work/disk.sock" --timeout 600 --run "
	guest-load write \$DEV $((kills * 6 + 4)) $seed || exit 1
	echo \"bytes: \$(sha256sum \$DEV | cut -d' ' -f1)\""
wait "$killer" || fail "nbdkit could not be started again"
kill -9 "$(cat "$work/disk.pid")"
serve disk "$plugin" "$work/disk.yaml"
nbdcopy "$(uri disk)" "$work/disk.raw"
same "what the guest read and what is there" "$(sha256 "$work/disk.raw")" "$(said bytes)"
stop disk
say "$(said operations) operations, the longest took $(said longest) ms"

# ---- the kernel's ----

# A busy machine may lack a file of mke2fs that it can do without.
files=()
[ ! -e /etc/mke2fs.conf ] || files=(--add=/etc/mke2fs.conf)

say "a file system on the kernel's"
fs_kills=$(((kills + 1) / 2))
# shellcheck disable=SC2016 # the guest expands it
guest_runs "${attach_programs[@]}" "${files[@]}" --program "$(command -v mke2fs)" \
	--program "$(command -v e2fsck)" --memory 768 --timeout 1200 \
	--run "$attach_begin timeout=$timeout kills=$fs_kills seed=$seed"'
	export MKE2FS_CONFIG=/files/mke2fs.conf
	options="--io-timeout $timeout"
	mkdir /run/disk
	overlaybd create /run/disk/upper --size 256M
	echo "upper: {data: upper.data, index: upper.index}" >/run/disk/image.yaml

	[ "$(attach $options /run/disk/image.yaml)" = /dev/nbd0 ]
	/bin/mke2fs -q -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 /dev/nbd0
	mount /dev/nbd0 /mnt
	fails "it is mounted on /mnt" overlaybd detach /dev/nbd0
	guest-load files /mnt $((kills * (timeout + 3) + 2)) $seed >/tmp/load &
	busy=$!
	await 60 grep -q begun /tmp/load
	for n in $(seq $kills); do
		sleep 1
		kill_server
		sleep $((timeout + 1))
	done
	echo "nobody watches, and the server dies"
	kill -9 $(pidof overlaybd)
	kill -9 $(cat $state/pid)
	sleep 1
	[ "$(attach /run/disk/image.yaml /dev/nbd0)" = /dev/nbd0 ]
	wait $busy
	cat /tmp/load
	(cd /mnt && find . -type f | sort | xargs sha256sum) >/tmp/before
	umount /mnt
	echo "check"
	/bin/e2fsck -fn /dev/nbd0 >/tmp/e2fsck 2>&1 || { cat /tmp/e2fsck; exit 1; }

	echo "detached, and attached again"
	overlaybd detach /dev/nbd0
	! pidof nbdkit
	[ "$(attach $options --read-only /run/disk/image.yaml)" = /dev/nbd0 ]
	[ "$(cat /sys/block/nbd0/ro)" = 1 ]
	mount -o ro /dev/nbd0 /mnt
	(cd /mnt && find . -type f | sort | xargs sha256sum) | cmp - /tmp/before
	echo "files: $(wc -l </tmp/before)"
	echo "by force"
	overlaybd detach --force /dev/nbd0
	! pidof nbdkit overlaybd
	[ ! -e $state ]

	echo "what was written is flushed before it is detached"
	overlaybd create /run/disk/small --size 4M
	echo "upper: {data: small.data, index: small.index}" >/run/disk/small.yaml
	dev=$(attach $options /run/disk/small.yaml)
	dd if=/dev/urandom of=/tmp/random bs=1M count=2 2>/dev/null
	cat /tmp/random >$dev
	overlaybd detach $dev
	[ "$(attach $options /run/disk/small.yaml $dev)" = $dev ]
	head -c 2097152 $dev | cmp - /tmp/random
	overlaybd detach $dev
'
[ "$(said files)" -gt 10 ] || fail "the load left $(said files) files only"
stalled_at_most $((timeout + 5))
say "$(said operations) operations on files; the longest stall: $(said longest) ms" \
	"(the machine paused $(said pause) ms)"

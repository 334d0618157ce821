#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A read-only image through the kernel's NBD client and through QEMU's: the same bytes, and a device
# that cannot be written to.
. "$(dirname "$0")/guest-lib.sh"
need nbdkit
need_guest

serve image "$plugin" "$(golden_config mixed-3)"

check() # CLIENT
{
	same "bytes through $1" "$(said bytes)" "$(expected mixed-3 sha256)"
	same "size through $1" "$(said size)" "$(expected mixed-3 virtual_size)"
	same "$1 is read-only" "$(said read-only)" 1
}

# shellcheck disable=SC2016 # the guest expands it
look='
	echo "bytes: $(sha256sum $DEV | cut -d" " -f1)"
	echo "size: $(blockdev --getsize64 $DEV)"
	echo "read-only: $(cat /sys/block/${DEV#/dev/}/ro)"
	! dd if=/dev/zero of=$DEV bs=4096 count=1 conv=fsync 2>/dev/null'

say "the kernel's client"
guest_runs --nbd "$work/image.sock" --run "$look"
check "/dev/nbd0"

say "QEMU's client"
guest_runs --disk "$work/image.sock" --read-only --run "$look"
check "/dev/vda"
stop image

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tool-import.sh - the recipe of overlaybd(1): a disk of any form through a writable export into a layer.
. "$(dirname "$0")/tool-lib.sh"
need nbdkit nbdcopy qemu-img jq python3

python3 "$tests/tool-disks.py" "$(seed)" $((8 * 1024 * 1024)) "$work/disk.raw"
cd "$work"

# import DISK: as the manual page says.
import()
{
	local size

	size=$(qemu-img info --output=json "$1" | jq '."virtual-size"')
	"$overlaybd" create disk --size "$size" >/dev/null
	printf 'lowers: []\nupper:\n  data: disk.data\n  index: disk.index\n' >disk.yaml
	disk=$1 nbdkit_ -U - "$plugin" disk.yaml \
		--run 'LD_PRELOAD= qemu-img convert -n --target-is-zero "$disk" -O raw "$uri"'
	"$overlaybd" commit disk -o disk.obd >/dev/null
	rm disk.data disk.index disk.yaml
}

for form in qcow2 "qcow2 -o compression_type=zlib -c" vmdk "vmdk -o subformat=streamOptimized" vdi vhdx raw; do
	rm -f source
	# shellcheck disable=SC2086 # a format and its options
	qemu-img convert -f raw disk.raw -O $form source
	import source
	config served.yaml disk.obd
	holds served.yaml disk.raw
	ls disk.* >left
	! grep -q pending left || fail "left behind: $(cat left)"
	say "ok: $form"
done

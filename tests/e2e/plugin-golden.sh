#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every layer set of the reference is served with its exact content, to nbdcopy and to qemu-img.
. "$(dirname "$0")/lib.sh"
need nbdkit nbdcopy nbdinfo qemu-img

for set in $(golden_sets); do
	want=$(expected "$set" sha256)
	serve g "$plugin" config="$(golden_config "$set")"
	same "size of $set" "$(nbdinfo --size "$(uri g)")" "$(expected "$set" virtual_size)"
	nbdcopy "$(uri g)" "$work/copy"
	same "$set by nbdcopy" "$(sha256 "$work/copy")" "$want"
	qemu-img convert -f raw -O raw "nbd:unix:$work/g.sock" "$work/convert"
	same "$set by qemu-img" "$(sha256 "$work/convert")" "$want"
	stop g "is sparse, and served read-only: "
	rm "$work/copy" "$work/convert"
	say "ok: $set: nbdcopy and qemu-img give $want"
done

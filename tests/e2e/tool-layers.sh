#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tool-layers.sh - a stack that grows by one random layer after the other, each made with random
# options over a disk of random size: the image holds the newest disk each time.
. "$(dirname "$0")/tool-lib.sh"
need nbdkit nbdcopy python3

RANDOM=$(($(seed) % 32768))
say "seed $RANDOM"
layers=()
previous=()
base=()
count=$(times 160)
for i in $(seq "$count"); do
	"$python" "$tests/tool-disks.py" $RANDOM $((512 * (1 + RANDOM % 4000))) "$work/$i.raw" \
		"${previous[@]}"
	algorithms=(none lz4 zstd)
	algorithm=${algorithms[RANDOM % 3]}
	options=(--compress "$algorithm")
	[ "$algorithm" = none ] || options+=(--block-size $((4 << RANDOM % 5))K)
	[ $((RANDOM % 2)) -eq 0 ] || options+=(--tar)
	"$overlaybd" commit --raw "$work/$i.raw" "${base[@]}" -o "$work/$i.obd" "${options[@]}" \
		>/dev/null
	layers+=("$i.obd")
	config "$work/$i.yaml" "${layers[@]}"
	base=(--base "$work/$i.yaml")
	holds "$work/$i.yaml" "$work/$i.raw"
	[ ${#previous[@]} -eq 0 ] || rm "${previous[0]}"
	previous=("$work/$i.raw")
done
exits 0 ": ok" "$overlaybd" check "$work/$count.yaml"
say "ok: $count layers"

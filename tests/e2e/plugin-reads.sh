#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Reads of any length and alignment give the bytes of the flat disk, for every layer set.
. "$(dirname "$0")/lib.sh"
need nbdkit nbdcopy
need_python_nbd

client=$SOURCE/tests/e2e/client.py
count=$(times 10000)
seed=$(seed)
say "seed $seed, $count random reads a set"
for set in $(golden_sets); do
	make_flat "$set"
	serve r "$plugin" "$(golden_config "$set")"
	say "$set: $("$python" "$client" random "$(uri r)" "$work/$set.raw" "$count" "$seed")"
	say "$set: $("$python" "$client" edges "$(uri r)" "$work/$set.raw")"
	stop r "is sparse, and served read-only: " "invalid request: NBD_CMD_READ: offset and count are out of range"
	rm "$work/$set.raw"
done

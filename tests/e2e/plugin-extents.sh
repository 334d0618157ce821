#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Extents are true, complete and long, and copies skip what is not there.
. "$(dirname "$0")/lib.sh"
need nbdkit nbdcopy nbdinfo qemu-img
need_python_nbd

client=$SOURCE/tests/e2e/client.py
for set in $(golden_sets); do
	make_flat "$set"
	serve x "$plugin" "$(golden_config "$set")"
	say "$set: $("$python" "$client" map "$(uri x)" "$work/$set.raw")"
	stop x "is sparse, and served read-only: "
	[ "$set" = ext4-3 ] || rm "$work/$set.raw"
done

say "nbdinfo --map and qemu-img map agree on the data of ext4-3"
serve x "$plugin" "$(golden_config ext4-3)"
nbdinfo --map --json "$(uri x)" >"$work/nbdinfo.json"
qemu-img map -f raw --output=json "nbd:unix:$work/x.sock" >"$work/qemu.json"
stop x
"$python" - "$work/nbdinfo.json" "$work/qemu.json" <<'PYTHON'
import json, sys

def runs(pairs):
    out = []
    for start, length in pairs:
        if out and sum(out[-1]) == start:
            out[-1][1] += length
        else:
            out.append([start, length])
    return out

ours = runs((e["offset"], e["length"]) for e in json.load(open(sys.argv[1])) if not e["type"] & 2)
qemu = runs((e["start"], e["length"]) for e in json.load(open(sys.argv[2])) if not e["zero"])
if ours != qemu or not ours:
    sys.exit(f"nbdinfo has {len(ours)} runs of data, qemu-img {len(qemu)}")
print(f"ok: {len(ours)} runs of data")
PYTHON

say "nbdcopy of ext4-3 reads its data only"
serve x --filter=stats "$plugin" "$(golden_config ext4-3)" statsfile="$work/stats"
nbdcopy "$(uri x)" "$work/sparse"
stop x
cmp "$work/ext4-3.raw" "$work/sparse"
"$python" - "$work/nbdinfo.json" "$work/stats" <<'PYTHON'
import json, re, sys

REQUEST = 256 * 1024  # nbdcopy reads whole pieces of this size
extents = json.load(open(sys.argv[1]))
pieces = set()
for e in extents:
    if not e["type"] & 2:
        end = e["offset"] + e["length"]
        pieces.update(range(e["offset"] // REQUEST, (end + REQUEST - 1) // REQUEST))
limit = len(pieces) * REQUEST
size = sum(e["length"] for e in extents)
text = open(sys.argv[2]).read()
m = re.search(r"^read: \d+ ops, [\d.]+ s, ([\d.]+) (bytes|KiB|MiB|GiB)", text, re.M)
if not m:
    sys.exit(f"no line about reads: {text}")
read = float(m[1]) * {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[m[2]]
if read > limit * 1.01 or read > size / 100:  # the figure is rounded
    sys.exit(f"{read:.0f} bytes were read where {limit} hold all data of {size}")
print(f"ok: {read:.0f} bytes read, {limit} hold all data of {size}")
PYTHON

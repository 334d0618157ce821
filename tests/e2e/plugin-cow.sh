#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A throw-away writable disk: nbdkit's cow filter over a read-only image.
. "$(dirname "$0")/lib.sh"
need nbdkit nbdcopy
need_python_nbd

make_flat mixed-3
config=$(golden_config mixed-3)

say "without the filter the disk is read-only"
serve ro "$plugin" "$config"
"$python" - "$(uri ro)" <<'PYTHON'
import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
if not h.is_read_only():
    sys.exit("not read-only")
h.shutdown()
PYTHON
stop ro

say "with it, writes are read back, over data, over holes, and across their border"
serve rw --filter=cow "$plugin" "$config"
"$python" - "$(uri rw)" "$work/mixed-3.raw" <<'PYTHON'
import nbd, random, sys
flat = bytearray(open(sys.argv[2], "rb").read())
h = nbd.NBD()
h.connect_uri(sys.argv[1])
if h.is_read_only():
    sys.exit("read-only")
dice = random.Random(1)
for _ in range(200):
    n = dice.randrange(1, 100000)
    at = dice.randrange(len(flat) - n)
    new = dice.randbytes(n)
    h.pwrite(new, at)
    flat[at : at + n] = new
step = 1 << 20
for at in range(0, len(flat), step):
    if h.pread(min(step, len(flat) - at), at) != flat[at : at + step]:
        sys.exit(f"what was written is not read back at {at}")
h.shutdown()
PYTHON
stop rw

say "after a restart they are gone"
serve rw --filter=cow "$plugin" "$config"
nbdcopy "$(uri rw)" "$work/again.raw"
stop rw
cmp "$work/mixed-3.raw" "$work/again.raw"

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A client asks for a whole disk of small pieces to be cached (NBD_CMD_CACHE), again and again: reads go
# on meanwhile, and the memory that this takes has an end.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit
need_python_nbd

export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home"
"$python" - "$work/disk.raw" <<'END'
import random, sys
dice = random.Random(1)
with open(sys.argv[1], "wb") as f:
    for i in range(60000):
        f.seek(i * 8192)
        f.write(dice.randbytes(256) * 16)
    f.truncate(60000 * 8192)
END
"$overlaybd" commit --raw "$work/disk.raw" --tar -o "$work/disk.obd" >/dev/null
start_registry reg
push_image "http://127.0.0.1:${port[reg]}" app/disk obd "$work/disk.obd"
start_link slow reg 50 8
serve hints "$plugin" "image=127.0.0.1:${port[slow]}/app/disk:obd" cache-dir=none
"$python" - "$(uri hints)" "$work/disk.raw" <<'END'
import sys, time
import nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
size = h.get_size()
for _ in range(4):
    for offset in range(0, size, 32 << 20):
        h.cache(min(32 << 20, size - offset), offset)
began = time.monotonic()
data = h.pread(4096, size // 4)
taken = time.monotonic() - began
with open(sys.argv[2], "rb") as f:
    f.seek(size // 4)
    if data != f.read(4096):
        sys.exit("wrong bytes")
if taken > 5:
    sys.exit(f"a read took {taken:.1f} s behind hints")
h.shutdown()
END
stop hints
say "ok: reads behind many hints"

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""layer-to-log.py SEED LAYER UPPER - an append log that holds what a bare sealed layer does, written from
FORMAT.md alone: in another order, cut otherwise, and over garbage.  Prints uuid, parent uuid."""
import random
import struct
import sys

SECTOR = 512
PADDING = (1 << 50) - 1


def record(start, sectors, moffset, zeroed):
    return struct.pack("<QQ", start | sectors << 50, moffset | zeroed << 55)


def entries(raw):
    offset, count = struct.unpack_from("<QQ", raw, len(raw) - 4096 + 32)
    for at in range(offset, offset + 16 * count, 16):
        first, second = struct.unpack_from("<QQ", raw, at)
        if first & PADDING != PADDING:
            yield first & PADDING, first >> 50, second & (1 << 55) - 1, second >> 55 & 1


def main():
    r = random.Random(int(sys.argv[1]))
    raw = open(sys.argv[2], "rb").read()
    trailer = raw[-4096:]
    pieces = []
    for start, sectors, moffset, zeroed in entries(raw):
        at = 0
        while at < sectors:
            n = min(r.choice([1, 7, 64, 20000]), sectors - at)
            pieces.append((start + at, n, moffset + at, zeroed))
            at += n
    r.shuffle(pieces)
    head = struct.pack("<IQQ", 3, 0, 0)
    data = bytearray(trailer[:28] + head + trailer[48:134].ljust(4096 - 48, b"\0"))
    index = bytearray(trailer[:28] + struct.pack("<IQQ", 1, 4096, 0) + data[48:])
    for garbage in (True, False):
        for start, sectors, moffset, zeroed in pieces:
            if garbage and r.random() < 0.7:
                continue
            index += record(start, sectors, 8 if zeroed and not garbage else len(data) // SECTOR,
                            zeroed and not garbage)
            if garbage:
                data += r.randbytes(sectors * SECTOR)
            elif not zeroed:
                data += raw[moffset * SECTOR:(moffset + sectors) * SECTOR]
    open(sys.argv[3] + ".data", "wb").write(data)
    open(sys.argv[3] + ".index", "wb").write(index)
    print(trailer[56:92].decode(), trailer[93:129].decode())


main()

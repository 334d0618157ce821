#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a raw disk for the tests of `overlaybd`.

  tool-disks.py SEED SIZE OUT [BEFORE [PIECES]]

Writes random data, text that compresses, and zeroes at random places (PIECES, or 40), over BEFORE
(a disk of any size) or over nothing.  Runs of zeroes become holes in every second disk."""
import os
import random
import sys


def fill(rng, size):
    kind = rng.randrange(3)
    if kind == 0:
        return bytes(size)
    if kind == 1:
        return rng.randbytes(size)
    word = b"line %d of a text\n" % rng.randrange(1000)
    return (word * (size // len(word) + 1))[:size]


def make(rng, size, before, pieces):
    disk = bytearray(before[:size].ljust(size, b"\0"))
    for _ in range(pieces):
        length = min(size, rng.choice([1, 512, 4096, 12288, 70000, 300000]))
        start = rng.randrange(0, size - length + 1)
        if rng.randrange(2):
            start -= start % 4096
        disk[start : start + length] = fill(rng, length)[: size - start]
    return disk


def write(path, disk, sparse):
    block = 4096
    with open(path, "wb") as out:
        for start in range(0, len(disk), block):
            piece = disk[start : start + block]
            if sparse and not any(piece):
                out.seek(len(piece), os.SEEK_CUR)
            else:
                out.write(piece)
        out.truncate(len(disk))


def main():
    seed, size, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    before = b""
    if len(sys.argv) > 4:
        with open(sys.argv[4], "rb") as old:
            before = old.read()
    rng = random.Random(seed)
    pieces = int(sys.argv[5]) if len(sys.argv) > 5 else 40
    write(out, make(rng, size, before, pieces), seed % 2 == 0)


main()

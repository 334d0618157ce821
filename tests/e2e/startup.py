#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""startup.py URI DISK SEED MIB [--hold FILE] - reads as a machine does that starts from the disk: from
many places, at each some blocks in a row, in the same order for the same seed, MIB in all.  Every
byte is compared with DISK.  With --hold it stays connected until FILE is gone."""
import argparse
import os
import random
import sys
import time

import nbd

BLOCK = 4096
RUN_BLOCKS = 32  # at a place, at most


def places(size, seed, total):
    dice = random.Random(seed)
    while total > 0:
        blocks = min(dice.randint(1, RUN_BLOCKS), total // BLOCK)
        at = dice.randrange(size // BLOCK - blocks + 1)
        total -= blocks * BLOCK
        while blocks > 0:
            n = min(blocks, dice.choice((1, 1, 2, 4, 8)))
            yield at * BLOCK, n * BLOCK
            at += n
            blocks -= n


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uri")
    parser.add_argument("disk")
    parser.add_argument("seed", type=int)
    parser.add_argument("mib", type=float)
    parser.add_argument("--hold")
    arguments = parser.parse_args()
    client = nbd.NBD()
    client.connect_uri(arguments.uri)
    with open(arguments.disk, "rb") as disk:
        for offset, n in places(client.get_size(), arguments.seed, int(arguments.mib * (1 << 20))):
            disk.seek(offset)
            if client.pread(n, offset) != disk.read(n):
                sys.exit(f"wrong bytes at {offset}")
    while arguments.hold and os.path.exists(arguments.hold):
        time.sleep(0.05)
    client.shutdown()


main()

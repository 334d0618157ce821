#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""client.py - an NBD client that compares an export with a flat file of the same content.

  client.py random URI FLAT COUNT SEED   reads of random place, length and alignment
  client.py spread URI FLAT COUNT SIZE DEPTH SEED
                                         reads of that many blocks of SIZE that hold data, each once, in
                                         no order, DEPTH at a time; prints the ms that each took,
                                         the slowest first
  client.py edges URI FLAT               reads that touch the start, the end, and block borders
  client.py scan URI FLAT                every 4 KiB block; counts those that fail, by errno
  client.py survive URI FLAT SEED        every 64 KiB once, in random order: right, or EIO; tells how
                                         many of each, and the milliseconds of the longest read
  client.py storm URI FLAT SECONDS LONGEST SEED
                                         reads at random for so long, from a server that may be killed
                                         and come back: no read fails while it is there, none takes
                                         longer than LONGEST seconds
  client.py map URI FLAT                 extents: no gap, what is called zero is zero
  client.py faults URI FLAT CONTROL STEP each STEPth pread of the server fails once
                                         (fault-preload.c)
"""
import collections
import errno
import mmap
import os
import random
import sys
import time

import nbd

MAX_READ = 256 * 1024
STATE_HOLE, STATE_ZERO = 1, 2


def connect(uri):
    h = nbd.NBD()
    h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    h.connect_uri(uri)
    return h


def open_flat(path):
    with open(path, "rb") as f:
        return mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)


def compare(h, flat, offset, length):
    if h.pread(length, offset) != flat[offset : offset + length]:
        sys.exit(f"wrong bytes in a read of {length} at {offset}")


def do_random(h, flat, count, seed):
    dice = random.Random(int(seed))
    for _ in range(int(count)):
        unit = dice.choice([1, 512, 4096, 65536])
        offset = min(dice.randrange(len(flat)) // unit * unit, len(flat) - 1)
        length = dice.choice([1, 511, 512, 4096, dice.randrange(1, MAX_READ)])
        compare(h, flat, offset, min(length, len(flat) - offset))
    print(f"{count} random reads match (seed {seed})")


def do_spread(h, flat, count, size, depth, seed):
    dice, size = random.Random(int(seed)), int(size)
    blocks = range(len(flat) // size)
    full = [n * size for n in blocks if not is_zero(flat, n * size, size)]
    todo, active, took = dice.sample(full, int(count)), [], []
    while todo or active:
        while todo and len(active) < int(depth):
            buf, began = nbd.Buffer(size), time.monotonic()
            active.append((h.aio_pread(buf, todo[-1]), buf, todo.pop(), began))
        h.poll(-1)
        done = {a[0] for a in active if h.aio_command_completed(a[0])}
        for _, buf, offset, began in (a for a in active if a[0] in done):
            took.append(int((time.monotonic() - began) * 1000))
            if buf.to_bytearray() != flat[offset : offset + size]:
                sys.exit(f"wrong bytes in a read of {size} at {offset}")
        active = [a for a in active if a[0] not in done]
    print(*sorted(took, reverse=True))


def do_edges(h, flat):
    size = len(flat)
    places = {0, 1, 511, 512, 4095, 4096, 65535, 65536}
    places |= {size - p - 1 for p in places}
    for offset in sorted(p for p in places if p < size):
        for length in (1, 2, 511, 512, 513, 4095, 4096, 4097, 65536, 1 << 20):
            compare(h, flat, offset, min(length, size - offset))
    h.set_strict_mode(h.get_strict_mode() & ~nbd.STRICT_BOUNDS)
    for length, offset in ((1, size), (2, size - 1), (4096, size - 512)):
        try:
            h.pread(length, offset)
        except nbd.Error as e:
            if e.errnum == errno.EINVAL:
                continue
            sys.exit(f"{length} bytes at {offset}, beyond the end: {e}")
        sys.exit(f"{length} bytes at {offset} can be read, beyond the end")
    print("reads at both ends match, reads beyond the end are refused")


def do_scan(h, flat):
    outcome = collections.Counter()
    for offset in range(0, len(flat), 4096):
        length = min(4096, len(flat) - offset)
        try:
            compare(h, flat, offset, length)
            outcome["good"] += 1
        except nbd.Error as e:
            outcome[errno.errorcode.get(e.errnum, "unknown")] += 1
    print(" ".join(f"{k}={outcome[k]}" for k in sorted(outcome)))


def do_survive(h, flat, seed):
    piece, failed, longest = 65536, 0, 0
    offsets = list(range(0, len(flat), piece))
    random.Random(int(seed)).shuffle(offsets)
    for offset in offsets:
        began = time.monotonic()
        try:
            compare(h, flat, offset, min(piece, len(flat) - offset))
        except nbd.Error as e:
            if e.errnum != errno.EIO:
                sys.exit(f"a read at {offset}: {e}")
            failed += 1
        longest = max(longest, time.monotonic() - began)
    print(len(offsets) - failed, failed, int(longest * 1000))


def connect_again(uri, until):
    while True:
        try:
            return connect(uri)
        except nbd.Error as e:
            if time.monotonic() > until:
                sys.exit(f"no server: {e}")
            time.sleep(0.02)


def do_storm(uri, flat, seconds, longest, seed):
    dice, reads, lost, slowest = random.Random(int(seed)), 0, 0, 0
    end = time.monotonic() + float(seconds)
    h = connect_again(uri, time.monotonic() + 30)
    while time.monotonic() < end:
        length = dice.choice([1, 4096, 65536, dice.randrange(1, MAX_READ)])
        offset = dice.randrange(len(flat) - length)
        began = time.monotonic()
        try:
            compare(h, flat, offset, length)
            reads += 1
        except nbd.Error as e:
            if h.aio_is_ready():
                took = time.monotonic() - began
                sys.exit(f"a read of {length} at {offset} failed after {took:.1f} s: {e}")
            lost += 1
            h = connect_again(uri, time.monotonic() + 60)
            continue
        slowest = max(slowest, time.monotonic() - began)
        if slowest > float(longest):
            sys.exit(f"a read of {length} at {offset} took {slowest:.1f} s")
    print(f"{reads} right, {lost} connections lost, longest {slowest:.1f} s")


def read_all(h, flat):
    """Reads the disk, retrying what fails.  Returns how many reads failed."""
    failed = 0
    for offset in range(0, len(flat), MAX_READ):
        length = min(MAX_READ, len(flat) - offset)
        try:
            compare(h, flat, offset, length)
        except nbd.Error as e:
            if e.errnum != errno.EIO:
                sys.exit(f"{length} bytes at {offset}: {e}")
            failed += 1
            compare(h, flat, offset, length)
    return failed


def do_faults(h, flat, control, step):
    for k in range(0, 1000000, int(step)):
        with open(control, "w") as f:
            f.write(str(k))
        failed = read_all(h, flat)
        if os.path.exists(control):
            os.unlink(control)
            break
        if failed != 1:
            sys.exit(f"a fault at read {k} made {failed} reads of the client fail")
    if failed or k < 10:
        sys.exit(f"only {k} reads of the server were seen, {failed} failed")
    print(f"of {k} reads of the server each {step}. failed once, with EIO")


def is_zero(flat, offset, length):
    zeroes = bytes(1 << 20)
    while length > 0:
        n = min(length, len(zeroes))
        if flat[offset : offset + n] != zeroes[:n]:
            return False
        offset += n
        length -= n
    return True


def extents(h, offset, length, flags=0):
    pairs = []

    def take(context, start, entries, err):
        pairs.extend(zip(entries[::2], entries[1::2]))

    h.block_status(length, offset, take, flags)
    return pairs


def walk(h, size, flags):
    """All (offset, length, type) of the disk, as one request after the other gives them."""
    offset, step = 0, 1 << 30
    while offset < size:
        for length, kind in extents(h, offset, min(step, size - offset), flags):
            if length == 0:
                sys.exit(f"an extent of no bytes at {offset}")
            yield offset, length, kind
            offset += length
    if offset != size:
        sys.exit(f"extents end at {offset}, the disk at {size}")


def joined(runs):
    out = []
    for offset, length, kind in runs:
        if out and out[-1][2] == kind:
            out[-1][1] += length
        else:
            out.append([offset, length, kind])
    return out


def do_map(h, flat):
    size = len(flat)
    runs = joined(walk(h, size, 0))
    for offset, length, kind in runs:
        if kind not in (0, STATE_HOLE | STATE_ZERO):
            sys.exit(f"{offset}+{length}: unknown type {kind}")
        if kind and not is_zero(flat, offset, length):
            sys.exit(f"{offset}+{length}: data that is called zero")
    if joined(walk(h, size, nbd.CMD_FLAG_REQ_ONE)) != runs:
        sys.exit("one extent at a time gives another map")
    data = sum(length for _, length, kind in runs if not kind)
    if size > 5000:
        middle = extents(h, 4999, 1)
        if middle[0][0] < 1:
            sys.exit("no extent for one byte in the middle")
    print(f"{len(runs)} extents, {data} of {size} bytes are data, all zeroes are zero")


def main():
    command, uri, flat, *rest = sys.argv[1:]
    commands = {"random": do_random, "spread": do_spread, "edges": do_edges, "scan": do_scan,
                "map": do_map, "survive": do_survive, "faults": do_faults}
    if command == "storm":
        return do_storm(uri, open_flat(flat), *rest)
    h = connect(uri)
    commands[command](h, open_flat(flat), *rest)
    h.shutdown()


main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""writer.py - an NBD client that changes an export and a flat file alike, and compares them.

  writer.py mix URI FLAT COUNT SEED [CONNECTIONS]
                         COUNT random writes, zeroes, trims and flushes of any place, length, alignment
                         and flags, each on one of the connections; a read on another sees it at once;
                         then FLAT is the new disk, all of it is compared, and so are the extents
  writer.py fill URI OFFSET LENGTH BYTE [flush]
                         one write; with flush also that
  writer.py expect URI OFFSET LENGTH BYTE
                         a flush, then all of the range is that byte
  writer.py until URI FLAT ERRNO SEED
                         writes until the server refuses one with that error; what it took stands in FLAT
  writer.py storm URI FLAT SEED STOP
                         random changes on two connections until the file STOP is there or the server is
                         gone; FLAT is what was acknowledged, FLAT.maybe what was under way
  writer.py settle URI FLAT
                         the whole disk is FLAT, but for what was under way, each byte of which may be
                         there; then FLAT is the disk
  writer.py compare URI FLAT
                         the whole disk is FLAT
"""
import errno
import os
import pickle
import random
import sys
import threading

import nbd

MAX = 192 * 1024


def connect(uri):
    h = nbd.NBD()
    h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    h.connect_uri(uri)
    return h


def load(path):
    with open(path, "rb") as f:
        return bytearray(f.read())


def save(path, disk):
    with open(path, "wb") as f:
        f.write(disk)


def pick_range(dice, size):
    unit = dice.choice([1, 512, 4096, 65536])
    offset = min(dice.randrange(size) // unit * unit, size - 1)
    length = dice.choice([1, 511, 512, 4096, dice.randrange(1, MAX)])
    return offset, min(length, size - offset)


def compare_all(h, disk):
    step = 1 << 20
    for offset in range(0, len(disk), step):
        n = min(step, len(disk) - offset)
        got = h.pread(n, offset)
        if got != disk[offset : offset + n]:
            at = next(i for i in range(n) if got[i] != disk[offset + i])
            sys.exit(f"the disk differs at byte {offset + at}")


def compare_extents(h, disk):
    """What is called a hole is zero."""
    offset = 0
    while offset < len(disk):
        pairs = []
        h.block_status(len(disk) - offset, offset,
                       lambda context, start, entries, err: pairs.extend(
                           zip(entries[::2], entries[1::2])))
        for n, kind in pairs:
            if kind and disk[offset : offset + n].strip(b"\0"):
                sys.exit(f"{offset}+{n}: data that is called zero")
            offset += n


def change(h, dice, disk):
    """One random change of both.  Returns its range."""
    offset, length = pick_range(dice, len(disk))
    fua = nbd.CMD_FLAG_FUA if dice.random() < 0.1 else 0
    kind = dice.random()
    if kind < 0.6:
        data = dice.randbytes(length)
        h.pwrite(data, offset, fua)
        disk[offset : offset + length] = data
    elif kind < 0.8:
        flags = dice.choice([0, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FAST_ZERO])
        h.zero(length, offset, fua | flags)
        disk[offset : offset + length] = bytes(length)
    elif kind < 0.95:
        h.trim(length, offset, fua)
        first, end = -(-offset // 512) * 512, (offset + length) // 512 * 512
        if end > first:
            disk[first:end] = bytes(end - first)
    else:
        h.flush()
    return offset, length


def do_mix(uri, path, count, seed, connections="1"):
    clients = [connect(uri) for _ in range(int(connections))]
    dice, disk = random.Random(int(seed)), load(path)
    for i in range(int(count)):
        offset, length = change(dice.choice(clients), dice, disk)
        if dice.choice(clients).pread(length, offset) != disk[offset : offset + length]:
            sys.exit(f"change {i} at {offset}+{length} is not what is read (seed {seed})")
    compare_all(clients[0], disk)
    compare_extents(clients[-1], disk)
    save(path, disk)
    for h in clients:
        h.shutdown()
    print(f"{count} changes on {connections} connections match (seed {seed})")


def do_fill(uri, offset, length, byte, flush=""):
    h = connect(uri)
    h.pwrite(bytes([int(byte)]) * int(length), int(offset))
    if flush:
        h.flush()


def do_expect(uri, offset, length, byte):
    h = connect(uri)
    h.flush()
    if h.pread(int(length), int(offset)) != bytes([int(byte)]) * int(length):
        sys.exit(f"{length} bytes at {offset} are not all {byte}")


def do_until(uri, path, name, seed):
    h, dice, disk = connect(uri), random.Random(int(seed)), load(path)
    for i in range(100000):
        offset, length = pick_range(dice, len(disk))
        data = dice.randbytes(length)
        try:
            h.pwrite(data, offset)
        except nbd.Error as e:
            if e.errnum != getattr(errno, name):
                sys.exit(f"write {i}: {e}")
            break
        disk[offset : offset + length] = data
    else:
        sys.exit(f"no write ends with {name}")
    # A refused write may have taken place in whole sectors: they are one or the other.
    got = h.pread(length, offset)
    if not all(g in (old, new) for g, old, new in zip(got, disk[offset:], data)):
        sys.exit("after the refused write there is neither the old nor the new")
    disk[offset : offset + length] = got
    compare_all(h, disk)
    save(path, disk)
    print(f"write {i} ends with {name}")


def storm(uri, disk, part, seed, stop, maybe):
    """Keeps to its part of the disk, so that nobody else changes what it compares."""
    first, end = part
    h, dice = connect(uri), random.Random(seed)
    while not os.path.exists(stop):
        offset = dice.randrange(first, end - 1)
        length = dice.randrange(1, min(MAX // 8, end - offset))
        data = bytes(length) if dice.random() < 0.2 else dice.randbytes(length)
        try:
            if data.strip(b"\0"):
                h.pwrite(data, offset)
            else:
                h.zero(length, offset)
            if dice.random() < 0.1:
                h.flush()
        except nbd.Error as e:
            if h.aio_is_ready():
                maybe.append(("error", str(e)))
            maybe.append((offset, data))
            return
        disk[offset : offset + length] = data


def do_storm(uri, path, seed, stop):
    disk, maybe, half = load(path), [], os.path.getsize(path) // 2
    parts = [(0, half), (half, 2 * half)]
    threads = [threading.Thread(target=storm, args=(uri, disk, part, int(seed) + i, stop, maybe))
               for i, part in enumerate(parts)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    save(path, disk)
    with open(path + ".maybe", "wb") as f:
        pickle.dump(maybe, f)
    errors = [text for kind, text in maybe if kind == "error"]
    if errors:
        sys.exit(f"a client saw an error: {errors[0]}")


def do_settle(uri, path):
    h, disk = connect(uri), load(path)
    with open(path + ".maybe", "rb") as f:
        maybe = pickle.load(f)
    for offset, data in maybe:
        got = h.pread(len(data), offset)
        if not all(g in (old, new) for g, old, new in zip(got, disk[offset:], data)):
            sys.exit(f"{offset}+{len(data)}, under way, is neither the old nor the new")
        disk[offset : offset + len(data)] = got
    compare_all(h, disk)
    save(path, disk)


def do_compare(uri, path):
    compare_all(connect(uri), load(path))


def main():
    commands = {"mix": do_mix, "fill": do_fill, "expect": do_expect, "until": do_until,
                "storm": do_storm, "settle": do_settle, "compare": do_compare}
    commands[sys.argv[1]](*sys.argv[2:])


main()

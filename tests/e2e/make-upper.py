#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make-upper.py SEED SIZE UPPER DISK [OPTION...] - a writable layer, written from FORMAT.md 5 alone,
with random writes and zeroes in it, and the disk that it makes over RAW (else over zeroes).

--sparse writes the sparse form; --tail ends the log as a crash could: half a record, records that
point past the data's end; --pending leaves the last records where a process that was killed just now
would have them."""
import argparse
import os
import random
import struct

MAGIC = b"LSMT\0\1\2\0" + bytes.fromhex("657e63d29444084ca2d2c8ec4fcfae8a")
SECTOR = 512


def header(flags, index_offset, size, uuid):
    fields = struct.pack("<IIQQQ", 390, flags, index_offset, 0, size)
    text = uuid.encode() + b"\0" + b"00000000-0000-0000-0000-00000000000A\0"
    return (MAGIC + fields + text + b"\0\0\1\1").ljust(4096, b"\0")


def record(start, sectors, moffset, zeroed, tag=0):
    return struct.pack("<QQ", start | sectors << 50, moffset | zeroed << 55 | tag << 56)


TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)


def crc(data, state=0):
    """CRC-32C without inversions, FORMAT.md 1."""
    for byte in data:
        state = TABLE[(state ^ byte) & 0xff] ^ state >> 8
    return state


def write_pending(path, uuid, index, records, data):
    """As core/upper_pending.h says; `index` is what the index file holds behind its header."""
    boot = open("/proc/sys/kernel/random/boot_id").read().strip().encode()
    generation = 4711
    head = b"OBDPEND2" + struct.pack("<Q", 0) + boot + uuid.encode()
    head = head.ljust(88, b"\0") + struct.pack("<QII", len(index) // 16, crc(index, 100007), generation)
    head = head.ljust(252, b"\0")
    out = bytearray(head + struct.pack("<I", crc(head)))
    for number in range(len(records) // 16):
        entry = bytes(records[16 * number:16 * number + 16])
        first, second = struct.unpack("<QQ", entry)
        at, n = (second & (1 << 55) - 1) * SECTOR, (first >> 50) * SECTOR
        zeroed = second >> 55 & 1
        entry += struct.pack("<I", 0 if zeroed else crc(data[at:at + n], 100007)).ljust(12, b"\0")
        out += entry + struct.pack("<I", crc(entry, generation + number))
    open(path, "wb").write(out)


def changes(r, total, count, span):
    for _ in range(count):
        start = r.randrange(total)
        sectors = min(r.choice([1, 3, 8, 8, 64, r.randint(1, span)]), total - start)
        yield start, sectors, r.random() < 0.25


def content(r, n):
    return r.randbytes(n) if r.random() < 0.5 else (r.randbytes(16) * (n // 16))


def write_log(args, r, disk):
    uuid = "%08X-1111-4222-8333-444444444444" % r.getrandbits(32)
    data = bytearray(header(3, 0, args.size, uuid))
    index = bytearray(header(1, 4096, args.size, uuid))
    for start, sectors, zeroed in changes(r, args.size // SECTOR, args.writes, args.span):
        moffset = len(data) // SECTOR
        n = sectors * SECTOR
        bytes_ = bytes(n) if zeroed else content(r, n)
        disk[start * SECTOR:start * SECTOR + n] = bytes_
        if not zeroed:
            data += bytes_
        # Tags mean nothing in a log.
        for at in range(0, sectors, 16383):
            index += record(start + at, min(16383, sectors - at), 8 if zeroed else moffset + at,
                            zeroed, r.randrange(256))
    if args.tail:
        for at in range(3):
            index += record(8 * at, 8, len(data) // SECTOR + 8 * at, 0)
        index += b"half"
    if args.pending:
        keep = 4096 + (len(index) - 4096) // 32 * 16
        write_pending(args.upper + ".pending", uuid, bytes(index[4096:keep]), index[keep:],
                      bytes(data))
        del index[keep:]
    open(args.upper + ".data", "wb").write(data)
    open(args.upper + ".index", "wb").write(index)


def write_sparse(args, r, disk):
    with open(args.upper + ".data", "wb") as f:
        f.write(header(19, 0, args.size, "%08X-1111-4222-8333-444444444444" % r.getrandbits(32)))
        f.truncate(4096 + args.size)
        for start, sectors, zeroed in changes(r, args.size // 4096, args.writes // 4,
                                              args.span // 8 + 1):
            n = min(sectors * 4096, args.size - start * 4096)
            bytes_ = bytes(n) if zeroed else content(r, n)
            disk[start * 4096:start * 4096 + n] = bytes_
            f.seek(4096 + start * 4096)
            f.write(bytes_)
    open(args.upper + ".index", "wb").close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("seed", type=int)
    parser.add_argument("size", type=int)
    parser.add_argument("upper")
    parser.add_argument("disk")
    parser.add_argument("--base")
    parser.add_argument("--sparse", action="store_true")
    parser.add_argument("--tail", action="store_true")
    parser.add_argument("--pending", action="store_true")
    parser.add_argument("--writes", type=int, default=200)
    parser.add_argument("--span", type=int, default=200, help="sectors of the longest write")
    args = parser.parse_args()
    r = random.Random(args.seed)
    disk = bytearray(open(args.base, "rb").read() if args.base else b"")
    disk = disk[:args.size].ljust(args.size, b"\0")
    (write_sparse if args.sparse else write_log)(args, r, disk)
    with open(args.disk, "wb") as f:
        f.write(disk)
        os.fsync(f.fileno())


if __name__ == "__main__":
    main()

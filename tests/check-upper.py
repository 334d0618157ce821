#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check-upper.py DATA INDEX [DISK] - the bytes of an append log against FORMAT.md 4 and 5.

Written from FORMAT.md alone.  What a reader must tolerate is not tolerated here: a log that we wrote
and closed has no fragment, no record that a crash left, no garbage where the format says zero.  With
DISK, the disk that the log's records make (zeroes where there is none) must be that file."""
import re
import struct
import sys

HEADER = 4096
SECTOR = 512
MAGIC = b"LSMT\0\1\2\0" + bytes.fromhex("657e63d29444084ca2d2c8ec4fcfae8a")
UUID = re.compile(rb"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\0\Z")


def require(truth, text):
    if not truth:
        raise SystemExit(f"check-upper: {text}")


def read_header(raw, name, flags, index_offset):
    require(len(raw) >= HEADER, f"{name}: {len(raw)} bytes, no header")
    require(raw[0:24] == MAGIC, f"{name}: magic")
    size, found = struct.unpack_from("<II", raw, 24)
    require(size == 390, f"{name}: struct size {size}")
    require(found == flags, f"{name}: flags {found:#x}, not {flags:#x}")
    offset, entries, virtual_size = struct.unpack_from("<QQQ", raw, 32)
    require((offset, entries) == (index_offset, 0), f"{name}: index {offset}, {entries}")
    require(virtual_size % SECTOR == 0, f"{name}: virtual size {virtual_size}")
    uuid, parent = raw[56:93], raw[93:130]
    require(UUID.match(uuid), f"{name}: uuid {uuid}")
    require(UUID.match(parent), f"{name}: parent uuid {parent}")
    require(raw[130:132] == b"\0\0", f"{name}: reserved bytes")
    require(raw[132:134] == b"\1\1", f"{name}: version")
    require(raw[134:HEADER] == bytes(HEADER - 134), f"{name}: bytes behind the fields")
    return uuid, parent, virtual_size


def read_records(raw, data_size, virtual_size):
    require((len(raw) - HEADER) % 16 == 0, "index: a fragment at the end")
    for at in range(HEADER, len(raw), 16):
        first, second = struct.unpack_from("<QQ", raw, at)
        start, sectors = first & (1 << 50) - 1, first >> 50
        moffset, zeroed, tag = second & (1 << 55) - 1, second >> 55 & 1, second >> 56
        if start == (1 << 50) - 1:
            continue  # padding: of an append that power loss took a part of
        where = f"record {(at - HEADER) // 16}"
        require(1 <= sectors <= 16383, f"{where}: length {sectors}")
        require((start + sectors) * SECTOR <= virtual_size, f"{where}: beyond the disk")
        require(tag == 0, f"{where}: tag {tag}")
        require(moffset >= 8, f"{where}: data in the header")
        if not zeroed:
            require((moffset + sectors) * SECTOR <= data_size, f"{where}: beyond the data")
        yield start, sectors, moffset, zeroed


def main():
    data = open(sys.argv[1], "rb").read()
    index = open(sys.argv[2], "rb").read()
    ours = read_header(data, "data", 3, 0)
    require(ours == read_header(index, "index", 1, HEADER), "the headers differ")
    disk = bytearray(ours[2]) if len(sys.argv) > 3 else None
    count = 0
    for start, sectors, moffset, zeroed in read_records(index, len(data), ours[2]):
        count += 1
        if disk is not None:
            n = sectors * SECTOR
            disk[start * SECTOR:start * SECTOR + n] = \
                bytes(n) if zeroed else data[moffset * SECTOR:moffset * SECTOR + n]
    if disk is not None:
        require(disk == open(sys.argv[3], "rb").read(), "the disk is another one")
    print(f"{count} records")


main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check-layer.py LAYER [--in-place] [--disk DISK [--base RAW]] [--uuid U] [--parent-uuid U] - the bytes
of a bare sealed layer against FORMAT.md 4.

Written from FORMAT.md alone.  --in-place: a log that was sealed, else a dense layer of commit or
merge.  With DISK, what the layer makes over RAW (else over zeroes) must be that file."""
import argparse
import struct

HEADER = 4096
SECTOR = 512
MAGIC = b"LSMT\0\1\2\0" + bytes.fromhex("657e63d29444084ca2d2c8ec4fcfae8a")
PADDING = (1 << 50) - 1


def require(truth, text):
    if not truth:
        raise SystemExit(f"check-layer: {text}")


def read_header(raw, name, flags):
    require(raw[0:24] == MAGIC, f"{name}: magic")
    size, found = struct.unpack_from("<II", raw, 24)
    require(size == 390, f"{name}: struct size {size}")
    require(found == flags, f"{name}: flags {found:#x}, not {flags:#x}")
    require(raw[130:134] == b"\0\0\1\1", f"{name}: version")
    require(raw[390:HEADER] == bytes(HEADER - 390), f"{name}: bytes behind the fields")
    return struct.unpack_from("<QQQ", raw, 32) + (raw[56:93], raw[93:130], raw[134:390])


def parse(raw, at):
    first, second = struct.unpack_from("<QQ", raw, at)
    return first & PADDING, first >> 50, second & (1 << 55) - 1, second >> 55 & 1, second >> 56


def read_entries(raw, offset, count, data_end, virtual_size, dense):
    end, last, moffset_end, padding = 0, None, HEADER // SECTOR, False
    for i in range(count):
        start, sectors, moffset, zeroed, tag = parse(raw, offset + 16 * i)
        where = f"entry {i}"
        if start == PADDING:
            padding = True
            continue
        require(not padding, f"{where}: behind padding")
        require(1 <= sectors <= 16383, f"{where}: length {sectors}")
        require(start >= end, f"{where}: out of order")
        require((start + sectors) * SECTOR <= virtual_size, f"{where}: beyond the disk")
        require(tag == 0, f"{where}: tag {tag}")
        if not zeroed:
            require(8 <= moffset and moffset + sectors <= data_end, f"{where}: beyond the data")
        if dense:
            require(moffset == moffset_end, f"{where}: data at {moffset}, not {moffset_end}")
            moffset_end += 0 if zeroed else sectors
        if last and last[0] + last[1] == start and last[3] == zeroed and last[1] < 16383:
            require(not zeroed and last[2] + last[1] != moffset, f"{where}: not merged")
        last, end = (start, sectors, moffset, zeroed), start + sectors
        yield last
    if dense:
        require(moffset_end == data_end, "bytes that nothing maps")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("layer")
    parser.add_argument("--in-place", action="store_true")
    parser.add_argument("--disk")
    parser.add_argument("--base")
    parser.add_argument("--uuid")
    parser.add_argument("--parent-uuid")
    args = parser.parse_args()
    raw = open(args.layer, "rb").read()
    require(len(raw) >= 2 * HEADER, "too short")
    head = read_header(raw[:HEADER], "header", 3 if args.in_place else 7)
    require(head[:2] == (0, 0), f"header: index {head[:2]}")
    trailer = read_header(raw[-HEADER:], "trailer", 6)
    require(head[2:] == trailer[2:], "header and trailer differ")
    offset, count, virtual_size, uuid, parent, _ = trailer
    require(virtual_size % SECTOR == 0 and offset % SECTOR == 0, "virtual size, index offset")
    end = offset + 16 * count
    if args.in_place:
        end += -end % SECTOR
        require(raw[offset + 16 * count:end] == bytes(end - offset - 16 * count), "padding")
    else:
        require(count % 256 == 0, f"{count} entries, not padded to 4096 bytes")
    require(end == len(raw) - HEADER, "the index does not end at the trailer")
    for name, wanted, found in (("uuid", args.uuid, uuid), ("parent uuid", args.parent_uuid, parent)):
        require(not wanted or wanted.encode() + b"\0" == found, f"{name} {found}, not {wanted}")
    disk = bytearray(open(args.base, "rb").read() if args.base else b"")
    disk = disk[:virtual_size].ljust(virtual_size, b"\0") if args.disk else None
    entries = 0
    for start, sectors, moffset, zeroed in read_entries(raw, offset, count, offset // SECTOR,
                                                        virtual_size, not args.in_place):
        entries += 1
        n, at = sectors * SECTOR, start * SECTOR
        if disk is not None:
            disk[at:at + n] = bytes(n) if zeroed else raw[moffset * SECTOR:moffset * SECTOR + n]
    if disk is not None:
        require(disk == open(args.disk, "rb").read(), "the disk is another one")
    print(f"{entries} entries")


main()

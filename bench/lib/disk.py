# SPDX-License-Identifier: Apache-2.0
"""disk.py - one disk in many forms: a raw file, images of several layers, a chain of qcow2 files.

The first half of the disk is data without a hole, in pieces of 4 to 256 KiB or as Shape says (small
ones as frequent as large ones), each in a layer drawn at random; a quarter of the pieces hide an older one in a lower
layer.  Blocks of 4 KiB compress to about half."""
import json
import math
import os
import random
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from servers import Server

BLOCK = 4096
POOL = 4096  # different blocks
COMPRESSIONS = ["none", "lz4", "zstd"]


@dataclass(frozen=True)
class Shape:
    size: int  # bytes of the disk; half of them are data
    layers: int
    smallest: int = 1  # blocks of a piece
    largest: int = 64
    seed: int = 1

    @property
    def data(self):
        return self.size // 2


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def make_block(rng):
    """Runs of new bytes, and of bytes seen before in the block: about half of each."""
    block = bytearray(rng.randbytes(32))
    while len(block) < BLOCK:
        length = rng.randint(8, 64)
        if rng.random() < 0.5:
            block += rng.randbytes(length)
        else:
            start = rng.randrange(len(block))
            block += block[start:start + length]
    return bytes(block[:BLOCK])


def pick_pieces(shape, rng):
    """(first block, blocks) that cover the data without gaps."""
    at, end = 0, shape.data // BLOCK
    while at < end:
        octaves = math.log2(shape.largest / shape.smallest)
        blocks = min(round(shape.smallest * 2 ** rng.uniform(0, octaves)), end - at)
        yield at, blocks
        at += blocks


def write_raws(folder, shape):
    """flat.raw, and one sparse raw file a layer with that layer's pieces."""
    rng = random.Random(shape.seed)
    pool = [make_block(rng) for _ in range(POOL)]
    names = ["flat"] + [f"{i:02}" for i in range(shape.layers)]
    files = [open(folder / f"{name}.raw", "wb", buffering=0) for name in names]
    for file in files:
        os.ftruncate(file.fileno(), shape.size)

    def put(layers, at, blocks):
        piece = b"".join(rng.choices(pool, k=blocks))
        for file in layers:
            os.pwrite(file.fileno(), piece, at * BLOCK)

    flat, layers = files[0], files[1:]
    for at, blocks in pick_pieces(shape, rng):
        layer = rng.randrange(len(layers))
        if layer > 0 and rng.random() < 0.25:
            put([layers[rng.randrange(layer)]], at, blocks)
        put([layers[layer], flat], at, blocks)
    for file in files:
        file.close()


def commit_layers(folder, shape, tool, compression):
    lowers = []
    for i in range(shape.layers):
        name = f"{i:02}-{compression}.obd"
        run(tool, "commit", "--raw", folder / f"{i:02}.raw", "-o", folder / name,
            "--compress", compression)
        lowers.append(f"  - file: {name}\n")
    (folder / f"{compression}.yaml").write_text("lowers:\n" + "".join(lowers), encoding="utf-8")


def chain_qcow2(folder, shape):
    """Writes each layer's pieces through qemu: what a guest would have written into each."""
    backing = []
    for i in range(shape.layers):
        target = folder / f"{i:02}.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", *backing, target, str(shape.size))
        with Server("writer", ["qemu-nbd", "--persistent", "-f", "qcow2", target], "-k") as server:
            run("nbdcopy", "--destination-is-zero", "--flush", folder / f"{i:02}.raw", server.uri)
        backing = ["-b", target, "-F", "qcow2"]


def make(folder, shape, tool, compressions=tuple(COMPRESSIONS), qcow2=True):
    """Makes what is not there yet, or was made in another shape."""
    stamp = folder / "made.json"
    made = json.dumps(asdict(shape))
    if stamp.exists() and stamp.read_text(encoding="utf-8") == made:
        return
    print(f"making the disk in {folder}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    for old in [stamp, *folder.glob("*.raw"), *folder.glob("*.obd"), *folder.glob("*.qcow2")]:
        old.unlink(missing_ok=True)
    write_raws(folder, shape)
    for compression in compressions:
        commit_layers(folder, shape, tool, compression)
    if qcow2:
        chain_qcow2(folder, shape)
    for i in range(shape.layers):
        Path(folder / f"{i:02}.raw").unlink()
    stamp.write_text(made, encoding="utf-8")

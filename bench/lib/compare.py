# SPDX-License-Identifier: Apache-2.0
"""compare.py - the speed of one server against another, as a ratio that a machine's drift spares."""
import json
import subprocess
import time
from dataclasses import dataclass
from statistics import median

CONTROL_LIMITS = (0.95, 1.05)


@dataclass(frozen=True)
class Sample:
    rate: float  # units of work a second
    units: float
    cpu: float  # seconds of the server


@dataclass(frozen=True)
class Reads:
    """Random reads of 4 KiB over the data."""
    depth: int
    unit = "reads"
    fresh = False  # True: each sample is of a server that was renewed

    def prepare(self, *_):
        pass

    def work(self, server, seconds, data):
        out = subprocess.run(
            ["fio", "--name=reads", "--ioengine=nbd", f"--uri={server.uri}", "--rw=randread",
             "--bs=4k", f"--iodepth={self.depth}", f"--size={data}", "--norandommap",
             "--time_based", f"--runtime={round(seconds * 1000)}ms", "--gtod_reduce=1",
             "--output-format=json"],
            check=True, capture_output=True, text=True).stdout
        read = json.loads(out[out.index("{"):])["jobs"][0]["read"]
        return read["iops"], read["total_ios"]


@dataclass(frozen=True)
class Writes:
    """Writes at depth 16 over the disk, a flush after so many."""
    how: str  # randwrite or write
    block: int
    flush_every: int
    unit = "writes"
    fresh = True

    def prepare(self, *_):
        pass

    def work(self, server, seconds, data):
        out = subprocess.run(
            ["fio", "--name=writes", "--ioengine=nbd", f"--uri={server.uri}", f"--rw={self.how}",
             f"--bs={self.block}", "--iodepth=16", f"--size={data}", "--norandommap",
             f"--fsync={self.flush_every}", "--time_based", f"--runtime={round(seconds * 1000)}ms",
             "--gtod_reduce=1", "--output-format=json"],
            check=True, capture_output=True, text=True).stdout
        write = json.loads(out[out.index("{"):])["jobs"][0]["write"]
        return write["iops"], write["total_ios"]


class Copies:
    """The whole disk to nowhere, as often as it takes to fill the time."""
    unit = "MiB"
    fresh = False

    def __init__(self):
        self.times = 1

    def prepare(self, server, seconds, data):
        self.times = 1
        rate, units = self.work(server, seconds, data)
        self.times = max(1, round(seconds * rate / units))

    def work(self, server, _, data):
        begin = time.monotonic()
        for _ in range(self.times):
            subprocess.run(["nbdcopy", server.uri, "null:"], check=True, capture_output=True)
        units = data / 2**20 * self.times
        return units / (time.monotonic() - begin), units


@dataclass(frozen=True)
class Line:
    """One comparison: a load on three of the servers, by name."""
    name: str
    load: object
    ours: str
    peer: str
    control: str
    bar: float


@dataclass(frozen=True)
class Result:
    line: Line
    ratio: float
    control: float
    ours: Sample
    peer: Sample

    @property
    def verdict(self):
        if not CONTROL_LIMITS[0] <= self.control <= CONTROL_LIMITS[1]:
            return "void"
        return "ok" if self.ratio >= self.line.bar else "MISSED"


def take_sample(load, server, seconds, data):
    if load.fresh:
        server.renew()
    before = server.cpu_seconds()
    rate, units = load.work(server, seconds, data)
    return Sample(rate, units, server.cpu_seconds() - before)


def combine(samples):
    return Sample(median(s.rate for s in samples), sum(s.units for s in samples),
                  sum(s.cpu for s in samples))


def run_line(line, servers, pairs, seconds, data):
    trio = [line.ours, line.peer, line.control]
    line.load.prepare(servers[line.peer], seconds, data)
    for name in trio:  # the first run of each is not counted
        take_sample(line.load, servers[name], seconds, data)
    samples = {name: [] for name in trio}
    for number in range(pairs):
        for name in trio if number % 2 == 0 else reversed(trio):
            samples[name].append(take_sample(line.load, servers[name], seconds, data))
    ours, peer, control = (samples[name] for name in trio)
    control_ratio = median(c.rate / p.rate for c, p in zip(control, peer))
    ratio = median(o.rate / p.rate for o, p in zip(ours, peer))
    return Result(line, ratio / control_ratio, control_ratio, combine(ours), combine(peer))


HEADING = (f"{'':44} {'ratio':>6} {'control':>7} {'ours/s':>8} {'peer/s':>8} "
           f"{'CPU us each':>15} {'bar':>5}")


def format_result(result):
    ours, peer = result.ours, result.peer
    cpu = f"{ours.cpu / ours.units * 1e6:.1f} : {peer.cpu / peer.units * 1e6:.1f}"
    return (f"{result.line.name:44} {result.ratio:6.2f} {result.control:7.2f} {ours.rate:8.0f} "
            f"{peer.rate:8.0f} {cpu:>15} {result.line.bar:5.2f} {result.verdict}")

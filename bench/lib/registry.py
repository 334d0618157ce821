# SPDX-License-Identifier: Apache-2.0
"""registry.py - the test registry with images in it, slow links to it, and clients that come cold."""
import hashlib
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from servers import START_SECONDS, Server

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
ANNOTATION = "containerd.io/snapshot/overlaybd/"
SERVER = Path(__file__).resolve().parent.parent.parent / "tests" / "e2e" / "registry-server.py"


class Process:
    """Runs from creation to close(); is up when it has written `ready`."""

    def __init__(self, command, ready):
        ready.unlink(missing_ok=True)
        self.log = ready.with_suffix(".log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)
        give_up = time.monotonic() + START_SECONDS
        while not ready.exists() or not ready.stat().st_size:
            if self.process.poll() is not None or time.monotonic() > give_up:
                self.close()
                raise RuntimeError(f"{command[0]} does not start: {self.log.read_text().strip()}")
            time.sleep(0.02)

    def close(self):
        self.process.terminate()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Registry(Process):
    """What it serves lies in the folder `root`: blobs are links to layer files."""

    def __init__(self, folder):
        self.root, ports = folder / "root", folder / "registry.ports"
        self.control = folder / "registry.control"
        super().__init__([sys.executable, SERVER, "--dir", self.root, "--ports", ports,
                          "--control", self.control], ports)
        self.port = json.loads(ports.read_text())["registry"]

    def add_blob(self, data=None, file=None):
        """The descriptor of these bytes, or of this file."""
        digest = hashlib.sha256()
        if file:
            with open(file, "rb") as f:
                for piece in iter(lambda: f.read(2**20), b""):
                    digest.update(piece)
        else:
            digest.update(data)
        path = self.root / "blobs" / "sha256" / digest.hexdigest()
        path.unlink(missing_ok=True)
        if file:
            path.symlink_to(file)
        else:
            path.write_bytes(data)
        return {"digest": f"sha256:{digest.hexdigest()}", "size": path.stat().st_size}

    def add_layer(self, file):
        layer = self.add_blob(file=file)
        return {"mediaType": "application/vnd.oci.image.layer.v1.tar", **layer,
                "annotations": {ANNOTATION + "version": "0.1.0",
                                ANNOTATION + "blob-digest": layer["digest"],
                                ANNOTATION + "blob-size": str(layer["size"])}}

    def add_image(self, name, files):
        """Makes NAME:latest of these layers, from the bottom; returns the manifest's digest."""
        layers = [self.add_layer(file) for file in files]
        config = json.dumps({"architecture": ARCHITECTURES.get(platform.machine(),
                                                               platform.machine()),
                             "os": "linux",
                             "rootfs": {"type": "layers",
                                        "diff_ids": [layer["digest"] for layer in layers]}})
        manifest = json.dumps({"schemaVersion": 2,
                               "mediaType": "application/vnd.oci.image.manifest.v1+json",
                               "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                                          **self.add_blob(config.encode())},
                               "layers": layers}).encode()
        path = self.root / "manifests" / name / "latest"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(manifest)
        return f"sha256:{hashlib.sha256(manifest).hexdigest()}"

    def ask(self, command, *options):
        out = subprocess.run(["curl", "-sS", "--fail-with-body", "--unix-socket", self.control,
                              *options, f"http://control/{command}"],
                             check=True, capture_output=True).stdout
        return json.loads(out)

    def reset(self):
        self.ask("reset", "-X", "POST")

    def counts(self):
        """(requests of all kinds, requests for blobs, bytes of blobs) since reset()."""
        stats = self.ask("stats")
        return (sum(stats["requests"].values()), stats["requests"].get("blob", 0),
                sum(stats["bytes"].values()))


class Link(Process):
    """A way to a port that takes `rtt` milliseconds there and back, with `mbit` Mbit/s (0: all)."""

    def __init__(self, program, folder, name, target, rtt, mbit=0):
        ready = folder / f"{name}.port"
        super().__init__([program, str(target), str(rtt), str(mbit), ready,
                          folder / f"{name}.control"], ready)
        self.port = int(ready.read_text())


class ColdImage:
    """An image that each run opens with an empty cache and copies to nowhere."""

    def __init__(self, command, registry, folder):
        self.command, self.registry, self.folder = command, registry, folder
        self.cpu = 0.0
        self.requests = self.bytes = 0  # of all runs

    def fetch(self):
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="cold-") as cache, \
                Server("cold", [*self.command, f"cache-dir={cache}"], "-U") as server:
            self.registry.reset()
            begin = time.monotonic()
            subprocess.run(["nbdcopy", server.uri, "null:"], check=True, capture_output=True)
            seconds = time.monotonic() - begin
            self.cpu += server.cpu_seconds()
        _, requests, sent = self.registry.counts()
        self.requests += requests
        self.bytes += sent
        return sent, seconds

    def cpu_seconds(self):
        return self.cpu


class Curl:
    """curl, which gets the same blobs whole, one after the other over one connection."""

    def __init__(self, urls):
        self.command = ["curl", "-sS", "--fail", "-w", "%{size_download}\n"]
        for url in urls:
            self.command += ["-o", "/dev/null", url]

    def fetch(self):
        begin = time.monotonic()
        out = subprocess.run(self.command, check=True, capture_output=True, text=True).stdout
        return sum(map(int, out.split())), time.monotonic() - begin

    @staticmethod
    def cpu_seconds():
        """Of all children that have ended: between two calls, of curl alone."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime


class Fetches:
    """A load for compare.py: all bytes through the link, as often as there are rounds."""
    unit = "MiB"
    fresh = False  # a fetch begins with a cold cache of its own

    def prepare(self, *_):
        pass

    def work(self, server, *_):
        sent, seconds = server.fetch()
        return sent / 2**20 / seconds, sent / 2**20

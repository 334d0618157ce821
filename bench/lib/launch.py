# SPDX-License-Identifier: Apache-2.0
"""launch.py - starts a service from an export, from nothing to its first answer.

nbdkit serves the image; nbdfuse makes a file of the export; a loop device mounts it read-only; an
overlay with its upper part in memory lies on top; there the service is started in a chroot."""
import http.client
import json
import os
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rootfs import PAGE, PORTS, SERVICES, run

PATIENCE = 300  # s until a start is given up
POLL = 0.004  # s


def drop_page_cache():
    """But for the programs of this machine that take part: they are the same for all."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="utf-8")
    for command in (["nbdfuse", "--version"], ["mount", "--version"], ["umount", "--version"],
                    ["chroot", "--version"], ["losetup", "--version"]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def wait_for(what, condition, process):
    give_up = time.monotonic() + PATIENCE
    while not condition():
        if process.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError(f"{what} does not start")
        time.sleep(POLL)


def listens(port):
    """Cheaper than a request, for asking often."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def answers(port):
    if not listens(port):
        return False
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        client.request("GET", PAGE)
        return client.getresponse().read() == b"up\n"
    finally:
        client.close()


def ended(process):
    process.terminate()
    process.wait()


class Launch:
    """One start.  `command` is nbdkit's without its socket; `seconds` how long it took."""

    def __init__(self, command, service):
        self.command, self.service = command, service

    def spawn(self, stack, *command, **options):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log,
                                   stderr=self.log, **options)
        stack.callback(ended, process)
        return process

    def mount(self, stack, *command):
        run("mount", *command)
        # What a service had open may still be on its way out.
        stack.callback(run, "umount", "--lazy", command[-1])

    def start(self, stack, folder):
        sock, pid = folder / "sock", folder / "fuse.pid"
        names = ["fuse", "disk", "memory", "root"]
        fuse, disk, memory, root = (folder / name for name in names)
        for name in names:
            (folder / name).mkdir()
        nbdkit = self.spawn(stack, *self.command, "-U", sock, "-P", folder / "nbdkit.pid")
        wait_for("nbdkit", (folder / "nbdkit.pid").exists, nbdkit)
        nbdfuse = self.spawn(stack, "nbdfuse", "-r", "-P", pid, f"{fuse}/nbd",
                             f"nbd+unix:///?socket={sock}")
        wait_for("nbdfuse", pid.exists, nbdfuse)
        self.mount(stack, "-o", "ro,loop,noload", f"{fuse}/nbd", disk)
        self.mount(stack, "-t", "tmpfs", "memory", memory)
        (memory / "upper").mkdir()
        (memory / "work").mkdir()
        self.mount(stack, "-t", "overlay", "overlay", "-o",
                   f"lowerdir={disk},upperdir={memory}/upper,workdir={memory}/work", root)
        started = self.spawn(stack, "chroot", root, *SERVICES[self.service])
        wait_for(self.service, lambda: answers(PORTS[self.service]), started)

    def run(self):
        """Returns the seconds from nbdkit's start to the first answer."""
        with tempfile.TemporaryDirectory(prefix="bench-") as name, \
                open(f"{name}/log", "wb") as self.log, ExitStack() as stack:
            try:
                begin = time.monotonic()
                self.start(stack, Path(name))
                return time.monotonic() - begin
            except (RuntimeError, subprocess.CalledProcessError) as error:
                text = Path(f"{name}/log").read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"{error}\n{text.strip()}") from error


def fetched(stats):
    """(bytes, requests of blobs) that a server has written into its statistics."""
    layers = json.loads(Path(stats).read_text(encoding="utf-8"))["images"][0]["layers"]
    return (sum(layer["counters"]["fetched_bytes"] for layer in layers),
            sum(sum(layer["requests"].values()) for layer in layers))

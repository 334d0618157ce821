# SPDX-License-Identifier: Apache-2.0
"""servers.py - an NBD server on a unix socket, and the CPU time that it has used."""
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

START_SECONDS = 30
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """Runs from creation to close().  The option that names the socket comes last: nbdkit's is -U,
    qemu-nbd's is -k."""

    def __init__(self, name, command, socket_option):
        self.name = name
        self.folder = tempfile.mkdtemp(prefix="bench-")  # a socket's path must be short
        self.path = os.path.join(self.folder, "socket")
        self.log = Path(self.folder, "log")
        self.uri = f"nbd+unix:///?socket={self.path}"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([*command, socket_option, self.path], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL)
        try:
            self.wait_until_up()
        except BaseException:
            self.close()
            raise

    def wait_until_up(self):
        give_up = time.monotonic() + START_SECONDS
        while not self.accepts():
            if self.process.poll() is not None or time.monotonic() > give_up:
                text = self.log.read_text(encoding="utf-8", errors="replace").strip()
                raise RuntimeError(f"server {self.name} does not start: {text}")
            time.sleep(0.02)

    def accepts(self):
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(self.path)
            except OSError:
                return False
        return True

    def cpu_seconds(self):
        """User and system time of all its threads so far."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class FreshServer:
    """A server whose files are made anew each time it is renewed.  `make` makes them, before the
    server starts."""

    def __init__(self, name, command, socket_option, make):
        self.arguments, self.make, self.server = (name, command, socket_option), make, None
        self.renew()

    def renew(self):
        self.close()
        self.make()
        self.server = Server(*self.arguments)

    @property
    def uri(self):
        return self.server.uri

    def cpu_seconds(self):
        return self.server.cpu_seconds()

    def close(self):
        if self.server:
            self.server.close()
        self.server = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

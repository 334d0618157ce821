#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hold-port.py FILE PROGRAM... - a free port for a program that cannot ask for one.

Writes the port's number for each @PORT@ of FILE, and into FILE.port, then becomes the program.  A
socket that is bound, but does not listen, keeps others off the port; the program may bind it as well
if it sets SO_REUSEADDR."""
import os
import socket
import sys
from pathlib import Path

path, program = Path(sys.argv[1]), sys.argv[2:]
holder = socket.socket()
holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
holder.bind(("127.0.0.1", 0))
holder.set_inheritable(True)
port = str(holder.getsockname()[1])
path.write_text(path.read_text().replace("@PORT@", port))
Path(f"{path}.port").write_text(port)
os.execvp(program[0], program)

# SPDX-License-Identifier: Apache-2.0
"""rootfs.py - a Debian root file system with python3 and nginx as an overlaybd image of three layers;
or, small, one with nothing but this machine's nginx."""
import os
import re
import shutil
import subprocess
from pathlib import Path

SIZE = 1 << 30  # bytes of the disk
LAYERS = 3
PIECE = 1 << 20  # bytes; where the disk is cut into layers
PACKAGES = "python3,nginx-light"
SUITE = "bookworm"
PAGE = "/index.html"
FOLDER = "/srv/page"
PORTS = {"python3": 18081, "nginx": 18082}

NGINX = f"""daemon off;
master_process off;
pid /run/nginx.pid;
error_log stderr;
events {{}}
http {{
	access_log off;
	include /etc/nginx/mime.types;
	server {{
		listen 127.0.0.1:{PORTS["nginx"]};
		root {FOLDER};
	}}
}}
"""

# What is run in the root file system, and answers at PORTS.
SERVICES = {
    "python3": ["/usr/bin/python3", "-m", "http.server", str(PORTS["python3"]), "--bind",
                "127.0.0.1", "--directory", FOLDER],
    "nginx": ["/usr/sbin/nginx", "-c", "/etc/nginx/bench.conf"],
}


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def make_small_tree(folder):
    nginx = SERVICES["nginx"][0]
    out = subprocess.run(["ldd", nginx], check=True, capture_output=True, text=True).stdout
    for file in [nginx, "/etc/nginx/mime.types", "/etc/passwd", "/etc/group",
                 *re.findall(r"/\S+\.so\S*", out)]:
        (folder / file[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / file[1:])
    for name in "run", "dev", "var/log/nginx", "var/lib/nginx":
        (folder / name).mkdir(parents=True)
    run("mknod", folder / "dev/null", "c", "1", "3")


def make_tree(folder, small):
    if small:
        make_small_tree(folder)
    else:
        run("mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, folder)
    (folder / "etc/nginx/bench.conf").write_text(NGINX, encoding="utf-8")
    page = Path(f"{folder}{FOLDER}{PAGE}")
    page.parent.mkdir(parents=True)
    page.write_text("up\n", encoding="utf-8")


def pieces_with_data(raw):
    with open(raw, "rb") as disk:
        for number in range(SIZE // PIECE):
            if any(disk.read(PIECE)):
                yield number


def cut(folder, raw, tool):
    """The first third of the data is the bottom layer, and so on."""
    pieces = list(pieces_with_data(raw))
    lowers = ""
    for layer in range(LAYERS):
        end = SIZE if layer == LAYERS - 1 else \
            pieces[len(pieces) * (layer + 1) // LAYERS] * PIECE
        part, obd = folder / "part.raw", folder / f"{layer}.obd"
        run("cp", "--sparse=always", raw, part)
        os.truncate(part, end)
        os.truncate(part, SIZE)
        base = ["--base", folder / f"{layer - 1}.yaml"] if layer > 0 else []
        run(tool, "commit", "--raw", part, *base, "--compress", "lz4", "--tar", "-o", obd)
        part.unlink()
        lowers += f"  - file: {obd.name}\n"
        (folder / f"{layer}.yaml").write_text("lowers:\n" + lowers, encoding="utf-8")


def make(folder, tool, small=False):
    """Makes it unless it is there.  Returns its layer files from the bottom, and its config."""
    files = [folder / f"{layer}.obd" for layer in range(LAYERS)]
    config = folder / f"{LAYERS - 1}.yaml"
    if not (folder / "made").exists():
        print(f"making a root file system in {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tree, raw = folder / "tree", folder / "disk.raw"
        make_tree(tree, small)
        run("mke2fs", "-q", "-t", "ext4", "-d", tree, raw, str(SIZE // 1024) + "k")
        shutil.rmtree(tree)
        cut(folder, raw, tool)
        (folder / "made").touch()
    return files, config

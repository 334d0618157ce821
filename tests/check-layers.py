#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check-layers.py [FOLDER] - each source file includes only what its place in the project allows.

The first row of RULES that matches a file decides which of our headers it may include; the rows of
OUTSIDE say where a library's headers may be included.  Also refused: a file that no row matches, a
header that does not exist, a header that includes itself through others."""
import fnmatch
import re
import sys
from pathlib import Path

BASE = ["core/base/*.h"]
LAYERS = ["core/format.h", "core/index.h", "core/layer.h", "core/layer_writer.h", "core/upper.h",
          "core/upper_compact.h", "core/upper_dense.h", "core/upper_file.h", "core/upper_lock.h", "core/upper_log.h",
          "core/upper_names.h", "core/upper_repair.h", "core/upper_resize.h", "core/upper_seal.h"]
IMAGE = ["core/chain.h", "core/config.h", "core/config_edit.h", "core/config_setting.h", "core/identity.h", "core/image.h",
         "core/lowers.h"]
FETCH = ["fetch/download.h", "fetch/fetcher.h", "fetch/reference.h", "fetch/referrers.h",
         "fetch/remote.h",
         "fetch/settings.h", "fetch/stats.h"]
ZFILE = ["zfile/tar.h", "zfile/zfile.h", "zfile/zformat.h"]  # its other headers are its own

PREFETCH = ["prefetch/*.h"]

RULES = [
    # the leaf: nothing else of ours
    (["core/base/*"], BASE),
    # formats and stages of a read know no other stage
    (["zfile/*"], BASE + ["zfile/*.h"]),
    # network and cache know neither formats nor the image
    (["fetch/*"], BASE + ["fetch/*.h"]),
    # neither compression nor network
    (["core/format.*", "core/index.*", "core/layer.*", "core/layer_writer.*"], BASE + LAYERS),
    (["core/upper.*", "core/upper_*"], BASE + LAYERS + ["core/upper_*.h"]),
    # the stack over them, which opens each stage by name
    (["core/chain.*", "core/config*", "core/identity.*", "core/image*", "core/lowers.*", "core/service.*"],
     BASE + LAYERS + IMAGE + ["core/image_private.h", "core/service.h", "core/upper_lock.h", "core/upper_readers.h",
                              "core/upper_seal.h"] + ZFILE + FETCH),
    # what start-up reads; below the image it speaks to blobs alone
    (["prefetch/*"], BASE + IMAGE + LAYERS + FETCH + ["fetch/link.h", "fetch/sequence.h", "prefetch/*.h"]),
    # users of the image
    (["nbdkit-plugin/*"], BASE + IMAGE + FETCH + PREFETCH + ["nbdkit-plugin/*.h"]),
    (["tools/*"], BASE + IMAGE + LAYERS + ZFILE + FETCH + PREFETCH +
     ["fetch/cache.h", "fetch/cache_admin.h", "fetch/image_manifest.h", "fetch/manifest.h", "fetch/push.h", "zfile/zwriter.h", "tools/*.h"]),
    # these measure and test every part by itself
    (["bench/*"], BASE + IMAGE + LAYERS + PREFETCH + ["fetch/settings.h","zfile/*.h", "bench/*.h"]),
    (["tests/*"], ["*"]),
]

OUTSIDE = [
    (["nbdkit*.h"], ["nbdkit-plugin/*", "tests/*"]),
    # the plugin and the tool print these libraries' versions
    (["lz4*.h", "zstd*.h"], ["zfile/*", "nbdkit-plugin/*", "tools/*", "bench/*", "tests/*"]),
    (["yaml.h"], ["core/base/yaml.*", "nbdkit-plugin/*", "tools/*", "tests/*"]),
    (["openssl/*"], ["core/base/digest.*", "fetch/login.c", "fetch/refusal.c", "tests/*"]),
    (["jansson.h"], ["fetch/*", "nbdkit-plugin/control.c", "tools/*", "tests/*"]),
    (["curl/*"], ["fetch/*", "nbdkit-plugin/plugin.c", "tests/*"]),
    (["ext2fs/*", "et/*"], ["prefetch/ext4.*", "tests/*"]),
    (["libnbd.h"], ["tests/*"]),
]

SKIPPED = re.compile(r"(\.git|build[^/]*|quickstart\.d)(/|$)")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def matches(path, patterns):
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def read_includes(root):
    """file -> [(is it ours, header)]"""
    files = {}
    for path in sorted(root.rglob("*.[ch]")):
        name = path.relative_to(root).as_posix()
        if SKIPPED.match(name):
            continue
        found = INCLUDE.findall(path.read_text(encoding="utf-8"))
        files[name] = [(mark == '"', header) for mark, header in found]
    return files


def find_faults(files):
    for name, includes in files.items():
        allowed = next((headers for places, headers in RULES if matches(name, places)), None)
        if allowed is None:
            yield f"{name}: no rule for files in this place"
            continue
        for ours, header in includes:
            if ours and header not in files:
                yield f'{name}: no file "{header}" (paths count from the top folder)'
            elif ours and not matches(header, allowed):
                yield f'{name}: may not include "{header}"'
            for headers, places in OUTSIDE:
                if not ours and matches(header, headers) and not matches(name, places):
                    yield f"{name}: may not include <{header}>"


def find_cycle(files, name, path):
    """The headers of a cycle that begins and ends with the first of path, or None."""
    for ours, header in files.get(name, []):
        if ours and header == path[0]:
            return path + [header]
        if ours and header not in path:
            cycle = find_cycle(files, header, path + [header])
            if cycle:
                return cycle
    return None


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent)
    files = read_includes(root)
    faults = list(find_faults(files))
    for name in files:
        cycle = find_cycle(files, name, [name])
        if cycle:
            faults.append("includes go in a circle: " + " -> ".join(cycle))
    for fault in faults:
        print(fault)
    print(f"{len(files)} files, {len(faults)} faults")
    return 1 if faults or not files else 0


if __name__ == "__main__":
    sys.exit(main())

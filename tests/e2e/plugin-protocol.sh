#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the server says about an export: sizes, flags, names, descriptions; many clients at a time.
. "$(dirname "$0")/lib.sh"
need nbdkit nbdcopy nbdinfo
need_python_nbd

make_flat mixed-3
serve p "$plugin" "$(golden_config mixed-3)"

say "flags and block sizes"
nbdinfo --json "$(uri p)" >"$work/info.json"
"$python" - "$work/info.json" <<'PYTHON'
import json, sys
e = json.load(open(sys.argv[1]))["exports"][0]
wanted = {
    "description": "overlaybd image, 3 layers", "export-size": 64 << 20, "is_read_only": True,
    "can_multi_conn": True, "can_cache": True, "can_flush": False, "can_trim": False,
    "can_zero": False, "block_size_minimum": 1, "block_size_preferred": 4096,
    "block_size_maximum": 32 << 20, "contexts": ["base:allocation"],
}
for key, value in wanted.items():
    if e.get(key) != value:
        sys.exit(f"{key} is {e.get(key)}, not {value}")
PYTHON

say "one export is listed, and every name is served"
same "list" "$(nbdinfo --list --json "$(uri p)" |
	"$python" -c 'import json, sys; print([e["export-name"] for e in json.load(sys.stdin)["exports"]])')" "['']"
same "size of another name" "$(nbdinfo --size "$(uri p any/name)")" $((64 << 20))

say "large reads, the cache command, and four clients at a time"
"$python" - "$(uri p)" "$work/mixed-3.raw" "$(seed)" <<'PYTHON'
import nbd, random, sys, threading
uri, path, seed = sys.argv[1:]
flat = open(path, "rb").read()
faults = []

def client(number):
    dice = random.Random(int(seed) + number)
    h = nbd.NBD()
    h.connect_uri(uri)
    h.cache(len(flat) // 2, dice.randrange(len(flat) // 2))
    for _ in range(10):
        length = dice.choice([32 << 20, dice.randrange(1, 8 << 20)])
        offset = dice.randrange(len(flat) - length)
        if h.pread(length, offset) != flat[offset : offset + length]:
            faults.append(f"wrong bytes in a read of {length} at {offset}")
    h.shutdown()

print(f"seed {seed}")
threads = [threading.Thread(target=client, args=(n,)) for n in range(4)]
for t in threads:
    t.start()
for t in threads:
    t.join()
if faults:
    sys.exit(faults[0])
PYTHON

say "a config in YAML: relative paths, a description, a digest and a size"
mkdir "$work/yaml"
cp "$GOLDEN"/mixed-3/layer?.obd "$work/yaml"
cat >"$work/yaml/image.yaml" <<YAML
description: drei Schichten übereinander
lowers:
  - file: layer0.obd
    size: $(stat -c %s "$work/yaml/layer0.obd")
  - file: ./layer1.obd
    digest: sha256:$(sha256 "$work/yaml/layer1.obd")
  - {file: "$work/yaml/layer2.obd"}
YAML
cd "$work"
serve y "$plugin" yaml/image.yaml
nbdcopy "$(uri y)" "$work/yaml.raw"
cmp "$work/mixed-3.raw" "$work/yaml.raw"
nbdinfo "$(uri y)" | grep -q "description: drei Schichten übereinander" || fail "no description"
stop y
sed -i 's/size: .*/size: 7/' yaml/image.yaml
serve y "$plugin" yaml/image.yaml
nbdcopy "$(uri y)" "$work/yaml.raw"
cmp "$work/mixed-3.raw" "$work/yaml.raw"
stop y "layer 0 ($work/yaml/layer0.obd): 89088 bytes, but the config says 7; it is served as it is"
stop p

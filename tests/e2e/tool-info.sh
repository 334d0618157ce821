#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tool-info.sh - `overlaybd info` and `map`: right values, JSON that parses, maps that lead to the
# bytes that are served.
. "$(dirname "$0")/tool-lib.sh"
need nbdkit nbdcopy python3

# The map covers the disk without gaps; holes and zeroes are zero in the flat disk; data is what the
# layer's LSMT file has at that place.
check_map()
{
	"$python" - "$@" <<-'END'
	import json, sys
	path, flat_path, *stacks = sys.argv[1:]
	pieces = json.load(open(path))
	flat = open(flat_path, "rb").read()
	files = {}
	for pair in stacks:
	    name, unpacked = pair.split("=", 1)
	    files[name] = open(unpacked, "rb").read()
	at = 0
	for a, b in zip(pieces, pieces[1:]):
	    same = ("data", "zero", "layer")
	    joins = all(a.get(k) == b.get(k) for k in same)
	    assert not joins or (a["data"] and a["offset"] + a["length"] != b["offset"]), (a, b)
	for x in pieces:
	    assert x["start"] == at and x["length"] > 0 and x["data"] != x["zero"], x
	    want = flat[at : at + x["length"]]
	    if x["data"]:
	        assert files[x["file"]][x["offset"] : x["offset"] + x["length"]] == want, x
	    else:
	        assert not any(want), x
	    at += x["length"]
	assert at == len(flat), (at, len(flat))
	END
}

for set in $(golden_sets); do
	path=$(golden_config "$set")
	"$overlaybd" info "$path" >"$work/out"
	grep -q "^virtual-size: $(expected "$set" virtual_size)" "$work/out" ||
		fail "virtual size of $set"
	"$overlaybd" info --json "$path" >"$work/info.json"
	same "virtual size of $set" "$("$python" -c 'import json, sys
print(json.load(open(sys.argv[1]))["virtual-size"])' "$work/info.json")" \
		"$(expected "$set" virtual_size)"
	"$overlaybd" map --json "$path" >"$work/map.json"
	rows=$("$overlaybd" map "$path" | wc -l)
	same "rows" $((rows - 1)) "$(grep -c start "$work/map.json")"
	"$python" - "$work/info.json" "$work/map.json" <<-'END'
	import json, sys
	info, pieces = (json.load(open(p)) for p in sys.argv[1:])
	assert info["kind"] == "image"
	data = sum(x["length"] for x in pieces if x["data"])
	zeroed = sum(x["length"] for x in pieces if x["zero"] and "layer" in x)
	layers = info["layers"]
	assert (info["data-size"], info["zeroed-size"]) == (data, zeroed)
	assert sum(l["visible-data-size"] for l in layers) == data
	assert sum(l["visible-zeroed-size"] for l in layers) == zeroed
	assert [l["number"] for l in layers] == list(range(len(layers)))
	assert info["entries"] == sum(l["lsmt"]["entries"] for l in layers)
	END
	if [ "$(expected "$set" virtual_size)" -le 67108864 ]; then
		make_flat "$set"
		stacks=()
		for layer in "$(dirname "$path")"/{layer*,upper.data}; do
			[ -e "$layer" ] || continue
			"$overlaybd" extract "$layer" -o "$work/$(basename "$layer")" 2>/dev/null >&2 ||
				cp --sparse=always "$layer" "$work/$(basename "$layer")"
			stacks+=("$layer=$work/$(basename "$layer")")
		done
		check_map "$work/map.json" "$work/$set.raw" "${stacks[@]}"
		rm "$work/$set.raw" "$work"/layer* "$work"/upper.data 2>/dev/null || true
	fi
	say "ok: $set"
done

layer=$GOLDEN/mixed-3/layer1.obd
"$overlaybd" info --json "$layer" >"$work/info.json"
"$python" - "$work/info.json" "$layer" <<-'END'
import json, os, sys
info = json.load(open(sys.argv[1]))
assert info["kind"] == "layer" and info["file-size"] == os.path.getsize(sys.argv[2])
tar, zfile, lsmt = info["tar"], info["zfile"], info["lsmt"]
assert tar["payload-offset"] == 1536 and tar["pax"] and tar["end-blocks"]
assert tar["name"] == "overlaybd.commit"
assert (zfile["algorithm"], zfile["block-size"], zfile["verify"]) == ("zstd", 16384, True)
assert zfile["flags"] == "0x1b" and zfile["blocks"] == 19
assert lsmt["uuid"] == "9A856B8D-E24C-450E-82E8-E552CE7A6507"
assert lsmt["parent-uuid"] == "2FDA9B42-EBEB-4E5D-8693-D61B60110065"
assert (lsmt["virtual-size"], lsmt["index-entries"]) == (67108864, 256)
END
"$overlaybd" info "$layer" | grep -q "^  uuid: 9A856B8D-" || fail "no uuid in the text"
"$overlaybd" info "$GOLDEN/tags/layer0.obd" |
	grep -q "^  message: a commit message, 256 bytes at most$" || fail "no message in the text"

# By content, not by name: a layer called .yaml, a config called .obd.
cp "$layer" "$work/layer.yaml"
config "$work/config.obd" "$layer"
"$overlaybd" info "$work/layer.yaml" | grep -q "^kind: layer$" || fail "a layer by its content"
"$overlaybd" info "$work/config.obd" | grep -q "^kind: image$" || fail "a config by its content"

# A name that is not UTF-8, and one that could drive a terminal.
cp "$layer" "$work/"$'odd\xff\e[31m'
"$overlaybd" info --json "$work/"$'odd\xff\e[31m' | "$python" -c 'import json, sys
assert json.load(sys.stdin)["file"].endswith("odd\ufffd\x1b[31m")'
"$overlaybd" info "$work/"$'odd\xff\e[31m' | grep -qF 'odd'$'\xef\xbf\xbd''\x1b[31m' ||
	fail "raw bytes in the text"

complains 1 "$work/no: No such file" info "$work/no"
complains 1 "$work/no: No such file" map "$work/no"
complains 1 "$work: " info "$work"
head -c 600 "$layer" >"$work/cut"
complains 1 "$work/cut: tar" info "$work/cut"
say "ok: layers and files"

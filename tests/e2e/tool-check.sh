#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tool-check.sh - `overlaybd check` finds each kind of damage, names it, and goes on to the next.
. "$(dirname "$0")/tool-lib.sh"
need python3

d=$work/image

# fresh SET: the set in $d, to be damaged.
fresh()
{
	rm -rf "$d"
	cp -r "$(dirname "$(golden_config "$1")")" "$d"
	chmod -R u+w "$d"
}

# flip FILE OFFSET...: turns all bits of these bytes; a negative offset counts from the end.
flip()
{
	"$python" -c 'import sys
with open(sys.argv[1], "r+b") as f:
    for text in sys.argv[2:]:
        off = int(text)
        f.seek(off, 2 if off < 0 else 0)
        byte = f.read(1)[0]
        f.seek(off, 2 if off < 0 else 0)
        f.write(bytes([byte ^ 0xff]))' "$@"
}

# finds ERRORS TEXT...: so many errors are found in the image, these among them.
finds()
{
	local errors=$1 text status=0

	shift
	"$overlaybd" check "$d/config.v1.json" >"$work/out" 2>&1 || status=$?
	same "status" $status 1
	same "errors in $(cat "$work/out")" "$(grep -c '^error: ' "$work/out")" "$errors"
	for text; do
		grep -qF "error: $d/config.v1.json: $text" "$work/out" ||
			fail "'$text' is not in: $(cat "$work/out")"
	done
	tail -1 "$work/out" | grep -qF "$d/config.v1.json: errors: $errors, warnings: " ||
		fail "no sum: $(cat "$work/out")"
	say "ok: ${1//$d\/}"
}

# warns TEXT: the image is sound, but for this.
warns()
{
	exits 0 "warning: $d/config.v1.json: $1" "$overlaybd" check "$d/config.v1.json"
	tail -1 "$work/out" | grep -q ": ok, warnings: " || fail "no sum: $(cat "$work/out")"
	say "ok: ${1//$d\/}"
}

for set in $(golden_sets) trace; do
	if [ "$set" = trace ]; then
		path=$GOLDEN/trace/config.v1.json
	else
		path=$(golden_config "$set")
	fi
	lines=1
	if [[ $set == *-grown ]]; then
		lines=2
		exits 0 "warning: $path: layer 0 ($(dirname "$path")/layer0.obd): 2 blocks of 64 KiB do not shrink" \
			"$overlaybd" check "$path"
	fi
	exits 0 "$path: ok" "$overlaybd" check "$path"
	same "lines" "$(wc -l <"$work/out")" $lines
	for layer in "$(dirname "$path")"/layer*; do
		exits 0 "$layer: ok" "$overlaybd" check "$layer"
	done
done
say "ok: the reference's layers are sound"

# mixed-3: layer 0 is a ZFile at 1536 (tar, pax) of 86280 bytes with its jump table at 85508; layer 1
# likewise; layer 2 is bare, its index of 28 entries at 280064.
zfile=1536

# block FILE N: where block N of the ZFile is stored.
block()
{
	"$python" -c 'import struct, sys
raw = open(sys.argv[1], "rb").read()[1536:]
table = struct.unpack_from("<Q", raw, 40)[0]
lengths = struct.unpack_from("<%sI" % sys.argv[2], raw, table)
print(1536 + 512 + sum(lengths))' "$@"
}

fresh mixed-3
flip "$d/layer0.obd" $(($(block "$d/layer0.obd" 7) + 9)) $(($(block "$d/layer0.obd" 9) - 1)) \
	$(($(block "$d/layer0.obd" 41) + 9))
flip "$d/layer1.obd" $(($(block "$d/layer1.obd" 11) + 9))
finds 4 "layer 0 ($d/layer0.obd): zfile block 7: " "layer 0 ($d/layer0.obd): zfile block 8: " \
	"layer 0 ($d/layer0.obd): zfile block 41: " "layer 1 ($d/layer1.obd): zfile block 11: "
# Where the layer's header is in the block, the layer cannot be opened either.
fresh mixed-3
flip "$d/layer0.obd" $((zfile + 600))
finds 2 "layer 0 ($d/layer0.obd): zfile block 0: " \
	"layer 0 ($d/layer0.obd): LSMT header: zfile block 0: "
fresh mixed-3
flip "$d/layer0.obd" $((zfile + 28))
finds 1 "layer 0 ($d/layer0.obd): zfile: header: digest is "
fresh mixed-3
flip "$d/layer0.obd" $((zfile + 86280 - 512 + 60))
finds 1 "layer 0 ($d/layer0.obd): zfile"
fresh mixed-3
flip "$d/layer0.obd" $((zfile + 85508 + 2))
flip "$d/layer1.obd" $(($(block "$d/layer1.obd" 3) + 9))
finds 2 "layer 0 ($d/layer0.obd): zfile" "layer 1 ($d/layer1.obd): zfile block 3: "
fresh mixed-3
flip "$d/layer0.obd" $((1024 + 5))
finds 1 "layer 0 ($d/layer0.obd): tar"
fresh mixed-3
flip "$d/layer0.obd" 5
finds 1 "layer 0 ($d/layer0.obd): tar header: wrong checksum"
fresh mixed-3
flip "$d/layer2.obd" 0
finds 1 "layer 2 ($d/layer2.obd): not an overlaybd layer"
fresh mixed-3
flip "$d/layer2.obd" 132
finds 1 "layer 2 ($d/layer2.obd): LSMT header: version "
fresh mixed-3
flip "$d/layer2.obd" -4096
finds 1 "layer 2 ($d/layer2.obd): LSMT trailer: "
fresh mixed-3
flip "$d/layer2.obd" $((280064 + 3 * 16 + 5)) $((280064 + 7 * 16 + 13))
finds 2 "layer 2 ($d/layer2.obd): LSMT index entry 3 " \
	"layer 2 ($d/layer2.obd): LSMT index entry 7 "
fresh mixed-3
truncate -s 200000 "$d/layer1.obd" "$d/layer2.obd"
finds 1 "layer 2 ($d/layer2.obd): LSMT trailer: "
fresh mixed-3
truncate -s 40000 "$d/layer1.obd"
rm "$d/layer2.obd"
touch "$d/layer2.obd"
finds 2 "layer 1 ($d/layer1.obd): tar" "layer 2 ($d/layer2.obd): not an overlaybd layer"
# A layer that is missing does not keep the others from being checked.
fresh mixed-3
rm "$d/layer0.obd" "$d/layer2.obd"
flip "$d/layer1.obd" $(($(block "$d/layer1.obd" 3) + 9))
finds 3 "layer 0 (line 4): $d/layer0.obd: No such file" "layer 1 ($d/layer1.obd): zfile block 3: " \
	"layer 2 (line 10): $d/layer2.obd: No such file"
fresh mixed-3
truncate -s 88064 "$d/layer0.obd"
warns "layer 0 ($d/layer0.obd): tar: the two zero blocks at the end are missing"
fresh mixed-3
flip "$d/layer2.obd" -4039
warns "layer 2 ($d/layer2.obd): LSMT header and trailer differ: uuid "

fresh mixed-3
flip "$d/layer2.obd" 32
warns "layer 2 ($d/layer2.obd): LSMT header: index of 0 entries at 255"
# Layer 0 says that it ends after a sector, and maps more.
fresh raw-5
"$python" -c 'import sys
with open(sys.argv[1], "r+b") as f:
    for place in ((48, 0), (48 - 4096, 2)):
        f.seek(*place)
        f.write((512).to_bytes(8, "little"))' "$d/layer0.obd"
warns "layer 0 ($d/layer0.obd): "
grep -q "mappings, the first at byte .*, reach beyond the virtual size of 512$" "$work/out" ||
	fail "no reach: $(cat "$work/out")"
same "warnings" "$(grep -c "^warning: " "$work/out")" 1

# Digest and size, as the config gives them.
fresh mixed-3
good=$(sha256 "$d/layer0.obd")
describe()
{
	cat >"$d/config.v1.json" <<-END
	{"lowers": [{"file": "layer0.obd", "digest": "sha256:$1", "size": $2},
	            {"file": "layer1.obd"}, {"file": "layer2.obd"}]}
	END
}
describe "$good" 89088
exits 0 ": ok" "$overlaybd" check "$d/config.v1.json"
describe "${good/[0-4]/9}" 89088
finds 1 "layer 0 ($d/layer0.obd): its digest is sha256:$good, the config says sha256:"
describe "$good" 89089
warns "layer 0 ($d/layer0.obd): its size is 89088, the config says 89089"
same "lines" "$(wc -l <"$work/out")" 2
describe "$good" '89088, "colour": 1'
exits 0 "layer 0: unknown key 'colour' is ignored" "$overlaybd" check "$d/config.v1.json"
sha512=$(sha512sum "$d/layer0.obd" | cut -d' ' -f1)
wrong=$(tr 0-9a-f 1-9a-f0 <<<"${sha512:0:1}")${sha512:1}
for digest in "$sha512" "$wrong"; do
	cat >"$d/config.v1.json" <<-END
	{"lowers": [{"file": "layer0.obd", "digest": "sha512:$digest"},
	            {"file": "layer1.obd"}, {"file": "layer2.obd"}]}
	END
	if [ "$digest" = "$sha512" ]; then
		exits 0 ": ok" "$overlaybd" check "$d/config.v1.json"
	else
		finds 1 "layer 0 ($d/layer0.obd): its digest is sha512:$sha512, the config says sha512:$wrong"
	fi
done
describe "$good" 89088
flip "$d/layer0.obd" $(($(block "$d/layer0.obd" 7) + 9))
finds 2 "layer 0 ($d/layer0.obd): zfile block 7: " "layer 0 ($d/layer0.obd): its digest is "

# Append logs: a crash leaves a fragment, or records of data that never arrived.
fresh upper-log
printf 'fragment' >>"$d/upper.index"
warns "upper: the index file ends with 8 bytes of a record"
fresh upper-log
"$python" -c 'import struct, sys
entry = struct.pack("<QQ", 1 << 50 | 8, 1 << 40)
open(sys.argv[1], "ab").write(entry * 3)' "$d/upper.index"
warns "upper: index record 42 cannot be right: 3 records"
fresh upper-log
rm "$d/upper.data"
finds 1 "upper: "
fresh upper-log
flip "$d/upper.index" 60
finds 1 "upper: "

# Layer files by themselves.
fresh mixed-3
flip "$d/layer0.obd" $((zfile + 600))
exits 1 "error: $d/layer0.obd: zfile block 0: " "$overlaybd" check "$d/layer0.obd"
complains 1 "$d/no: No such file" check "$d/no"
head -c 1000 /dev/urandom | tr '\1-\11' '\0' >"$d/noise"
printf '\0' >>"$d/noise"
complains 1 "$d/noise: neither a layer (no tar, ZFile or LSMT magic) nor a config" check "$d/noise"
echo "lowers: [" >"$d/bad.yaml"
complains 1 "$d/bad.yaml:" check "$d/bad.yaml"

# What cannot be served is an error, what compress makes of any file is not.
for place in 10 $((zfile + 1)); do
	fresh mixed-3
	flip "$d/layer0.obd" $place
	exits 1 "error: $d/layer0.obd: " "$overlaybd" check "$d/layer0.obd"
done
flip "$d/layer1.obd" 10
complains 1 "$d/layer1.obd: tar header: wrong checksum" info "$d/layer1.obd"
echo text >"$d/text"
tar -C "$d" --format=ustar -cf "$d/text.tar" text
exits 1 "error: $d/text.tar: not an overlaybd layer" "$overlaybd" check "$d/text.tar"
"$overlaybd" info "$d/text.tar" | grep -q "^lsmt: none$" || fail "info of a tar archive"
"$overlaybd" compress "$d/text" -o "$d/text.z" >/dev/null
exits 0 "warning: $d/text.z: it holds no layer" "$overlaybd" check "$d/text.z"
fresh upper-log
exits 1 "error: $d/upper.data: LSMT: not sealed: " "$overlaybd" check "$d/upper.data"
same "errors" "$(grep -c "^error: " "$work/out")" 1
complains 1 "$d/upper.data: LSMT: not sealed: " info "$d/upper.data"

# Hostile names and messages reach the terminal as escapes.
fresh tags
mv "$d/layer0.obd" "$d/"$'evil\e[2J\n.obd'
exits 0 'evil\x1b[2J\x0a.obd: ok' "$overlaybd" check "$d/"$'evil\e[2J\n.obd'
say "ok: lone files"

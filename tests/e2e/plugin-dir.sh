#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dir=: a folder of images, one export each.
. "$(dirname "$0")/lib.sh"
need nbdkit nbdcopy nbdinfo
need_python_nbd

dir=$work/images
mkdir "$dir"

add() # NAME SET: an image called NAME with the set's layers
{
	local layers

	layers=$(dirname "$(golden_config "$2")")
	sed "s,\"layer,\"$layers/layer,; s,\"upper\\.,\"$layers/upper.," "$(golden_config "$2")" \
		>"$dir/$1.yaml"
}

exports_of()
{
	nbdinfo --list --json --no-content "$(uri d)" | "$python" -c 'import json, sys
print(*[e["export-name"] for e in json.load(sys.stdin)["exports"]])'
}

# listed: the names that the server lists, without opening each as nbdinfo does.
listed()
{
	"$python" - "$(uri d)" <<'PYTHON'
import nbd, sys
h = nbd.NBD()
h.set_opt_mode(True)
h.connect_uri(sys.argv[1])
names = []
h.opt_list(lambda name, description: names.append(name) or 0)
h.opt_abort()
print(*names)
PYTHON
}

check() # EXPORT SET
{
	nbdcopy "$(uri d "$1")" "$work/copy"
	same "export '$1'" "$(sha256 "$work/copy")" "$(expected "$2" sha256)"
	rm "$work/copy"
}

refused() # EXPORT MESSAGE
{
	if nbdinfo --size "$(uri d "$1")" >/dev/null 2>&1; then
		fail "export '$1' is served"
	fi
	log_has d "$2"
	say "ok: export '$1' refused with '$2'"
}

serve d "$plugin" dir="$dir"

say "an empty folder"
same "list" "$(listed)" ""
refused "" "$dir: no image (*.yaml) in this folder"
refused one "$dir: no image (*.yaml) in this folder"

say "one image: by its name, and as the default"
add one raw-5
same "list" "$(listed)" one
check one raw-5
check "" raw-5
same "default's name" "$("$python" - "$(uri d)" <<'PYTHON'
import nbd, sys
h = nbd.NBD()
h.set_opt_mode(True)
h.set_full_info(True)
h.connect_uri(sys.argv[1])
h.opt_info()
print(h.get_canonical_export_name())
h.opt_abort()
PYTHON
)" one

say "what counts as an image"
add two lz4-4k
mkdir "$dir/folder.yaml"
mkfifo "$dir/pipe.yaml"
cp "$dir/one.yaml" "$dir/.hidden.yaml"
cp "$dir/one.yaml" "$dir/one.yml"
cp "$dir/one.yaml" "$dir/other.json"
cp "$dir/one.yaml" "$dir/.yaml"
ln -s one.yaml "$dir/link.yaml"
ln -s nowhere "$dir/dangling.yaml"
: >"$dir/$(printf 'latin\344').yaml"
: >"$dir/$(printf 'new\nline').yaml"
same "list" "$(listed)" "link one two"
same "nbdinfo --list" "$(exports_of)" "link one two"
check link raw-5
check two lz4-4k
rm "$dir/link.yaml"

say "names are looked up, never followed"
refused "" "$dir: no default export among several: one, two"
refused nope "$dir: no export 'nope'; there is: one, two"
cp "$dir/one.yaml" "$work/outside.yaml"
mkdir "$dir/sub"
cp "$dir/one.yaml" "$dir/sub/image.yaml"
for name in ../../etc/passwd ../outside ./one sub/image /etc/passwd one.yaml .hidden folder pipe; do
	refused "$name" "$dir: no export '$name'; there is: one, two"
done
refused 'a%0Ab' "no export 'a\x0ab'"

say "descriptions"
sed '1s/{/{ "description": "the first one",/' "$dir/one.yaml" >"$dir/three.yaml"
nbdinfo "$(uri d three)" | grep -q 'description: the first one' || fail "no description"
nbdinfo "$(uri d two)" | grep -q 'description: overlaybd image, 1 layer$' || fail "no description"
rm "$dir/three.yaml"

say "a bad image next to good ones"
echo 'lowers: [{file: none.obd}]' >"$dir/bad.yaml"
echo '{{{' >"$dir/worse.yaml"
same "list" "$(listed)" "bad one two worse"
refused bad "$dir/bad.yaml:1: layer 0: "
refused worse "$dir/worse.yaml:1: "
check one raw-5
check two lz4-4k

say "a repaired image is served to the next client"
add bad zstd-4k
check bad zstd-4k

say "an edited image is served to those who come after the last client of the old one"
"$python" - "$(uri d bad)" "$dir" "$dir/one.yaml" <<'PYTHON'
import nbd, os, shutil, sys, time
uri, folder, other = sys.argv[1:]

def size():
    h = nbd.NBD()
    h.connect_uri(uri)
    return h

first = size()
old = first.get_size()
shutil.copy(other, f"{folder}/bad.yaml")
second = size()
if second.get_size() != old:
    sys.exit("two sizes at a time")
first.shutdown()
if second.pread(4096, 0) is None:
    sys.exit("no read")
second.shutdown()
for _ in range(200):   # the server lets go of an image after its client has gone
    h = size()
    new = h.get_size()
    h.shutdown()
    if new != old:
        break
    time.sleep(0.05)
else:
    sys.exit("the edited image is not served")
PYTHON
rm "$dir/worse.yaml"

say "a removed file: its clients stay, new ones are refused"
"$python" - "$(uri d bad)" "$dir/bad.yaml" <<'PYTHON'
import nbd, os, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
os.unlink(sys.argv[2])
h.pread(1 << 20, 0)
try:
    nbd.NBD().connect_uri(sys.argv[1])
except nbd.Error:
    pass
else:
    sys.exit("a removed image is served")
h.pread(1 << 20, 1 << 20)
h.shutdown()
PYTHON
log_has d "$dir: no export 'bad'; there is: one, two"

say "many first clients at once, of good and bad images"
for i in 1 2 3 4; do
	add "good$i" mixed-3
	echo "lowers: [{file: none.obd}]" >"$dir/bad$i.yaml"
done
"$python" - "$work/d.sock" "$(times 400)" <<'PYTHON'
import nbd, sys, threading
socket, rounds = sys.argv[1], int(sys.argv[2])
faults = []

def client(name, good):
    try:
        h = nbd.NBD()
        h.set_export_name(name)
        h.connect_unix(socket)
        h.pread(65536, 0)
        h.shutdown()
    except nbd.Error as e:
        if good:
            faults.append(f"{name}: {e}")
    else:
        if not good:
            faults.append(f"{name} is served")

for _ in range(rounds):
    threads = [threading.Thread(target=client, args=(f"{kind}{i}", kind == "good"))
               for i in (1, 2, 3, 4) for kind in ("good", "bad") for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
if faults:
    sys.exit(f"{len(faults)} faults, the first: {faults[0]}")
print(f"ok: {rounds} rounds of 24 clients")
PYTHON

say "more images than nbdkit lists: the first ones are listed, the others are served"
"$python" -c 'import sys
for i in range(10001):
    open(f"{sys.argv[1]}/a{i:05}.yaml", "w").close()' "$dir"
same "listed" "$(listed | wc -w)" 10000
check two lz4-4k
rm "$dir"/a?????.yaml

say "a folder that is gone"
mv "$dir" "$work/gone"
refused one "$dir: No such file or directory"
mv "$work/gone" "$dir"
check one raw-5
stop d "$old_nbdkit" "$work/images: no " ": No such file or directory" "worse.yaml:1: "

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tool-trace.sh - `overlaybd trace`: files of real file systems, found where debugfs finds them; every
# form in and out; joined, compared, drawn; what it refuses.
. "$(dirname "$0")/tool-lib.sh"
PATH=$PATH:/usr/sbin:/sbin
need mke2fs debugfs python3

trace()
{
	"$overlaybd" trace "$@"
}

# The root file system, with what is hard to find: links, holes, many blocks, a deep folder.
mkdir -p "$work/root/usr/bin" "$work/root/usr/lib/py/a/b/c" "$work/root/etc" "$work/root/empty"
"$python" - "$work/root" <<-'END'
import os, sys
root = sys.argv[1]
def write(path, size):
    with open(f"{root}/{path}", "wb") as f:
        f.write(os.urandom(size))
write("usr/bin/server-1.2", 3_000_000)
os.symlink("server-1.2", f"{root}/usr/bin/server")
os.symlink("usr/bin", f"{root}/bin")
os.link(f"{root}/usr/bin/server-1.2", f"{root}/usr/bin/hard")
for i in range(200):
    write(f"usr/lib/py/mod{i}.py", 50 + 97 * i)
write("usr/lib/py/a/b/c/deep.so", 300_000)
os.symlink("/usr/bin/server", f"{root}/usr/lib/py/link")
with open(f"{root}/etc/holes", "wb") as f:
    for i in range(40):
        f.seek(i * 65536)
        f.write(os.urandom(4096))
write("etc/tiny", 20)
write("other", 2_000_000)
os.symlink("two", f"{root}/etc/one")
os.symlink("one", f"{root}/etc/two")
os.symlink("/usr/lib/" + "py/../" * 20 + "py/mod5.py", f"{root}/etc/far")
END

# Which files the trace must have, which it must not: debugfs says where they are.
cat >"$work/compare.py" <<-'END'
import json, subprocess, sys
disk, trace, block_size, wanted, unwanted = sys.argv[1:]
def blocks(path):
    out = subprocess.run(["debugfs", "-R", f"blocks {path}", disk], check=True, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return {int(word) for word in out.split()} - {0}
reads = json.load(open(trace))["list"]
sectors = int(block_size) // 512
got = set()
for read in reads:
    first = read["lba"] // sectors
    got |= set(range(first, (read["lba"] + read["sectors"] - 1) // sectors + 1))
for path in wanted.split():
    want = blocks(path)
    assert want or "." not in path, path  # the others may lie in their inodes
    assert want <= got, (path, len(want - got))
for path in unwanted.split():
    assert not blocks(path) & got, path
sizes = sum(read["sectors"] for read in reads)
assert sizes <= len(got) * sectors, "a sector comes twice"
END

# check_disk NAME BLOCK-SIZE MKE2FS-ARGUMENT...: makes the disk and finds files on it.
check_disk()
{
	local name=$1 block=$2 disk=$work/$1.raw

	shift 2
	mke2fs -q -F -b "$block" -d "$work/root" "$@" "$disk" 64M >"$work/mke2fs.log" 2>&1 ||
		fail "mke2fs: $(cat "$work/mke2fs.log")"
	"$overlaybd" commit --raw "$disk" -o "$work/$name.obd" >/dev/null
	config "$work/$name.yaml" "$work/$name.obd"

	printf '# starts\n\n/bin/server\n/etc/holes\r\n/etc/far\n/etc/tiny\n/usr/lib/py/a/*\n' \
		>"$work/list"
	exits 0 "$work/$name.trace: " "$overlaybd" trace import "$work/list" "$work/$name.yaml" \
		-o "$work/$name.trace"
	same "lines" "$(wc -l <"$work/out")" 1
	trace show --json --reads "$work/$name.trace" >"$work/reads.json"
	"$python" "$work/compare.py" "$disk" "$work/reads.json" "$block" \
		"/usr/bin/server-1.2 /etc/holes /usr/lib/py/mod5.py /etc/tiny
			/usr/lib/py/a/b/c/deep.so" "/other /usr/lib/py/mod199.py /usr/lib/py/mod50.py"

	echo "/" >"$work/list"
	trace import "$work/list" "$work/$name.yaml" -o "$work/all.trace" >/dev/null
	trace show --json --reads "$work/all.trace" >"$work/reads.json"
	"$python" "$work/compare.py" "$disk" "$work/reads.json" "$block" \
		"/usr/bin/hard /other /usr/lib/py/mod199.py /usr/lib /usr/lib/py /etc /empty" ""
	say "ok: files of $name"
}

check_disk ext4 4096 -t ext4
check_disk ext4-1k 1024 -t ext4
check_disk ext2 1024 -t ext2
check_disk inline 4096 -t ext4 -O inline_data,^metadata_csum -I 256
check_disk plain 4096 -t ext4 -O ^64bit,^metadata_csum,^filetype,^dir_index

cd "$work"
printf '/nothing\n/etc/one\n/etc/tiny/\n/etc/tiny\n/other\n' >list
trace import list ext4.yaml -o notes.trace >out 2>&1
for text in "/nothing is skipped: No such file" "/etc/one is skipped: Too many levels" \
	"/etc/tiny/ is skipped: Not a directory"; do
	grep -qF "overlaybd: $text" out || fail "no '$text' in $(cat out)"
done
same "lines" "$(wc -l <out)" 4
say "ok: notes"

# A folder that is in itself: its end is found.
cp ext4.raw loop.raw
debugfs -w -R "link /usr/lib/py /usr/lib/py/a/b/loop" loop.raw >debugfs.log 2>&1
debugfs -R "ls /usr/lib/py/a/b/loop" loop.raw 2>/dev/null | grep -q mod5.py ||
	fail "debugfs did not link the folder: $(cat debugfs.log)"
"$overlaybd" commit --raw loop.raw -o loop.obd >/dev/null
config loop.yaml loop.obd
echo "/usr/lib/" >list
trace import list ext4.yaml -o once.trace >/dev/null
trace import list loop.yaml -o loop.trace >out 2>&1
same "lines" "$(wc -l <out)" 1
same "reads" "$(trace show loop.trace | grep ^reads)" "$(trace show once.trace | grep ^reads)"
say "ok: a folder in itself"

# What a process reads through the image is what the list finds: the second layer holds one file anew.
head -c 400000 /dev/urandom >new
cp ext4.raw ext4-2.raw
debugfs -w -R "write $work/new new" ext4-2.raw >/dev/null 2>&1
"$overlaybd" commit --raw ext4-2.raw --base ext4.yaml -o second.obd >/dev/null
config two.yaml ext4.obd second.obd
printf '/new\n/usr/bin/server\n/etc/\n' >list
trace import list two.yaml -o two.trace >/dev/null

trace export two.trace two.yaml -o two.reference
trace import two.reference two.yaml -o back.trace >/dev/null
trace export two.trace --format text -o two.txt
trace import two.txt two.yaml -o text.trace >/dev/null
cmp two.trace text.trace || fail "as text and back it is another trace"
trace diff back.trace two.trace >out
grep -q "^# only in back.trace: 0 B in 0 ranges$" out || fail "more came back: $(cat out)"
trace import two.trace two.yaml -o ours.trace >/dev/null
cmp two.trace ours.trace || fail "our own form is changed by an import"
"$python" - two.reference two.txt <<-'END'
import struct, sys
data = open(sys.argv[1], "rb").read()
magic, _, size, checksum, _ = struct.unpack("<IIQII", data[:24])
records = [struct.unpack("<cxxxIQq", data[i:i + 24]) for i in range(24, len(data), 24)]
assert magic == 0xC2EF1820 and size == len(data) - 24 and records
assert {layer for _, layer, _, _ in records} == {0, 1}
assert all(op == b"R" and n % 512 == 0 and off >= 4096 for op, _, n, off in records)
bytes_of = sum(int(line.split()[1]) for line in open(sys.argv[2]) if line[0].isdigit()) * 512
assert sum(n for _, _, n, _ in records) <= bytes_of
END
say "ok: exports and imports"

# The reference's own recording.
cp -r "$GOLDEN/trace" golden
trace import golden/recorded.trace golden/config.v1.json -o golden.trace >out
grep -q '^golden.trace: 573 reads, ' out || fail "the golden trace: $(cat out)"
trace export golden.trace golden/config.v1.json -o golden.reference
trace import golden.reference golden/config.v1.json -o golden2.trace >/dev/null
same "differences" "$(trace diff golden.trace golden2.trace | grep -c '^[<>]')" 0
complains 1 "golden.trace, two.trace: traces of different images: sha256:" \
	trace merge golden.trace two.trace -o x
complains 1 "golden.trace, two.trace: traces of different images: sha256:" \
	trace diff golden.trace two.trace
complains 1 "golden.trace: the trace is of another image: sha256:" trace show golden.trace two.yaml
complains 1 "golden.trace: the trace is of another image: sha256:" \
	trace import golden.trace two.yaml -o x
complains 1 "golden.trace: the trace is of another image: sha256:" \
	trace plot golden.trace two.yaml -o x
[ ! -e x ] || fail "an output of what failed"
say "ok: the reference's trace"

printf '0 8 0\n100 16 5.5\n200 8 7\n' >a.txt
printf '104 32 3\n0 4 4\n300 8 9\n' >b.txt
trace import a.txt two.yaml -o a.trace >/dev/null
trace import b.txt two.yaml -o b.trace >/dev/null
exits 0 "c.trace: 5 reads, 30 KiB" "$overlaybd" trace merge a.trace b.trace -o c.trace
trace export c.trace --format text -o c.txt
same "the merged trace" "$(grep '^[0-9]' c.txt | tr '\n' ';')" \
	"0 8 0.000;104 32 3.000;100 4 5.500;200 8 7.000;300 8 9.000;"
trace diff a.trace b.trace >out
same "the differences" "$(grep '^[<>]' out | tr -s ' ' | tr '\n' ';')" \
	"< 4 4;< 100 4;< 200 8;> 116 20;> 300 8;"
grep -q '^# only in a.trace: 8 KiB in 3 ranges$' out || fail "$(cat out)"
say "ok: merge and diff"

trace show a.trace two.yaml >out
grep -q '^reads: 3$' out && grep -q '^read-size: 16384 (16 KiB)$' out &&
	grep -q '^duration: 0.007 s$' out && grep -q '^share: ' out || fail "$(cat out)"
trace show a.trace --reads | tail -3 | tr -s ' ' >out
same "reads" "$(tr '\n' ';' <out)" "0 8 0.000;100 16 5.500;200 8 7.000;"
trace show a.trace two.yaml --json | "$python" -c 'import json, sys
x = json.load(sys.stdin)
assert x["reads"] == 3 and x["read-size"] == x["unique-size"] == 16384 and x["duration"] == 0.007
assert 0 < x["image-read-size"] <= 16384 < x["image-data-size"] and x["disk-size"] == 64 << 20
assert x["identity"].startswith("sha256:") and "list" not in x'
say "ok: show"

for arguments in "a.trace" "a.trace two.yaml" "two.trace two.yaml" "golden.trace"; do
	# shellcheck disable=SC2086
	trace plot $arguments -o picture.svg
	"$python" - picture.svg <<-'END'
	import sys, xml.etree.ElementTree as tree
	text = open(sys.argv[1]).read()
	root = tree.fromstring(text)
	names = {element.tag.split("}")[1] for element in root.iter()}
	assert root.tag.endswith("}svg") and names <= {"svg", "title", "style", "rect", "path", "g",
	                                               "text", "tspan"}, names
	assert "href" not in text and "url(" not in text and len(text) < 300 << 10
	END
done
grep -q 'layer 1<' picture.svg && fail "layers without an image" || true
trace plot two.trace two.yaml -o picture.svg
grep -q '>layer 1<' picture.svg && grep -q '>layer 0 (bottom)<' picture.svg ||
	fail "no layers in the picture"
say "ok: plot"

complains 2 "trace: show|export|import|merge|diff|plot|push FILE" trace
complains 2 "trace: unknown verb 'plto' (did you mean 'plot'?)" trace plto
complains 2 "trace: unknown verb 'x'; see overlaybd trace --help" trace x
complains 2 "trace: show needs a trace" trace show
complains 2 "trace: diff needs two traces" trace diff a.trace
complains 2 "trace: import needs a file, and an image's config or reference" trace import a.txt
complains 2 "trace: --output is missing" trace import a.txt two.yaml
complains 2 "trace: --output is missing" trace plot a.trace
complains 2 "trace: --output is missing" trace merge a.trace
complains 2 "trace: export needs the image's config" trace export a.trace -o x
complains 2 "trace: unknown format 'json': reference or text" trace export a.trace --format json -o x
complains 2 "trace: show takes no option '--output'" trace show a.trace -o x
complains 2 "trace: diff takes no option '--insecure'" trace diff a b --insecure
complains 2 "trace: show: unexpected argument 'x'" trace show a.trace two.yaml x
complains 1 "no.trace: No such file" trace show no.trace
complains 1 "two.yaml: no trace (bad magic)" trace show two.yaml
complains 1 "$work/two.yaml: neither a trace nor a list" trace import "$work/two.yaml" two.yaml -o x
head -c 100 two.trace >cut.trace
complains 1 "cut.trace: trace of " trace merge two.trace cut.trace -o x
printf '/x\nrelative\n' >list
complains 1 "list: line 2: 'relative' is not an absolute path" trace import list two.yaml -o x
printf '/x\n' >list
complains 1 "list: the disk holds no ext4 file system: " trace import list golden/config.v1.json -o x
complains 1 "" trace import a.txt two.yaml -o ext4.obd
complains 1 "" trace plot two.trace two.yaml -o two.yaml
trace show two.trace two.yaml >/dev/null || fail "a layer or the config was overwritten"
[ ! -e x ] || fail "an output of what failed"
say "ok: what it refuses"

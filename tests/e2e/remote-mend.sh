#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# remote-mend.sh - two servers share a cache in which a whole layer was found wrong, and the registry is
# well again: both mend it together, soon and without fetching it over and over, even when one of them
# is frozen in the middle.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit
need_python_nbd

export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home" "$work/reg"
start_registry reg --dir "$work/reg"
start_link slow reg 20 200
reg=127.0.0.1:${port[slow]}
size=$((32 << 20))
head -c $size /dev/urandom >"$work/disk.raw"
"$overlaybd" commit --raw "$work/disk.raw" --compress none -o "$work/disk.obd" >/dev/null
push_image "http://127.0.0.1:${port[reg]}" disk obd "$work/disk.obd"

# reads NAME: a read of that server is right in the end.
reads()
{
	timeout 60 "$python" - "$work/disk.raw" "$(uri "$1")" <<'PYTHON'
import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[2])
with open(sys.argv[1], "rb") as f:
    f.seek(1 << 20)
    if h.pread(4096, 1 << 20) != f.read(4096):
        sys.exit("wrong bytes")
PYTHON
}

# spoil CACHE: two servers, a and b, on a cache in which the layer is known to be wrong.
spoil()
{
	local name

	for name in a b; do
		serve $name "$plugin" "image=$reg/disk:obd" "cache-dir=$1" trace=off timeout=30
	done
	tell reg /faults '[{"kind": "corrupt", "every": 1}]'
	exits 1 "the blob is wrong" "$overlaybd" cache fill "$reg/disk:obd" --cache-dir "$1"
	tell reg /faults '[]'
	: >"$work/reg.requests"
}

# asked: what has been asked of the layer since, in per cent of its size, by the requests' ranges.
asked()
{
	"$python" - "$work/reg.requests" $size <<'PYTHON'
import re, sys
sent = sum(int(b) - int(a) + 1 for a, b in re.findall(r"bytes=(\d+)-(\d+)", open(sys.argv[1]).read()))
print(100 * sent // int(sys.argv[2]))
PYTHON
}

end_both()
{
	local name

	for name in a b; do
		stop $name "the blob is wrong: its bytes have the digest" "the registry's bytes do not have the digest"
	done
}

spoil "$work/cache"
reads a &
reader=$!
reads b || fail "b does not get over it: $(tail -2 "$work/b.log")"
wait $reader || fail "a does not get over it: $(tail -2 "$work/a.log")"
percent=$(asked)
[ "$percent" -ge 100 ] || fail "only $percent% were asked for: is nothing to be mended?"
[ "$percent" -le 250 ] || fail "$percent% were asked for"
end_both
say "ok: two mend it together, $percent% are asked for"

spoil "$work/cache2"
reads b >/dev/null 2>&1 &
reader=$!
await 20 eval '[ "$(grep -c /blobs/ "$work/reg.requests")" -ge 10 ]' || fail "b asks for nothing"
kill -STOP "${servers[b]}"
reads a || fail "a does not get over it beside a frozen one: $(tail -2 "$work/a.log")"
kill -CONT "${servers[b]}"
wait $reader || fail "b does not get over it: $(tail -2 "$work/b.log")"
percent=$(asked)
[ "$percent" -le 400 ] || fail "$percent% were asked for"
end_both
say "ok: one mends it beside a frozen one, $percent% are asked for"

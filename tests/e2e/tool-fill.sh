#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `overlaybd cache fill --cache-limit`: the folder stays under its limit, what is older goes, what was
# just filled stays, and an image that cannot fit is refused without costing another its place.
. "$(dirname "$0")/remote-lib.sh"

export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home" "$work/reg"
start_registry reg
reg=127.0.0.1:${port[reg]}
cache=$work/cache

# make NAME BYTES: an image of one layer of about so many bytes that do not compress.
make()
{
	head -c "$2" /dev/urandom >"$work/$1.raw"
	"$overlaybd" commit --raw "$work/$1.raw" --compress none -o "$work/$1.obd" >/dev/null
	push_image "http://$reg" "$1" obd "$work/$1.obd"
}

# fill NAME OPTION...
fill()
{
	local name=$1

	shift
	exits 0 "1 layers, " "$overlaybd" cache fill "$reg/$name:obd" --cache-dir "$cache" "$@"
}

# has NAME: bytes of it that are in the cache.
has()
{
	"$overlaybd" cache ls --json --cache-dir "$cache" >"$work/ls.json"
	"$python" -c 'import json, sys
x = json.load(open(sys.argv[1]))
assert x["usage-size"] <= int(sys.argv[3]), x
print(sum(b["present-size"] for b in x["blobs"] if b["digest"] == sys.argv[2]))' \
		"$work/ls.json" "sha256:$(sha256 "$work/$1.obd")" "${2:-$limit}" || fail "over the limit"
}

limit=$((12 << 20))
for name in first second third; do
	make "$name" $((5 << 20))
done
make large $((14 << 20))
size=$(stat -c %s "$work/first.obd")

fill first --cache-limit "$limit"
same "of the first" "$(has first)" "$size"
fill second
same "of the first, beside the second" "$(has first)" "$size"
same "of the second" "$(has second)" "$size"
say "ok: what fits"

# The limit is the folder's: it holds without being said again.
fill third
same "of the third" "$(has third)" "$size"
first=$(has first)
second=$(has second)
[ $((first + second)) -lt $((2 * size)) ] || fail "nothing of what is older has gone"
blobs=$(du -s --block-size=1 "$cache" | cut -f1)
[ "$blobs" -le $((limit + (1 << 20))) ] || fail "$blobs bytes on the disk, the limit is $limit"
say "ok: what is older makes room"

before=$(has third)
exits 1 "do not fit under cache-limit=12M" "$overlaybd" cache fill "$reg/large:obd" --cache-dir "$cache"
same "of the third, after one that cannot fit" "$(has third)" "$before"
say "ok: too large"

fill large --cache-limit 20M
limit=$((20 << 20))
same "of the large one" "$(has large)" "$(stat -c %s "$work/large.obd")"
say "ok: another limit"

fill first --cache-limit 6M
limit=$((6 << 20))
same "of the first, for which the large one has made room" "$(has first)" "$size"
say "ok: a smaller limit"

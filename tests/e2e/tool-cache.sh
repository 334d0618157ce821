#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tool-cache.sh - `overlaybd cache`: lists, verifies, shrinks and drops what a cache folder holds.
. "$(dirname "$0")/tool-lib.sh"
need python3

cache=$work/cache
a=https://a.example:443/app
b=https://b.example:443/app

fill()
{
	"$BUILD/tests/cache-fill" "$cache" "$@"
}

# lists EXPRESSION: what the Python expression says of the listing, x.
lists()
{
	"$overlaybd" cache ls --json --cache-dir "$cache" >"$work/ls.json"
	"$python" -c 'import json, sys
x = json.load(open(sys.argv[1]))
assert eval("(" + sys.argv[2] + ")"), x' "$work/ls.json" "$1" || fail "not so: $1"
}

complains 2 "cache: ls|verify|prune|drop|fill [DIGEST|CONFIG|REF] is missing" cache
complains 2 "cache: unknown verb 'list'; see overlaybd cache --help" cache list
complains 2 "cache: unknown verb 'prun' (did you mean 'prune'?)" cache prun
complains 2 "cache: verify takes no option '--json'" cache verify --json
complains 2 "cache: ls: unexpected argument 'x'" cache ls x
complains 2 "cache: unexpected argument 'c'" cache drop b c
complains 2 "cache: --to is missing" cache prune
complains 2 "cache: --to: '1.5G' is not a size such as" cache prune --to 1.5G
complains 2 "cache: drop needs a digest, or --origin, or --all" cache drop
complains 2 "cache: drop needs a digest, or --origin, or --all" cache drop --all --origin "$a"
complains 2 "cache: 'sha256:1' is not 'sha256:' and 64 hex digits" cache drop sha256:1
complains 1 "cache $cache: No such file" cache ls --cache-dir "$cache"
[ ! -e "$cache" ] || fail "looking at a cache made one"
say "ok: command lines"

head -c 1000000 /dev/urandom >"$work/one"
head -c 300000 /dev/urandom >"$work/two"
one=$(fill "$a" "$work/one" 10)
two=$(fill "$a" "$work/two")
fill "$b" "$work/one" 3 >/dev/null
lists "len(x['blobs']) == 3"
lists "x['blobs'][0] == {'digest': '$two', 'origin': None, 'state': 'whole', 'size': 300000,
	'present-size': 300000, 'in-use': False}"
lists "[(y['origin'], y['digest'], y['state'], y['present-size']) for y in x['blobs'][1:]] ==
	[('$a', '$one', 'partial', 163840), ('$b', '$one', 'partial', 49152)]"
lists "x['usage-size'] > 300000 + 163840 + 49152"
exits 0 "in all" env XDG_CACHE_HOME="$work/xdg" sh -c \
	"mkdir -p $work/xdg && cp -r $cache $work/xdg/overlaybd && $overlaybd cache ls"
grep -qE "^whole +no +292.9 KiB +292.9 KiB  $two  -$" "$work/out" || fail "ls: $(cat "$work/out")"
say "ok: ls"

exits 0 "32 chunks checked, 0 wrong" "$overlaybd" cache verify --cache-dir "$cache"
printf 'x' | dd of="$cache/v1/sha256/$two/data" bs=1 seek=20000 conv=notrunc status=none
exits 1 "32 chunks checked, 1 wrong and dropped" "$overlaybd" cache verify --cache-dir "$cache"
lists "x['blobs'][0]['state'] == 'partial'"
fill "$b" "$work/two" >/dev/null
lists "x['blobs'][0]['state'] == 'whole' and len(x['blobs']) == 3"
truncate -s 100 "$cache/v1/sha256/$two/map"
lists "x['blobs'][0]['state'] == 'damaged'"
exits 1 "1 wrong and dropped" "$overlaybd" cache verify --cache-dir "$cache"
lists "[y['digest'] for y in x['blobs']] == ['$one', '$one']"
say "ok: verify"

exits 0 "144 KiB freed" "$overlaybd" cache prune --to 75k --cache-dir "$cache"
lists "sum(y['present-size'] for y in x['blobs']) == 65536 and x['usage-size'] <= 75 << 10"
exits 0 "freed" "$overlaybd" cache prune --to 0 --cache-dir "$cache"
lists "x == {'usage-size': 0, 'limit-size': 0, 'keep-free-size': 0, 'blobs': []}"
say "ok: prune"

for origin in "$a" "$b"; do
	fill "$origin" "$work/one" 2 >/dev/null
	fill "$origin" "$work/two" 2 >/dev/null
done
exits 0 "2 blobs dropped" "$overlaybd" cache drop "$one" --cache-dir "$cache"
complains 1 "the cache holds no blob $one" cache drop "$one" --cache-dir "$cache"
lists "[y['digest'] for y in x['blobs']] == ['$two', '$two']"
exits 0 "1 blob dropped" "$overlaybd" cache drop --origin "$a" --cache-dir "$cache"
lists "[y['origin'] for y in x['blobs']] == ['$b']"
complains 1 "the cache holds no blob of $a" cache drop --origin "$a" --cache-dir "$cache"
exits 0 "1 blob dropped" "$overlaybd" cache drop --all --cache-dir "$cache"
exits 0 "0 blobs dropped" "$overlaybd" cache drop --all --cache-dir "$cache"
lists "x == {'usage-size': 0, 'limit-size': 0, 'keep-free-size': 0, 'blobs': []}"
say "ok: drop"

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Many processes at once on one cache folder: all read the right bytes, each chunk is fetched at most
# twice in all, and no origin's wrong bytes reach the reader of another.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit nbdcopy cmp
need_python_nbd

client=$SOURCE/tests/e2e/client.py
export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home"
seed=$(seed)
say "seed $seed"
make_image img $((12 * 1024 * 1024)) 80 "$seed"
flat=$work/img/flat.raw
start_registry reg
push_image "http://127.0.0.1:${port[reg]}" app/disk obd "$work"/img/[123].obd
start_link link reg 20
image=127.0.0.1:${port[link]}/app/disk:obd

# fetched_often: how often the chunk that was sent most often was sent, and all bytes in percent of the
# blobs', by the server's log.
fetched_often()
{
	"$python" - "$work/reg.requests" "$work"/img/[123].obd <<-'END'
		import collections, json, os, re, sys
		times, sent = collections.Counter(), 0
		for line in open(sys.argv[1]):
		    r = json.loads(line)
		    if r["kind"] == "blob" and r["method"] == "GET":
		        first, last = map(int, re.match(r"bytes=(\d+)-(\d+)$", r["range"]).groups())
		        sent += r["sent"]
		        for chunk in range(first // 16384, last // 16384 + 1):
		            times[r["path"], chunk] += 1
		size = sum(map(os.path.getsize, sys.argv[2:]))
		print(max(times.values()), 100 * sent // size)
	END
}

# ---- all at once ----

processes=50
[ "${FULL:-0}" = 1 ] || processes=12
: >"$work/reg.requests"
pids=()
for ((n = 0; n < processes; n++)); do
	# shellcheck disable=SC2016 # nbdkit's own shell sets uri
	nbdkit_ -U - "$plugin" "image=$image" "cache-dir=$work/cache" \
		--run 'nbdcopy "$uri" '"'$work/copy.$n'" 2>"$work/process.$n.log" &
	pids+=($!)
done
for ((n = 0; n < processes; n++)); do
	wait "${pids[n]}" || fail "process $n ends with $?: $(cat "$work/process.$n.log")"
	cmp "$work/copy.$n" "$flat" || fail "process $n reads other bytes"
	rm "$work/copy.$n"
done
read -r often percent < <(fetched_often)
[ "$often" -le 2 ] || fail "a chunk was fetched $often times"
[ "$percent" -le 200 ] || fail "$percent% of the blobs were fetched"
say "ok: $processes processes fetch $percent% of the blobs, a chunk at most $often times"
cat "$work"/process.*.log >"$work/processes.log"
says_only processes "using the manifest cached for this tag" # where the registry is slow to answer so many

: >"$work/reg.requests"
serve later "$plugin" "image=$image" "cache-dir=$work/cache"
nbdcopy "$(uri later)" "$work/copy"
cmp "$work/copy" "$flat" || fail "a later process reads other bytes"
stop later
! grep '"kind": "blob"' "$work/reg.requests" || fail "a later process fetches what is there"
say "ok: a later process finds all of it"

# ---- two origins ----

# Bytes under the right digest that are not: in the last layer, which has no checksums of its own.
start_registry evil
mkdir -p "$work/evil"
cp -r "$work/reg/." "$work/evil"
bare=$work/evil/blobs/sha256/$(sha256 "$work/img/3.obd")
"$python" - "$bare" <<-'END'
	import os, sys
	size = os.path.getsize(sys.argv[1])
	with open(sys.argv[1], "r+b") as f:
	    for at in range(8192, size // 2, 4096):
	        f.seek(at)
	        f.write(b"poison")
END
# What is downloaded whole is found right or wrong, sooner or later.
for origin in reg evil; do
	cat >"$work/$origin.yaml" <<-END
		image: 127.0.0.1:${port[$origin]}/app/disk:obd
		download: {enable: true, delay: 0, delayExtra: 0, tryCnt: 1}
	END
done
cache=cache-dir=$work/two-origins

# scan_bad: reads it all.  Not with nbdcopy, which leaves in the midst of its reads when one fails.
scan_bad()
{
	"$python" "$client" scan "$(uri bad)" "$flat" >"$work/scan.out" 2>&1
}

has_eio()
{
	scan_bad && grep -q 'EIO=' "$work/scan.out"
}

serve bad "$plugin" "config=$work/evil.yaml" "$cache"
await 20 has_eio || fail "the whole blob is wrong, and reads go on: $(cat "$work/scan.out")"
await 10 grep -q "sha256:$(sha256 "$work/img/3.obd"): the blob is wrong" "$work/bad.log" ||
	fail "no warning: $(tail -n 5 "$work/bad.log")"
serve good "$plugin" "image=127.0.0.1:${port[reg]}/app/disk:obd" "$cache"
"$python" "$client" random "$(uri good)" "$flat" 100 "$seed"
nbdcopy "$(uri good)" "$work/copy"
cmp "$work/copy" "$flat" || fail "poison of another origin is served"
stop good
stop bad "the blob is wrong: its bytes have the digest" "the registry's bytes do not have the digest"
say "ok: poison that was there first"

rm -rf "$work/two-origins"
serve bad "$plugin" "config=$work/evil.yaml" "$cache"
serve good "$plugin" "image=127.0.0.1:${port[reg]}/app/disk:obd" "$cache"
(while ! has_eio; do :; done) &
poisoner=$!
for ((n = 0; n < 5; n++)); do
	"$python" "$client" random "$(uri good)" "$flat" 50 $((seed + n))
	nbdcopy "$(uri good)" "$work/copy"
	cmp "$work/copy" "$flat" || fail "poison of another origin is served"
done
kill $poisoner 2>/dev/null || true
wait $poisoner 2>/dev/null || true
stop bad "the blob is wrong: its bytes have the digest" "the registry's bytes do not have the digest"
stop good
say "ok: poison that comes at the same time"

is_shared()
{
	[ -e "$work/two-origins/v1/sha256/sha256:$(sha256 "$work/img/3.obd")/map" ]
}
serve good "$plugin" "config=$work/reg.yaml" "$cache"
await 20 is_shared || fail "what was downloaded and is right does not become shared"
serve bad "$plugin" "config=$work/evil.yaml" "$cache"
scan_bad || fail "a blob that was checked is not what is read: $(cat "$work/scan.out")"
! grep EIO "$work/scan.out" || fail "reads fail"
stop bad
stop good
say "ok: a blob that was checked serves both"

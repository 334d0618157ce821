#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The shared cache survives what happens to it: kill -9 at random moments while two processes fill it and
# a small limit forces eviction, flipped bytes, torn maps, a full disk, no rights.  All reads are right,
# and one line in the log says what was wrong.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit nbdcopy
need_python_nbd

# The small file system below is mounted where nobody else sees it.
if [ "$(id -u)" -eq 0 ] && [ -z "${PRIVATE_MOUNTS:-}" ] && unshare --mount true 2>/dev/null; then
	rm -rf "$work"
	PRIVATE_MOUNTS=1 exec unshare --mount "$0"
fi

client=$SOURCE/tests/e2e/client.py
export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home"
seed=$(seed)
RANDOM=$((seed % 32768))
say "seed $seed"
make_image img $((64 * 1024 * 1024)) 300 "$seed"
flat=$work/img/flat.raw
start_registry reg
push_image "http://127.0.0.1:${port[reg]}" app/disk obd "$work"/img/[123].obd
image=127.0.0.1:${port[reg]}/app/disk@$pushed
total=$(cat "$work"/img/[123].obd | wc -c)
[ "$total" -ge $((16 << 20)) ] || fail "the image has only $total bytes"

# read_all NAME: the export NAME is the image's disk.
read_all()
{
	rm -f "$work/copy"
	nbdcopy "$(uri "$1")" "$work/copy"
	cmp "$work/copy" "$flat" || fail "$1 serves other bytes"
}

# warns NAME [TEXT]: its log holds one line, with this text; without: none.
warns()
{
	if [ $# -eq 1 ]; then
		says_only "$1"
		return
	fi
	same "lines of $1 ($(cat "$work/$1.log"))" "$(wc -l <"$work/$1.log")" 1
	log_has "$1" "$2"
	say "one warning: $(cat "$work/$1.log")"
}

# ---- kill -9 ----

declare -A readers=()

# fill NAME: a server with a client that reads at random until it is killed.
fill()
{
	serve "$1" "$plugin" "image=$image" "cache-dir=$work/cache" cache-limit=2M
	"$python" "$client" random "$(uri "$1")" "$flat" 100000000 $RANDOM \
		>"$work/$1.out" 2>&1 &
	readers[$1]=$!
}

# crash NAME...: kills these servers.  Their clients must have been served well up to then.
crash()
{
	local name pids=()

	for name; do
		kill -0 "${readers[$name]}" 2>/dev/null ||
			fail "a client of $name ended early: $(cat "$work/$name.out")"
	done
	for name; do
		pids+=("${servers[$name]}")
		unset "servers[$name]"
	done
	kill -KILL "${pids[@]}"
	wait "${pids[@]}" 2>/dev/null || true
	for name; do
		wait "${readers[$name]}" && fail "a client without a server goes on"
		! grep -E 'wrong bytes|Input/output error' "$work/$name.out" || fail "bad reads"
		warns "$name"
	done
}

rounds=$(times 200)
for ((round = 0; round < rounds; round++)); do
	for name in one two; do
		[ -n "${servers[$name]:-}" ] || fill $name
	done
	sleep "0.$((RANDOM % 10))$((RANDOM % 10))"
	case $((RANDOM % 3)) in
	0) crash one ;;
	1) crash two ;;
	2) crash one two ;;
	esac
	serve fresh "$plugin" "image=$image" "cache-dir=$work/cache" cache-limit=2M
	"$python" "$client" random "$(uri fresh)" "$flat" 50 $RANDOM >"$work/fresh.out" 2>&1 ||
		fail "after crash $round: $(cat "$work/fresh.out")"
	[ $((round % 10)) -ne 9 ] || read_all fresh
	stop fresh
	warns fresh
done
for name in "${!servers[@]}"; do
	case $name in one | two) crash $name ;; esac
done

# What the folder holds, by the file system's account: data in chunks, and three maps.
is_within_limit()
{
	[ "$(du -s --block-size=1 "$work/cache" | cut -f1)" -le $((2560 * 1024)) ]
}
serve fresh "$plugin" "image=$image" "cache-dir=$work/cache" cache-limit=2M
read_all fresh
await 10 is_within_limit || fail "2 MiB are allowed: $(du -s "$work/cache")"
stop fresh
warns fresh
say "ok: kill -9, $rounds times"

# ---- damage ----

# fresh_cache: a cache with all of the image, whose files are data[1..3] and map[1..3].
fresh_cache()
{
	local n folder

	rm -rf "$work/cache"
	serve fill "$plugin" "image=$image" "cache-dir=$work/cache"
	read_all fill
	stop fill
	for n in 1 2 3; do
		folder=$(echo "$work"/cache/v1/*/"sha256:$(sha256 "$work/img/$n.obd")")
		data[n]=$folder/data
		map[n]=$folder/map
	done
}

# flips FILE OFFSET...: changes a byte in each place.
flips()
{
	"$python" -c 'import sys
with open(sys.argv[1], "r+b") as f:
	for at in map(int, sys.argv[2:]):
		f.seek(at)
		byte = f.read(1)[0]
		f.seek(at)
		f.write(bytes([byte ^ 0x40]))' "$@"
}

# survives WHAT [TEXT]: with such damage all reads are right, there is one warning (without a text: none),
# and no damage is left.
survives()
{
	local again

	rm -f "$work/stats"
	serve damaged "$plugin" "image=$image" "cache-dir=$work/cache" "stats=$work/stats"
	"$python" "$client" random "$(uri damaged)" "$flat" 100 $RANDOM >"$work/damaged.out" ||
		fail "$1: $(cat "$work/damaged.out")"
	read_all damaged
	stop damaged "${@:2}"
	warns damaged "${@:2}"
	# A chunk that was dropped while the keeper checked the whole comes back in the first of these.
	for again in first second; do
		tell reg /reset
		serve mended "$plugin" "image=$image" "cache-dir=$work/cache"
		read_all mended
		stop mended
		warns mended
	done
	same "requests once $1 is mended" "$(count reg requests blob)" 0
	say "ok: $1"
}

data=() map=()
fresh_cache
size=$(stat -c %s "${data[1]}")
flips "${data[1]}" 0 5000 $((size / 2)) $((size / 2 + 70000)) $((size - 1))
survives "a cache with flipped bytes" "is damaged there"
# The first and the last chunk were read; those between may be hidden by upper layers.
bad=$("$python" -c 'import json, sys
print(json.load(open(sys.argv[1]))["images"][0]["counters"]["cache_drops"])' "$work/stats")
[ "$bad" -ge 2 ] && [ "$bad" -le 4 ] || fail "bad chunks in the statistics: $bad, not 2 to 4"
fresh_cache
truncate -s 5000 "${map[2]}"
survives "a map that was cut" "it is discarded"
fresh_cache
truncate -s 0 "${map[3]}"
survives "an empty map" "it is discarded"
fresh_cache
dd if=/dev/urandom of="${map[1]}" bs=4096 count=1 conv=notrunc status=none
survives "a map with another header" "it is discarded"
fresh_cache
dd if=/dev/urandom of="${map[3]}" bs=8 seek=520 count=100 conv=notrunc status=none
survives "a map with other words" "is damaged there"
fresh_cache
for n in 1 2 3; do
	printf '\377\377\377\377' | dd of="${map[n]}" bs=1 seek=2048 conv=notrunc status=none
done
survives "maps with other flags"
fresh_cache
truncate -s 100000 "${data[1]}"
survives "data that were cut" "is damaged there"

# ---- no room ----

if [ -n "${PRIVATE_MOUNTS:-}" ]; then
	mkdir "$work/small"
	trap 'status=$?; umount -l "$work/small" || true; (exit $status); cleanup' EXIT
	mount -t tmpfs -o size=4M small "$work/small"
	serve full "$plugin" "image=$image" "cache-dir=$work/small/cache"
	read_all full
	"$python" "$client" random "$(uri full)" "$flat" 100 $RANDOM
	stop full "No space left on device"
	warns full "No space left on device"
	serve full "$plugin" "image=$image" "cache-dir=$work/small/cache"
	read_all full
	stop full "No space left on device"
	warns full "No space left on device"
	say "ok: a full disk"
	mount -o remount,ro "$work/small"
	serve read-only "$plugin" "image=$image" "cache-dir=$work/small/cache"
	read_all read-only
	stop read-only "Read-only file system; reads go to the registry each time"
	warns read-only "Read-only file system"
	say "ok: a file system that is read-only"
else
	say "SKIP: no private mounts, so no full disk"
fi

# ---- another user ----

[ "$(id -u)" -eq 0 ] || skip "only root can change to another user; all else passed"
id nobody >/dev/null 2>&1 || skip "there is no user nobody; all else passed"
user=$(id -u nobody)
chmod 711 "$work"

# becomes_nobody WHAT FOLDER: a daemon opened by root, which goes on as nobody.
becomes_nobody()
{
	local run=$work/run

	rm -rf "$run"
	mkdir -m 755 "$run"
	chown nobody "$run"
	nbdkit_ -u nobody -P "$run/pid" -U "$run/sock" "$plugin" "image=$image" "cache-dir=$2" \
		2>"$work/nobody.log" || fail "$1: $(cat "$work/nobody.log")"
	await 10 test -s "$run/pid" || fail "$1: no pid"
	same "user" "$(stat -c %u "/proc/$(cat "$run/pid")")" "$user"
	nbdcopy "nbd+unix:///?socket=$run/sock" "$run/copy"
	cmp "$run/copy" "$flat" || fail "$1: other bytes"
	kill "$(cat "$run/pid")"
	await 20 test ! -e "/proc/$(cat "$run/pid")" || fail "$1: it does not end"
	say "ok: $1"
}

becomes_nobody "root's cache" "$work/root-cache"
mkdir "$work/nobody-cache"
chown nobody "$work/nobody-cache"
becomes_nobody "nobody's cache" "$work/nobody-cache"
same "files there that are not nobody's" "$(find "$work/nobody-cache" ! -user nobody | wc -l)" 0
tell reg /reset
becomes_nobody "nobody's cache that is warm" "$work/nobody-cache"
same "requests of a warm cache" "$(count reg requests blob)" 0

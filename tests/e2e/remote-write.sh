#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# An upper on an image in a registry: changes of any alignment over what is fetched for them; a replay
# leaves out what the upper holds.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit nbdcopy
need_python_nbd

export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home"
seed=$(seed)
say "seed $seed"
make_image img $((24 * 1024 * 1024)) 100 "$seed"
start_registry reg
push_image "http://127.0.0.1:${port[reg]}" app/disk obd "$work"/img/[123].obd
image=127.0.0.1:${port[reg]}/app/disk:obd

writer()
{
	"$python" "$SOURCE/tests/e2e/writer.py" "$@"
}

chunks() # NAME: of the replay
{
	sed -n 's/.*replay: [0-9]* reads, \([0-9]*\) chunks.*/\1/p' "$work/$1.log"
}

has_planned()
{
	[ -n "$(chunks "$1")" ]
}

say "a trace without an upper"
serve first "$plugin" "image=$image" cache-dir="$work/cache" trace=record
nbdcopy "$(uri first)" null:
stop first
serve plain "$plugin" "image=$image" cache-dir="$work/cache" trace=replay -v
await 30 has_planned plain || fail "no replay"
[ "$(chunks plain)" -gt 100 ] || fail "only $(chunks plain) chunks are replayed"
stop plain

say "changes over what has to be fetched"
"$overlaybd" create "$work/u" --size 24M >"$work/made"
cp "$work/img/flat.raw" "$work/model"
serve disk "$plugin" "image=$image" upper="$work/u" cache-dir="$work/cache-2" trace=off
writer mix "$(uri disk)" "$work/model" "$(times 4000)" "$seed" 3
stop disk

say "a replay below an upper that hides nearly all of it"
# How many chunks lie below the part that stays: those of a trace of that part alone.
serve last "$plugin" "image=$image" cache-dir="$work/cache-3" trace=record
"$python" - "$(uri last)" <<'end'
import sys, nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.pread(1 << 20, 23 << 20)
end
stop last
serve last "$plugin" "image=$image" cache-dir="$work/cache-3" trace=replay -v
await 30 has_planned last || fail "no replay"
stop last
serve disk "$plugin" "image=$image" upper="$work/u" cache-dir="$work/cache" trace=off
"$python" - "$(uri disk)" <<'end'
import sys, nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.zero(23 << 20, 0)
h.flush()
end
truncate -s 23M "$work/zeroes"
dd if="$work/zeroes" of="$work/model" bs=1M conv=notrunc status=none
writer compare "$(uri disk)" "$work/model"
stop disk
serve disk "$plugin" "image=$image" upper="$work/u" cache-dir="$work/cache" trace=replay -v
await 30 has_planned disk || fail "no replay"
[ "$(chunks disk)" -le "$(chunks last)" ] ||
	fail "$(chunks disk) of $(chunks plain) chunks are replayed, for 1 of 24 MiB; it has $(chunks last)"
[ "$(chunks last)" -lt $(($(chunks plain) / 2)) ] || fail "one part needs $(chunks last) chunks"
writer mix "$(uri disk)" "$work/model" 50 "$seed" 2
stop disk

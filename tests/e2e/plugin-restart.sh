#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What was acknowledged outlives a kill -9 (invariant 3 of core/upper_log.c), and the test that shows it
# sees it when it does not: without the pending file the write is gone.  Then fio: random writes, trims
# and flushes at depth 16 on four connections with verification, kill -9, verification again.
. "$(dirname "$0")/lib.sh"
need nbdkit fio
need_python_nbd

writer()
{
	"$python" "$SOURCE/tests/e2e/writer.py" "$@"
}

kill_server()
{
	kill -9 "${servers[disk]}"
	wait "${servers[disk]}" 2>/dev/null || true
	unset "servers[disk]"
}

make_disk()
{
	rm -f "$work"/u.*
	"$overlaybd" create "$work/u" --size 64M >"$work/created"
	serve disk "$plugin" "$work/image.yaml"
}

printf 'upper: {data: u.data, index: u.index}\n' >"$work/image.yaml"

say "written, acknowledged, killed, started, reconnected, flushed, read"
make_disk
writer fill "$(uri disk)" 0 8192 1 flush
writer fill "$(uri disk)" 4096 65536 2
kill_server
serve disk "$plugin" "$work/image.yaml"
writer expect "$(uri disk)" 0 4096 1
writer expect "$(uri disk)" 4096 65536 2
kill_server
serve disk "$plugin" "$work/image.yaml"
writer expect "$(uri disk)" 4096 65536 2
stop disk

say "without the pending file the same check finds that it is gone, and what was flushed is there"
make_disk
writer fill "$(uri disk)" 0 8192 1 flush
writer fill "$(uri disk)" 4096 65536 2
kill_server
rm "$work/u.pending"
serve disk "$plugin" "$work/image.yaml"
if writer expect "$(uri disk)" 4096 65536 2 2>"$work/gone.log"; then
	fail "the write is there without the pending file: this test proves nothing"
fi
writer expect "$(uri disk)" 0 8192 1
stop disk "u.pending: is missing"

seed=$(seed)
say "fio, seed $seed"
for ((offset = 0; offset < 64; offset += 16)); do
	printf '[at-%d]\noffset=%dm\n' $offset $offset
done >"$work/jobs"

# fio_ SEED ARGUMENT...
fio_()
{
	(cd "$work" && cat - jobs <<-end | fio "${@:2}" - >"$work/fio.log" 2>&1) || return 1
		[global]
		ioengine=nbd
		uri=nbd+unix:///?socket=$work/disk.sock
		iodepth=16
		rw=randwrite
		bsrange=512-16k
		bs_unaligned=1
		verify=crc32c
		verify_fatal=1
		randseed=$1
		size=$((${FULL:-0} == 1 ? 15 : 4))m
		fsync=64
		trim_percentage=10
		trim_verify_zero=1
	end
	! grep -E "^verify:|bad magic" "$work/fio.log"
}

rounds=$(times 50)
[ "$rounds" -ge 3 ] || rounds=3
for ((round = 0; round < rounds; round++)); do
	make_disk
	fio_ $((seed + round)) || fail "round $round: $(tail -30 "$work/fio.log")"
	kill_server
	serve disk "$plugin" "$work/image.yaml"
	fio_ $((seed + round)) --verify_only || fail "round $round, again: $(tail -30 "$work/fio.log")"
	stop disk
	"$python" "$SOURCE/tests/check-upper.py" "$work/u.data" "$work/u.index" >"$work/bytes" ||
		fail "round $round: $(cat "$work/bytes")"
done
grep -Eq 'issued rwts: total=[1-9]' "$work/fio.log" || fail "nothing was verified: $(cat "$work/fio.log")"
say "ok: $rounds rounds"

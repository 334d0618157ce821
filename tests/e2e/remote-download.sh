#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Background download: an image becomes whole on this machine and does without its registry; what is
# wrong is found; it keeps to its rate, gives way to readers, and ends when it is told to.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit nbdcopy
need_python_nbd

client=$SOURCE/tests/e2e/client.py
export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home"
seed=$(seed)
say "seed $seed"
make_image img $((24 * 1024 * 1024)) 120 "$seed"
flat=$work/img/flat.raw
total=$(cat "$work"/img/[123].obd | wc -c)
start_registry reg
push_image "http://127.0.0.1:${port[reg]}" app/disk obd "$work"/img/[123].obd

# download_config NAME [KEYS]: a config of the image at the server of that name, with a download at once.
download_config()
{
	cat >"$work/$1.yaml" <<-END
		image: 127.0.0.1:${port[$1]}/app/disk:obd
		cache-dir: $work/cache-$1
		download: {enable: true, delay: 0, delayExtra: 0${2:+, $2}}
	END
}

# is_whole NAME: the cache has all three layers, checked.
is_whole()
{
	local n

	for n in 1 2 3; do
		[ -e "$work/cache-$1/v1/sha256/sha256:$(sha256 "$work/img/$n.obd")/map" ] || return 1
	done
}

read_all()
{
	rm -f "$work/copy"
	nbdcopy "$(uri "$1")" "$work/copy"
	cmp "$work/copy" "$flat" || fail "$1 serves other bytes"
}

# counter FILE NAME
counter()
{
	"$python" -c 'import json, sys
print(json.load(open(sys.argv[1]))["images"][0]["counters"][sys.argv[2]])' "$@"
}

now_ms()
{
	echo $((${EPOCHREALTIME/./} / 1000))
}

download_config reg
serve whole "$plugin" "config=$work/reg.yaml" "stats=$work/stats.json"
await 30 is_whole reg || fail "the image does not become whole"
end reg
read_all whole
stop whole
same "bytes downloaded" "$(counter "$work/stats.json" download_bytes)" "$total"
same "bytes to download" "$(counter "$work/stats.json" download_total_bytes)" "$total"
sed '/^download/d' "$work/reg.yaml" >"$work/offline.yaml"
serve offline "$plugin" "config=$work/offline.yaml"
read_all offline
stop offline "cannot reach the registry"
log_has offline "cannot reach the registry"
say "ok: a whole image needs no registry"

# In the middle of a layer's data, where no checksum but the whole blob's need see it.
start_registry reg
cp -r "$work/reg" "$work/evil"
start_registry evil
bare=$(sha256 "$work/img/3.obd")
printf poison | dd of="$work/evil/blobs/sha256/$bare" bs=1 seek=50000 conv=notrunc status=none
download_config evil "tryCnt: 1"
serve wrong "$plugin" "config=$work/evil.yaml"
await 30 grep -q "background download of sha256:$bare: the blob is wrong" "$work/wrong.log" ||
	fail "wrong bytes are not found"
"$python" "$client" scan "$(uri wrong)" "$flat" >"$work/scan.out" || fail "$(cat "$work/scan.out")"
grep -q 'EIO=' "$work/scan.out" || fail "no read fails: $(cat "$work/scan.out")"
stop wrong "the blob is wrong: its bytes have the digest" "the registry's bytes do not have the digest"
say "ok: a blob with wrong bytes: $(cat "$work/scan.out")"

# The reference's layout, with and without a cache of ours.
for cache in "$work/cache-dir" none; do
	echo "repoBlobUrl: http://127.0.0.1:${port[reg]}/v2/app/disk/blobs" >"$work/dirs.yaml"
	echo "download: {enable: true, delay: 0, delayExtra: 0}" >>"$work/dirs.yaml"
	echo "lowers:" >>"$work/dirs.yaml"
	for n in 1 2 3; do
		rm -rf "$work/dir$n"
		mkdir "$work/dir$n"
		echo "  - {digest: 'sha256:$(sha256 "$work/img/$n.obd")', dir: $work/dir$n," \
			"size: $(stat -c %s "$work/img/$n.obd")}" >>"$work/dirs.yaml"
	done
	serve dirs "$plugin" "config=$work/dirs.yaml" "cache-dir=$cache"
	for n in 1 2 3; do
		await 30 test -e "$work/dir$n/overlaybd.commit" || fail "dir$n does not come"
		same "sha256 of dir$n" "$(sha256 "$work/dir$n/overlaybd.commit")" \
			"$(sha256 "$work/img/$n.obd")"
	done
	read_all dirs
	stop dirs
	same "left-overs" "$(find "$work"/dir[123] -name .download | wc -l)" 0
	tell reg /reset
	serve dirs "$plugin" "config=$work/dirs.yaml" cache-dir=none
	read_all dirs
	stop dirs
	same "requests with the folders there" "$(count reg requests blob)" 0
	say "ok: folders of the reference, cache-dir=$cache"
done

rm -rf "$work/cache-reg"
download_config reg "maxMBps: 2"
began=$(now_ms)
serve paced "$plugin" "config=$work/reg.yaml"
await 60 is_whole reg || fail "the image does not become whole"
took=$(($(now_ms) - began))
stop paced
[ $took -ge $((total / 2500)) ] || fail "$total bytes in $took ms, at 2 MB/s at most"
say "ok: $total bytes at 2 MB/s in $took ms"

# A slow line: 8 Mbit/s are 1 MB a second.
start_link slow reg 50 8
download_config slow
serve busy "$plugin" "config=$work/slow.yaml"
sleep 1
"$python" "$client" spread "$(uri busy)" "$flat" 12 4096 1 "$seed" >"$work/spread.out" ||
	fail "$(cat "$work/spread.out")"
read -ra ms <"$work/spread.out"
# One round trip, and 512 KiB that are on their way; twice that, for the machine may be busy.
[ "${ms[1]}" -le $((2 * (50 + 524))) ] || fail "reads beside a download take ${ms[*]} ms"
is_whole slow && fail "the download was over too soon for this"
say "ok: reads beside a download take ${ms[*]} ms"
began=$(now_ms)
stop busy
took=$(($(now_ms) - began))
[ $took -le 3000 ] || fail "it takes $took ms to end in the midst of a download"
! is_whole slow || fail "the download was over too soon for this"
say "ok: ends in the midst of a download, in $took ms"

# What it has is there the next time.
tell slow "/shape?rtt=0&bandwidth=0"
tell reg /reset
serve busy "$plugin" "config=$work/slow.yaml"
await 30 is_whole slow || fail "the image does not become whole"
stop busy
[ "$(count reg bytes_sent)" -lt "$total" ] || fail "all of it was fetched again"
say "ok: goes on where it was"

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# How often the registry is asked, and for how much: at an open, by random reads, by a reader of all.
# Requests and bytes are counted at the server, never timed.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit nbdcopy
need_python_nbd

client=$SOURCE/tests/e2e/client.py
export XDG_CACHE_HOME=$work/home HOME=$work/home
seed=$(seed)
say "seed $seed"

# make_halves SIZE: $work/halves, 64 KiB pieces of which each layer's blocks are half random, so that
# lz4 halves them: all of the disk in the first, in two more layers 30 runs of 512 KiB each.
make_halves()
{
	local d=$work/halves n

	mkdir "$d"
	"$python" - "$seed" "$1" "$d" <<-'END'
		import random, sys
		dice, size = random.Random(int(sys.argv[1])), int(sys.argv[2])
		run, block = 512 * 1024, 4096
		fresh = lambda n: b"".join(dice.randbytes(block // 2) + b"text" * (block // 8)
		                           for _ in range(n // block))
		disk = bytearray(fresh(size))
		for n in 1, 2, 3:
		    if n > 1:
		        for at in dice.sample(range(0, size, run), 30):
		            disk[at : at + run] = fresh(run)
		    with open(f"{sys.argv[3]}/{n}.raw", "wb") as f:
		        f.write(disk)
	END
	config "$d/1.yaml" 1.obd
	config "$d/2.yaml" 1.obd 2.obd
	"$overlaybd" commit --raw "$d/1.raw" --tar -o "$d/1.obd"
	"$overlaybd" commit --raw "$d/2.raw" --base "$d/1.yaml" --tar -o "$d/2.obd"
	"$overlaybd" commit --raw "$d/3.raw" --base "$d/2.yaml" --tar -o "$d/3.obd"
	mv "$d/3.raw" "$d/flat.raw"
	rm "$d"/[12].raw
} >"$work/make_halves.out"

# make_stack LAYERS: $work/stack, of that many layers with 2 MiB and more each.
make_stack()
{
	local d=$work/stack n files=()

	mkdir "$d"
	: >"$d/0.raw"
	for ((n = 1; n <= $1; n++)); do
		"$python" "$tests/tool-disks.py" $((seed + n)) 33554432 "$d/$n.raw" \
			"$d/$((n - 1)).raw" 60
		config "$d/base.yaml" "${files[@]}"
		"$overlaybd" commit --raw "$d/$n.raw" ${files[0]+--base "$d/base.yaml"} --tar \
			-o "$d/$n.obd"
		rm "$d/$((n - 1)).raw"
		files+=("$n.obd")
	done
	stack=("${files[@]/#/$d/}")
	mv "$d/$1.raw" "$d/flat.raw"
} >"$work/make_stack.out"

requests()
{
	count reg requests "$1"
}

at_most()
{
	[ "$2" -le "$3" ] || fail "$1: $2, at most $3 are allowed"
	say "ok: $1: $2 (at most $3)"
}

# opens WHAT REFERENCE BLOBS MANIFESTS PARAMETER...: what one open may ask for.
opens()
{
	local what=$1 reference=$2 blobs=$3 manifests=$4 began us

	shift 4
	tell reg /reset
	began=${EPOCHREALTIME/./}
	nbdkit_ -U - "$plugin" "image=$reference" "$@" --run true || fail "$what fails"
	us=$((${EPOCHREALTIME/./} - began))
	say "$what: $((us / 50000)).$((us / 5000 % 10)) round trips of 50 ms"
	at_most "blob requests of $what" "$(requests blob)" "$blobs"
	at_most "manifest requests of $what" "$(requests manifest)" "$manifests"
	at_most "all others of $what" "$(($(requests ping) + $(requests other)))" 0
}

# asked WHAT READS HUNDREDTHS: for these reads so many requests were made, in hundredths a read.
asked()
{
	at_most "hundredths of a request a read, $1" $(($(requests blob) * 100 / $2)) "$3"
}

# fetched: bytes of blobs that were sent.
fetched()
{
	local sum=0 layer

	for layer in "$work"/halves/[123].obd; do
		sum=$((sum + $(count reg bytes "sha256:$(sha256 "$layer")")))
	done
	echo $sum
}

make_stack 20
start_registry reg --users <(echo user:secret)
push_image "http://127.0.0.1:${port[reg]}" app/stack obd "${stack[@]}"
digest=$pushed
start_link link reg 50
app=127.0.0.1:${port[link]}/app/stack
opens "a cold open by tag" "$app:obd" 40 1 "cache-dir=$work/cache-tag"
opens "a second open by tag" "$app:obd" 0 1 "cache-dir=$work/cache-tag"
opens "a cold open by digest" "$app@$digest" 40 1 "cache-dir=$work/cache-digest"
opens "a second open by digest" "$app@$digest" 0 0 "cache-dir=$work/cache-digest"
opens "an open without a cache" "$app:obd" 40 1 cache-dir=none
# The servers of an image of one layer are not made to keep many connections for it.
push_image "http://127.0.0.1:${port[reg]}" app/one obd "${stack[0]}"
tell reg /reset
opens "a cold open of one layer" "127.0.0.1:${port[reg]}/app/one:obd" 2 1 "cache-dir=$work/cache-one"
at_most "connections of it" "$(count reg connections)" 8
echo secret >"$work/password"
tell reg /settings "{\"auth\": \"bearer\", \"realm\": \"http://127.0.0.1:${port[link]}/token\"}"
# The second request of the manifest tells the token service's address.
opens "a cold open with a token" "$app:obd" 40 2 "cache-dir=$work/cache-token" user=user \
	"password=+$work/password"
at_most "token requests of it" "$(requests token)" 1
tell reg /settings '{"auth": "none"}'

make_halves $((192 * 1024 * 1024))
push_image "http://127.0.0.1:${port[reg]}" app/halves obd "$work"/halves/[123].obd
flat=$work/halves/flat.raw
tell link "/shape?rtt=5&bandwidth=0"
reference=127.0.0.1:${port[link]}/app/halves:obd

# cold PARAMETER...: `cold` serves the image with an empty cache.
cold()
{
	rm -rf "$work/cache"
	serve cold "$plugin" "image=$reference" "cache-dir=$work/cache" "$@"
	tell reg /reset
}

for depth in 1 16; do
	cold
	"$python" "$client" spread "$(uri cold)" "$flat" 600 4096 $depth "$seed" \
		>"$work/spread.out" || fail "$(cat "$work/spread.out")"
	asked "random 4 KiB at depth $depth" 600 105
	stop cold
done

cold
nbdcopy "$(uri cold)" "$work/copy"
cmp "$work/copy" "$flat" || fail "wrong bytes"
rm "$work/copy"
sent=$(fetched)
[ "$sent" -ge $((48 << 20)) ] || fail "only $sent bytes were read"
at_most "requests of a reader of all, for $((sent >> 20)) MiB" "$(requests blob)" $((sent >> 20))
stop cold

# 5% of the disk needs its share of the bytes that the first layer made of the disk, for all blocks
# compress alike, and that layer's jump table, 4 bytes a block.  What the open sends counts too.
rm -rf "$work/cache"
tell reg /reset
serve cold "$plugin" "image=$reference" "cache-dir=$work/cache"
pieces=$(($(stat -c %s "$flat") / 65536 / 20))
"$python" "$client" spread "$(uri cold)" "$flat" $pieces 65536 4 "$seed" >"$work/spread.out" ||
	fail "$(cat "$work/spread.out")"
needed=$(($(stat -c %s "$work/halves/1.obd") / 20 + $(stat -c %s "$flat") / 4096 * 4))
at_most "percent fetched of what random 64 KiB need" $(($(fetched) * 100 / needed)) 160
stop cold

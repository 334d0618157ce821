#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A registry, and the network before it, that go wrong in each way that registry/faults.py knows: all
# reads are right in the end, or EIO within the deadline; no wrong bytes, no hang, and nothing bad stays
# in the cache.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit nbdcopy timeout
need_python_nbd

client=$SOURCE/tests/e2e/client.py
export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home" "$work/reg"
seed=$(seed)
say "seed $seed"

# survives NAME FLAT SECONDS MOST: every read of that export is right, or EIO, which at most so many are,
# within this time and a second.  Sets outcome.
survives()
{
	local name=$1 good failed longest

	timeout 240 "$python" "$client" survive "$(uri "$name")" "$2" "$seed" >"$work/$name.out" ||
		fail "$name: reading ends with $?: $(tail -3 "$work/$name.log")"
	read -r good failed longest <"$work/$name.out"
	[ "$failed" -le "$4" ] || fail "$name: $failed reads failed, more than $4"
	[ "$longest" -le $(($3 * 1000 + 1000)) ] || fail "$name: a read took $longest ms"
	outcome="$good right, $failed EIO, longest $longest ms"
}

# start_under RULE NAME REFERENCE PARAMETER...: a server that starts while things go wrong (without FULL:
# every second time) either does so or says why in time, in a line that names the image; it starts without
# the fault, which is there again once it runs.
opened=0
start_under()
{
	local rule=$1 name=$2 reference=$3 status=0

	shift 3
	if [ "${FULL:-0}" = 1 ] || [ $((opened++ % 2)) = 0 ]; then
		tell reg /faults "$rule"
		LD_PRELOAD=${NBDKIT_PRELOAD:-} timeout 30 nbdkit -f --log=stderr -U - "$plugin" \
			"image=$reference" "$@" --run true 2>"$work/$name-open.log" || status=$?
		[ $status -ne 124 ] || fail "$name: opening hangs"
		[ $status -eq 0 ] || grep -q "error: $reference: " "$work/$name-open.log" ||
			fail "$name: opening ends with $status: $(cat "$work/$name-open.log")"
		tell reg /faults
	fi
	serve "$name" "$plugin" "image=$reference" "$@"
	tell reg /reset
	tell reg /faults "$rule"
}

# wrong NAME RULE SECONDS MOST [REPOSITORY FLAT]: the fault while the image is opened and while it is
# read, with a cold cache; then the same cache without the fault.
wrong()
{
	local name=$1 reference=$reg/${5:-three}:obd flat=${6:-$work/img/flat.raw} struck harmed
	local parameters=("timeout=$3" "cache-dir=$work/cache-$1")

	start_under "$2" "$name" "$reference" "${parameters[@]}"
	survives "$name" "$flat" "$3" "$4"
	harmed=$outcome
	struck=$(count reg faults "$(sed 's/.*"kind": "\([^"]*\)".*/\1/' <<<"$2")")
	[ "$struck" -gt 0 ] || fail "$name: the fault never struck"
	tell reg /faults
	stop "$name" "$reference: layer " "the blob is wrong: its bytes have the digest"
	serve "$name" "$plugin" "image=$reference" "${parameters[@]}"
	survives "$name" "$flat" "$3" 0
	say "ok: $name, $struck times: $harmed"
	stop "$name" "the blob is wrong: its bytes have the digest"
	rm -r "$work/cache-$name" "$work/$name.log"
	rm -f "$work/$name-open.log"
}

# each KIND[:OPTIONS] MOST [REPOSITORY FLAT]: that fault on each 3rd or 7th range of a blob (FULL: both).
# MOST: reads that each of them may cost.
number=0
each()
{
	local kind=${1%%:*} options='' every times=5 rule
	local -a steps=(3 7)

	[[ $1 != *:* ]] || options=", ${1#*:}"
	if [ "${FULL:-0}" = 1 ]; then
		times=40
	else
		steps=("${steps[number++ % 2]}")
	fi
	for every in "${steps[@]}"; do
		rule="{\"kind\": \"$kind\", \"every\": $every, \"times\": $times$options}"
		wrong "$(tr -cd 'a-z0-9-' <<<"$1")-$every" "$rule" 4 $(($2 * times)) "${@:3}"
	done
}

# The image with a bare layer on top, what lies beneath it, and its disk as one bare layer.
make_image img $((8 * 1024 * 1024)) 35
holds "$work/img/2.yaml" "$work/served.raw" && mv "$work/served.raw" "$work/lower.raw"
"$overlaybd" commit --raw "$work/img/flat.raw" --compress none -o "$work/bare.obd" >"$work/commit.out"
start_registry reg
reg=127.0.0.1:${port[reg]}
push_image "http://$reg" three obd "$work"/img/[123].obd
push_image "http://$reg" lower obd "$work"/img/[12].obd
push_image "http://$reg" bare obd "$work/bare.obd"

# What another try mends.
each latency:'"seconds": 0.1' 0
each stall:'"seconds": 0.3' 0
each reset 0
each reset:'"after": 0' 0
each truncate 0
each truncate:'"after": 0' 0
for what in start end total missing; do
	each content-range:'"wrong": "'$what'"' 0
done
each whole 0
each whole:'"after": 100000' 0
each whole:'"length": false' 0
each whole:'"length": false, "after": 100000' 0
for length in true false; do
	each page:'"length": '$length 0
	each page:'"length": '$length', "bytes": 900000' 0
	each part:'"length": '$length 0
	each part:'"length": '$length', "label": true' 0
done
each tail 0
each chunked 0
each gzip 0
each garbage 0
each close 0
each huge-headers 0
each long-header 0
each slow-headers:'"ms": 2' 0
for status in 401 429 500 502 503 504; do
	each $status 0
done
# Given up for its pace, which takes as long as silence does.
wrong trickle '{"kind": "trickle", "every": 7, "times": 1, "ms": 300}' 15 0
wrong retry-after '{"kind": "429", "every": 7, "times": 1, "retry_after": 1}' 4 0
wrong retry-date '{"kind": "503", "every": 7, "times": 1, "retry_after": 1, "date": true}' 4 0

# One deadline counts for a client's read, however many layers it takes: each of six is late, by less than
# the deadline, one after the other.
for n in 0 1 2 3 4 5; do
	truncate -s 3M "$work/six$n.raw"
	dd if=/dev/urandom of="$work/six$n.raw" bs=512k count=1 seek=$n conv=notrunc status=none
	"$overlaybd" commit --raw "$work/six$n.raw" --compress none -o "$work/six$n.obd" >"$work/commit.out"
done
push_image "http://$reg" six obd "$work"/six?.obd
serve six "$plugin" "image=$reg/six:obd" timeout=3 connections=1 "cache-dir=$work/cache-six"
tell reg /faults '{"kind": "latency", "seconds": 1.2}'
"$python" -c 'import nbd, sys, time
h = nbd.NBD()
h.connect_uri(sys.argv[1])
began = time.monotonic()
try:
	h.pread(3 << 20, 0)
except nbd.Error:
	pass
took = time.monotonic() - began
sys.exit(f"a read with timeout=3 took {took:.1f} s" if took > 4.2 else 0)' "$(uri six)" || fail "six layers"
tell reg /faults
stop six "timed out"
say "ok: six layers that are late, one deadline"

# What is final for a read, or lasts longer than it may.
for what in 403 404 416 loop; do
	each $what 1
done
wrong too-busy '{"kind": "429", "every": 7, "times": 1, "retry_after": 60}' 2 2
# Whoever wants bytes of a silent exchange waits in vain, until that is given up after 10 s.
wrong mute '{"kind": "stall", "every": 7, "times": 1, "after": -1}' 2 6
wrong stalled '{"kind": "stall", "every": 7, "times": 1}' 2 6
if [ "${FULL:-0}" = 1 ]; then
	# A silent exchange is given up before the deadline.
	wrong stalled-long '{"kind": "stall", "every": 7, "times": 3}' 15 0
fi

# Checksums of blocks find wrong bytes; the range is fetched once more.
each corrupt 1 lower "$work/lower.raw"

say "wrong bytes of a bare layer are found when all of it is there"
# is_refused: none of its bytes can be read; there are zeroes that no layer holds.
is_refused()
{
	timeout 60 "$python" "$client" survive "$(uri bare)" "$work/img/flat.raw" 1 >"$work/bare.out" &&
		[[ $(cat "$work/bare.out") != *" 0 "* ]]
} 2>"$work/bare.err"
# kept: KiB of layers' bytes in the cache.
kept()
{
	find "$work/cache-bare" -name data -exec du -k {} + | awk '{ n += $1 } END { print n + 0 }'
}
is_empty()
{
	[ "$(kept)" = 0 ]
}
reads_right()
{
	timeout 60 "$python" "$client" survive "$(uri bare)" "$work/img/flat.raw" 1 >"$work/bare.out" &&
		[[ $(cat "$work/bare.out") == "128 0 "* ]]
}
tell reg /faults
serve bare "$plugin" "image=$reg/bare:obd" timeout=8 "cache-dir=$work/cache-bare"
tell reg /faults '{"kind": "corrupt", "range": "bytes=[1-9]"}'
nbdcopy "$(uri bare)" "$work/copy" 2>"$work/copy.err" || true
await 10 is_refused || fail "a layer with another digest can be read"
await 5 is_empty || fail "$(kept) KiB of a wrong layer stay in the cache"
is_refused || fail "a layer with another digest can be read again"
log_has bare "do not have the digest sha256:$(sha256 "$work/bare.obd")"
tell reg /faults
await 30 reads_right || fail "a layer does not recover"
# The last: nbdcopy left in the middle, after its error.
stop bare "the blob is wrong: its bytes have the digest" "the registry's bytes do not have the digest" \
	"error: read request: Connection reset by peer"
rm -r "$work/cache-bare"
say "ok: they stay EIO as long as the registry's bytes are wrong"
serve bare "$plugin" "image=$reg/bare:obd" timeout=8 "cache-dir=$work/cache-bare"
tell reg /reset
tell reg /faults '{"kind": "corrupt", "range": "bytes=[1-9]", "times": 1}'
nbdcopy "$(uri bare)" "$work/copy" 2>"$work/copy.err" || true
await 10 reads_right || fail "a layer does not recover"
survives bare "$work/img/flat.raw" 8 0
same "faults" "$(count reg faults corrupt)" 1
# The last: nbdcopy left in the middle, after its error.
stop bare "the blob is wrong: its bytes have the digest" "the registry's bytes do not have the digest" \
	"error: read request: Connection reset by peer"
say "ok: what was wrong once is fetched anew"

say "TLS that fails while shaking hands, on each second connection"
make_ca
start_registry tls --dir "$work/reg" --tls "$work/server.pem" "$work/server.key"
start_link tls-link tls 1
secure=https://127.0.0.1:${port[tls-link]}
serve secure "$plugin" "image=$secure/three:obd" timeout=5 "cainfo=$work/ca.pem" cache-dir=none
tell tls /faults '{"kind": "tls", "every": 2}'
(while sleep 0.1; do tell tls-link /drop; done) &
servers[dropping]=$!
survives secure "$work/img/flat.raw" 5 0
end dropping
struck=$(curl -sS --unix-socket "$work/tls.control" http://control/stats |
	"$python" -c 'import json, sys; print(json.load(sys.stdin)["rules"][0]["struck"])')
[ "$struck" -gt 0 ] || fail "no handshake failed"
stop secure
tell tls /faults '{"kind": "tls"}'
refuses "${secure#*//}/three:obd: " "image=$secure/three:obd" "cainfo=$work/ca.pem" cache-dir=none timeout=2
say "ok: $struck handshakes failed: $outcome"

say "a link that is cut, and comes back"
start_link link reg 1
far=127.0.0.1:${port[link]}
# cut_link NAME SECONDS MOST COMMANDS: these are done while the image is read over a slow link.
cut_link()
{
	local name=$1 reader

	tell link "/shape?rtt=1&bandwidth=8"
	serve "$name" "$plugin" "image=$far/three:obd" "timeout=$2" cache-dir=none
	(trap - EXIT && survives "$name" "$work/img/flat.raw" "$2" "$3" && say "ok: $name: $outcome") &
	reader=$!
	sleep 0.3
	eval "$4"
	tell link /pass
	wait $reader || fail "$name"
	survives "$name" "$work/img/flat.raw" "$2" 0
	stop "$name" ": layer "
}
cut_link dropped 6 0 'for i in 1 2 3; do tell link /drop; sleep 0.2; done'
cut_link refused 6 0 'tell link /refuse; tell link /drop; sleep 1'
cut_link silent 6 0 'tell link /hole; sleep 1'
cut_link too-long 1 128 'tell link /refuse; tell link /drop; sleep 3'
cut_link silent-too-long 1 128 'tell link /hole; sleep 3'

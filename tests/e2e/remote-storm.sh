#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Six servers of different settings on one cache folder, read at random, while they are killed and stopped,
# the folder is pruned and emptied, and a registry and its mirror go wrong by turns: no wrong bytes, no
# read that hangs, and no error, for at each moment one of the two is well.  30 s; FULL: 10 minutes.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit timeout
need_python_nbd

client=$SOURCE/tests/e2e/client.py
export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home" "$work/reg"
seed=$(seed)
RANDOM=$((seed % 32768))
say "seed $seed"

make_image img $((16 * 1024 * 1024)) 60 "$seed"
holds "$work/img/2.yaml" "$work/served.raw" && mv "$work/served.raw" "$work/lower.raw"
for name in reg mirror; do
	start_registry $name --dir "$work/reg"
done
reg=127.0.0.1:${port[reg]}
push_image "http://$reg" three obd "$work"/img/[123].obd # the topmost is a bare layer
push_image "http://$reg" lower obd "$work"/img/[12].obd

# Settings of each server; the last two have compressed layers alone, whose bytes can be checked.
shared="cache-dir=$work/cache timeout=40 mirror=http://127.0.0.1:${port[mirror]}"
settings=(
	"image=$reg/three:obd $shared cache-limit=3M"
	"image=$reg/three:obd $shared cache-limit=3M connections=2 trace=off"
	"image=$reg/three:obd cache-dir=none timeout=40 mirror=http://127.0.0.1:${port[mirror]}"
	"image=$reg/three:obd $shared cache-limit=3M download=true"
	"image=$reg/lower:obd $shared cache-limit=3M"
	"image=$reg/lower:obd $shared cache-limit=3M verify-cache=0"
)
flats=("$work/img/flat.raw" "$work/img/flat.raw" "$work/img/flat.raw" "$work/img/flat.raw"
	"$work/lower.raw" "$work/lower.raw")

# begin N: server number N.
begin()
{
	# shellcheck disable=SC2086 # several parameters
	serve "s$1" "$plugin" ${settings[$1]}
}

# What goes wrong on each third request: what another try mends, and what is final for one endpoint, and
# so hits the mirror alone.  Well-formed wrong bytes are for a layer that has checksums.
passing=('"kind": "reset"' '"kind": "truncate"' '"kind": "whole"' '"kind": "whole", "after": 100000'
	'"kind": "whole", "length": false' '"kind": "page"' '"kind": "page", "length": false, "bytes": 70000'
	'"kind": "part"' '"kind": "part", "length": false, "label": true' '"kind": "content-range"'
	'"kind": "content-range", "wrong": "end"' '"kind": "content-range", "wrong": "missing"'
	'"kind": "tail"' '"kind": "503"' '"kind": "429", "retry_after": 1' '"kind": "401"' '"kind": "close"' '"kind": "garbage"' '"kind": "long-header"' '"kind": "huge-headers"'
	'"kind": "gzip"' '"kind": "stall"' '"kind": "stall", "after": -1'
	'"kind": "trickle", "ms": 300' '"kind": "latency", "seconds": 0.5'
	'"kind": "corrupt", "path": "'"$(sha256 "$work/img/1.obd")"'"')
final=('"kind": "403"' '"kind": "404"' '"kind": "416"' '"kind": "loop"')
bad=mirror
well=reg

# turn_wrong: one of the two is well from now on, perhaps the other one.
turn_wrong()
{
	if [ $((RANDOM % 3)) = 0 ]; then
		tell $bad /faults
		[ $bad = mirror ] && bad=reg well=mirror || bad=mirror well=reg
	fi
	tell $well /faults
	kinds=("${passing[@]}")
	[ $bad = reg ] || kinds+=("${final[@]}")
	tell $bad /faults "{${kinds[RANDOM % ${#kinds[@]}]}, \"every\": 3}"
}

stop_for_a_while()
{
	local name=s$1 pid=${servers[s$1]}

	kill -STOP "$pid"
	(sleep $2 && kill -CONT "$pid") &
}

for n in "${!settings[@]}"; do
	begin "$n"
	timeout $(($(times 600) + 120)) "$python" "$client" storm "$(uri "s$n")" "${flats[n]}" "$(times 600)" 45 \
		"$((seed + n))" >"$work/client$n.out" 2>&1 &
	clients[n]=$!
done

# holds_right N: all of its disk can be read, and is right, now that all is well.
holds_right()
{
	timeout 120 "$python" "$client" survive "$(uri "s$1")" "${flats[$1]}" "$seed" >"$work/end.out" &&
		[[ $(cat "$work/end.out") == *" 0 "* ]]
}

begun=$SECONDS
disturbed=0
while [ $((SECONDS - begun)) -lt "$(times 600)" ]; do
	n=$((RANDOM % 6))
	case $((RANDOM % 10)) in
	0 | 1 | 2 | 3) turn_wrong ;;
	4 | 5)
		end "s$n" KILL
		begin $n
		;;
	6 | 7) stop_for_a_while $n "$((RANDOM % 3)).$((RANDOM % 10))" ;;
	8) "$overlaybd" cache prune 1M --cache-dir "$work/cache" >/dev/null 2>&1 || true ;;
	9) "$overlaybd" cache drop --all --cache-dir "$work/cache" >/dev/null 2>&1 || true ;;
	esac
	disturbed=$((disturbed + 1))
	for n in "${!settings[@]}"; do
		kill -0 "${clients[n]}" 2>/dev/null || wait "${clients[n]}" ||
			fail "client $n: $(cat "$work/client$n.out"); server: $(tail -3 "$work/s$n.log")"
	done
	sleep "0.$((RANDOM % 3))"
done
tell reg /faults
tell mirror /faults
for n in "${!settings[@]}"; do
	wait "${clients[n]}" || fail "client $n: $(cat "$work/client$n.out"); server: $(tail -3 "$work/s$n.log")"
	holds_right "$n" || fail "server $n: $(tail -3 "$work/s$n.log")"
done
say "ok: $disturbed disturbances; $(cat "$work"/client?.out | tr '\n' ';')"

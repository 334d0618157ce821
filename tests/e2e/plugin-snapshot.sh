#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Live snapshots: under clients that write, with the config's comments kept; and killed at each call that
# changes a file: whatever is found at the restart holds all that was acknowledged.
. "$(dirname "$0")/lib.sh"
need nbdkit nbdcopy
need_python_nbd

writer()
{
	"$python" "$SOURCE/tests/e2e/writer.py" "$@"
}

snapshot() # LAYER
{
	"$overlaybd" snapshot --socket "$work/disk/ctl" -o "$work/disk/$1"
}

# fresh_disk: $work/disk, and $work/model of what it holds.
fresh_disk()
{
	rm -rf "$work/disk"
	cp -r "$work/template" "$work/disk"
	cp "$work/base.raw" "$work/model"
}

server_is_gone()
{
	! kill -0 "${servers[disk]}" 2>/dev/null
}

reap() # STATUS: the server has ended with that
{
	local status=0

	await 30 server_is_gone || fail "the server goes on"
	wait "${servers[disk]}" 2>/dev/null || status=$?
	unset "servers[disk]"
	same "the server's status" "$status" "$1"
}

kill=$BUILD/tests/libkill-preload.so
export KILL_CONTROL=$work/kill

seed=$(seed)
say "seed $seed"
head -c 1500000 /dev/urandom >"$work/base.raw"
truncate -s 3M "$work/base.raw"
mkdir "$work/template"
"$overlaybd" commit --raw "$work/base.raw" -o "$work/template/base.obd" --compress lz4 >"$work/made"
cat >"$work/template/image.yaml" <<-end
	# a disk
	lowers:
	  - file: base.obd     # the base
	upper:
	  data: u.data         # written to
	  index: u.index
	control: ctl # asks it
end
"$overlaybd" create "$work/template/u" --config "$work/template/image.yaml" >"$work/made"
chmod 600 "$work/template/u.data"

say "snapshots under two clients, who see no error"
fresh_disk
serve disk "$plugin" "$work/disk/image.yaml"
writer storm "$(uri disk)" "$work/model" "$seed" "$work/stop" &
storm=$!
count=$(times 60)
for ((i = 1; i <= count; i++)); do
	snapshot "layer-$i.obd" >"$work/said"
	grep -q "^$work/disk/layer-$i.obd: made; writers waited [0-9]* ms; now written to: $work/disk/u-$i.data$" \
		"$work/said" || fail "$(cat "$work/said")"
	sleep 0.3
done
touch "$work/stop"
wait $storm || fail "the storm"
writer compare "$(uri disk)" "$work/model"
stop disk
grep -q "^  - file: base.obd     # the base$" "$work/disk/image.yaml"
grep -q "^  data: u-$count.data         # written to$" "$work/disk/image.yaml"
grep -q "^control: ctl # asks it$" "$work/disk/image.yaml"
same "layers" "$(grep -c "^  - file: " "$work/disk/image.yaml")" $((count + 1))
same "files" "$(cd "$work/disk" && ls u* | tr '\n' ' ')" "u-$count.data u-$count.index "
same "mode" "$(stat -c %a "$work/disk/u-$count.data")" 600
serve disk "$plugin" "$work/disk/image.yaml"
writer compare "$(uri disk)" "$work/model"
stop disk
"$overlaybd" check "$work/disk/image.yaml" >"$work/checked" || fail "$(cat "$work/checked")"
for ((i = 1; i <= count; i++)); do
	"$python" "$SOURCE/tests/check-layer.py" --in-place "$work/disk/layer-$i.obd" >"$work/checked" 2>&1 ||
		fail "layer $i: $(cat "$work/checked")"
done

# What a server that starts after a kill may say: what it finds of a snapshot that did not end, the fresh pair
# or a file that had no name yet.
left=("acknowledged writes of a layer that is gone" "is removed: a process that was killed left it")

# after_the_kill: starts the server on what is there, compares, and goes on.
after_the_kill()
{
	rm -f "$work/kill"
	serve disk "$plugin" "$work/disk/image.yaml"
	writer settle "$(uri disk)" "$work/model"
	writer mix "$(uri disk)" "$work/model" 10 "$seed" >"$work/mixed"
	snapshot again.obd >"$work/said"
	if [ ! -e "$work/disk/layer.obd" ]; then
		snapshot layer.obd >"$work/said"
	elif ! grep -q layer.obd "$work/disk/image.yaml"; then
		fail "layer.obd is there, and the config does not name it"
	fi
	writer mix "$(uri disk)" "$work/model" 10 "$seed" >"$work/mixed"
	stop disk "${left[@]}"
	serve disk "$plugin" "$work/disk/image.yaml"
	writer compare "$(uri disk)" "$work/model"
	stop disk "${left[@]}"
	"$overlaybd" check "$work/disk/image.yaml" >"$work/checked" || fail "$(cat "$work/checked")"
}

say "killed at each call that changes a file"
"$python" -c 'import pickle, sys; pickle.dump([], open(sys.argv[1], "wb"))' "$work/model.maybe"
killed=0
step=$((${FULL:-0} == 1 ? 1 : 5))
for ((k = RANDOM % step; ; k += step)); do
	fresh_disk
	NBDKIT_PRELOAD="${NBDKIT_PRELOAD:-} $kill" serve disk "$plugin" "$work/disk/image.yaml"
	writer mix "$(uri disk)" "$work/model" 20 $((seed + k)) >"$work/mixed"
	writer fill "$(uri disk)" 0 3000 9
	"$python" - "$work/model" <<-'end'
		import sys
		with open(sys.argv[1], "r+b") as f:
		    f.write(b"\t" * 3000)
	end
	echo $k >"$work/kill"
	if snapshot layer.obd >"$work/said" 2>&1; then
		break
	fi
	reap 99
	killed=$((killed + 1))
	# The name that is not in the config is only another one of the data file.
	if [ -e "$work/disk/layer.obd" ] && ! grep -q layer.obd "$work/disk/image.yaml"; then
		same "the layer's inode" "$(stat -c %i "$work/disk/layer.obd")" \
			"$(stat -c %i "$work/disk/u.data")"
		rm -f "$work/kill"
		serve disk "$plugin" "$work/disk/image.yaml"
		snapshot layer.obd >"$work/said"
		stop disk "${left[@]}"
	fi
	after_the_kill
done
kill -9 "${servers[disk]}" # it still counts
reap 137
[ $((killed * step)) -ge 20 ] || fail "only $killed of at least 20 calls were found"
say "ok: $killed kills, the last at call $((k - step))"

say "killed at any time under two clients"
rounds=$(times 60)
killed=0
for ((round = 0; round < rounds; round++)); do
	fresh_disk
	rm -f "$work/kill" "$work/stop"
	NBDKIT_PRELOAD="${NBDKIT_PRELOAD:-} $kill" serve disk "$plugin" "$work/disk/image.yaml"
	writer storm "$(uri disk)" "$work/model" $((seed + round)) "$work/stop" &
	storm=$!
	sleep 0.3
	echo $((RANDOM % 120)) >"$work/kill"
	snapshot layer.obd >"$work/said" 2>&1 || true
	wait $storm || fail "the storm"
	reap 99
	if [ -e "$work/disk/layer.obd" ] && ! grep -q layer.obd "$work/disk/image.yaml"; then
		rm "$work/disk/layer.obd"
	fi
	after_the_kill
done
say "ok: $rounds rounds"

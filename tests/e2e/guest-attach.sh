#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `overlaybd attach` with a real kernel: nbdkit is killed again and again under a reading client, which
# sees no error; so is the process that watches; what was attached can be taken over, is told from
# others, and is detached.
. "$(dirname "$0")/guest-lib.sh"
need nbdkit
need_guest

seed=$(seed)
kills=2
timeout=5
if [ "${FULL:-0}" = 1 ]; then
	kills=10
	timeout=25
fi
say "seed $seed, $kills kills, time limit $timeout s"

mkdir "$work/files"
cp "$GOLDEN"/raw-5/* "$work/files/"
head -c 1M /dev/urandom >"$work/small.raw"
"$overlaybd" commit --raw "$work/small.raw" -o "$work/files/small.obd"
echo 'lowers: [{file: small.obd}]' >"$work/files/small.yaml"
files=("$work"/files/*)

# shellcheck disable=SC2016 # the guest expands it
guest_runs "${attach_programs[@]}" --program "$(command -v setpriv)" "${files[@]/#/--add=}" --timeout 1200 --memory 512 \
	--run "$attach_begin timeout=$timeout kills=$kills seed=$seed"'
	cp /files/config.v1.json /files/image.json

	echo "what cannot be attached"
	fails "/files/none.yaml: No such file" attach /files/none.yaml
	fails "not a device /dev/nbdN" attach /files/image.json /dev/sda
	fails "nbd devices are for root only" /bin/setpriv --reuid 1 --clear-groups overlaybd attach /files/image.json
	fails "/dev/nbd0: it is not attached" overlaybd detach /dev/nbd0
	nbd_files=$(ls /run/overlaybd | grep -v lock || true)
	[ -z "$nbd_files" ]
	chmod 755 /run/overlaybd
	fails "overlaybd: /run/overlaybd: it must be a folder of this user" attach /files/image.json
	fails "overlaybd: /run/overlaybd: it must be a folder of this user" overlaybd detach /dev/nbd0
	[ $(wc -l </tmp/fails) = 1 ]
	chmod 700 /run/overlaybd

	echo "attach"
	dev=$(attach --io-timeout $timeout --sockets 2 /files/image.json)
	[ $dev = /dev/nbd0 ]
	echo "bytes: $(sha256sum $dev | cut -d" " -f1)"
	echo "read-only: $(cat /sys/block/nbd0/ro)"
	[ "$(cat /sys/block/nbd0/backend)" = "$(sed -n "s/.*\"identity\": \"\(.*\)\".*/\1/p" $state/state)" ]
	[ "$(stat -c %a /run/overlaybd)" = 700 ]
	fails "has it" attach /files/image.json /dev/nbd0
	second=$(attach /files/small.yaml)
	[ $second = /dev/nbd1 ]

	echo "nbdkit is killed"
	guest-load read $dev $((kills * (timeout + 3) + 2)) $seed >/tmp/load &
	reader=$!
	await 60 grep -q begun /tmp/load
	for n in $(seq $kills); do
		sleep 1
		kill_server
		sleep $((timeout + 1))
	done
	wait $reader
	cat /tmp/load

	echo "the watcher is killed, then nbdkit"
	kill -9 $(pidof overlaybd)
	kill -9 $(cat $state/pid)
	sleep 1
	dd if=$dev of=/dev/null bs=65536 count=1 iflag=direct 2>/dev/null &
	reader=$!
	fails "it is attached to /files/image.json" attach /files/small.yaml $dev
	[ "$(attach /files/image.json)" = $dev ]
	wait $reader
	[ "$(attach /files/small.yaml)" = $second ]

	echo "another image by the same name"
	cp /files/small.yaml /files/image.new
	mv /files/image.json /files/image.old
	mv /files/image.new /files/image.json
	kill -9 $(cat $state/pid)
	await 20 grep -q "image.json has 1048576 bytes now, and had 16777216" /tmp/syslog
	mv /files/image.old /files/image.json
	echo 3 >/proc/sys/vm/drop_caches
	echo "bytes: $(sha256sum $dev | cut -d" " -f1)"

	echo "no server for longer than I/O waits"
	overlaybd detach $second
	[ "$(attach --io-timeout 5 --dead-timeout 3 /files/small.yaml $second)" = $second ]
	echo 3 >/proc/sys/vm/drop_caches
	mv /files/small.obd /files/small.gone
	kill -9 $(cat /run/overlaybd/nbd1/pid)
	fails "Input/output error" dd if=$second of=/dev/null bs=4096 count=1 iflag=direct
	mv /files/small.gone /files/small.obd
	await 30 sh -c "dd if=$second of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null"
	if [ $kills -gt 2 ]; then
		echo "nbdkit hangs"
		server=$(cat $state/pid)
		kill -STOP $server
		dd if=$dev of=/dev/null bs=65536 count=1 iflag=direct 2>/dev/null
		[ ! -d /proc/$server ]
	fi

	echo "detach"
	server=$(cat $state/pid)
	overlaybd detach $dev
	[ ! -e $state ] && [ ! -d /proc/$server ]
	[ "$(blockdev --getsize64 $dev)" = 0 ]
	fails "it is not attached" overlaybd detach $dev
	nbd-client -d $second >/dev/null
	await 20 test ! -e /run/overlaybd/nbd1
	! pidof nbdkit overlaybd

	echo "stopped half way, before there is a state"
	mkdir /tmp/slow
	cat >/tmp/slow/nbdkit <<-END
		#!/bin/sh
		echo \$\$ >/tmp/slow/pid
		/bin/nbdkit "\$@"
		usleep 500000
		rm $state/pid
		exec sleep 600
	END
	chmod 755 /tmp/slow/nbdkit
	is_clean() { ! pidof overlaybd nbdkit && [ ! -e $state/socket ]; }
	for how in "TERM -f" "KILL" "KILL all"; do
		rm -f /tmp/slow/pid
		PATH=/tmp/slow:$PATH overlaybd attach --plugin /bin/nbdkit-overlaybd-plugin.so \
			$(echo $how | grep -o -e -f) /files/small.yaml $dev &
		attacher=$!
		await 20 test -s $state/pid
		await 20 test ! -e $state/pid
		if [ "$how" = "KILL all" ]; then
			kill -9 $(pidof overlaybd | xargs -n 1 | sort -rn) || true # children first
		else
			kill -${how%% *} $attacher
		fi
		wait $attacher || true
		await 20 test ! -d /proc/$(cat /tmp/slow/pid)
		if [ "$how" = "KILL all" ]; then
			pidof nbdkit
			overlaybd detach $dev
			is_clean
		fi
		await 20 is_clean
	done
	fails "it is not attached" overlaybd detach $dev

	echo "many at once"
	for n in 1 2 3; do
		attach /files/small.yaml >>/tmp/many &
	done
	wait
	[ "$(sort /tmp/many | xargs)" = "/dev/nbd0 /dev/nbd1 /dev/nbd2" ]
	for n in 0 1 2; do
		overlaybd detach /dev/nbd$n
	done
	! pidof nbdkit overlaybd

	echo "a state that outlived its device"
	[ "$(attach /files/image.json /dev/nbd3)" = /dev/nbd3 ]
	kill -9 $(pidof overlaybd)
	nbd-client -d /dev/nbd3 >/dev/null
	pidof nbdkit >/dev/null
	[ "$(cd /files && exec -a @overlaybd /bin/overlaybd attach --plugin ../bin/nbdkit-overlaybd-plugin.so \
		small.yaml /dev/nbd3)" = /dev/nbd3 ]
	grep -q ^@nbdkit /proc/$(cat /run/overlaybd/nbd3/pid)/cmdline
	kill -9 $(pidof overlaybd)
	overlaybd detach /dev/nbd3
	! pidof nbdkit

	echo "another program has the device; the driver is not there"
	nbdkit -U /tmp/other.sock /bin/nbdkit-overlaybd-plugin.so /files/image.json
	nbd-client -unix /tmp/other.sock /dev/nbd0 >/dev/null
	fails "another program has attached it" attach /files/image.json /dev/nbd0
	fails "another program has attached it" overlaybd detach /dev/nbd0
	nbd-client -d /dev/nbd0 >/dev/null
	await 20 rmmod nbd
	fails "modprobe nbd" attach /files/image.json
	fails "modprobe nbd" overlaybd detach /dev/nbd0
'
same "bytes" "$(sed -n 's/^bytes: //p' "$work/guest.log" | sort -u)" "$(expected raw-5 sha256)"
same "it is read-only" "$(said read-only)" 1
stalled_at_most $((timeout + 5))
say "the longest stall: $(said longest) ms ($(said operations) reads; the machine paused $(said pause) ms)"

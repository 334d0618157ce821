#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `overlaybd attach` of an image in a registry: its tag is moved to another image while it is
# attached, and the disk stays what it was through every restart; what is attached anew is the other.
. "$(dirname "$0")/guest-lib.sh"
need nbdkit nbdcopy docker-registry
need_guest

mkdir "$work/home"
export HOME=$work/home XDG_CACHE_HOME=$work/home
start_docker reg none
url=localhost:${port[reg]}

for n in 1 2; do
	head -c 2M /dev/urandom >"$work/$n.raw"
	"$overlaybd" commit --raw "$work/$n.raw" --tar -o "$work/$n.obd" >/dev/null
done
"$overlaybd" push "$work/1.obd" "$url/app:v1" >"$work/push.out"
first=$(awk 'END { print $1 }' "$work/push.out")

# The guest asks on its standard output; what it waits for is another tag.
move_tag()
{
	await 300 grep -q "please move the tag" "$work/guest.log" || return 1
	"$overlaybd" push "$work/2.obd" "$url/app:v1" >"$work/push.out"
	"$overlaybd" push "$work/2.obd" "$url/app:moved" >"$work/push2.out"
}

: >"$work/guest.log"
move_tag &
mover=$!
printf 'image: http://10.0.2.2:%s/app:v1\ninsecure: true\n' "${port[reg]}" >"$work/app.yaml"
# shellcheck disable=SC2016 # the guest expands it
guest_runs "${attach_programs[@]}" --add="$work/app.yaml" --network --memory 512 --timeout 600 \
	--run "$attach_begin port=${port[reg]}"'
	ref=http://10.0.2.2:$port/app:v1
	options="--io-timeout 5 --insecure --cache-dir none"
	sum() {
		echo 3 >/proc/sys/vm/drop_caches
		echo "$1: $(sha256sum $2 | cut -d" " -f1)"
	}

	[ "$(attach $options $ref)" = /dev/nbd0 ]
	[ "$(attach $options /files/app.yaml)" = /dev/nbd1 ]
	sum pinned /dev/nbd0
	sum pinned /dev/nbd1
	sed -n "s/.*\"digest\": \"\(.*\)\".*/digest: \1/p" /run/overlaybd/nbd[01]/state
	echo "please move the tag"
	await 120 sh -c "wget -q -O - http://10.0.2.2:$port/v2/app/tags/list | grep -q moved"

	for state in /run/overlaybd/nbd0 /run/overlaybd/nbd1; do
		kill_server
		tr "\0" "\n" </proc/$(cat $state/pid)/cmdline | sed -n "s/^digest=/digest: /p"
	done
	sum pinned /dev/nbd0
	sum pinned /dev/nbd1

	echo "the watchers and the servers"
	kill -9 $(pidof overlaybd nbdkit)
	[ "$(attach $options $ref)" = /dev/nbd0 ]
	[ "$(attach $options /files/app.yaml)" = /dev/nbd1 ]
	sum pinned /dev/nbd0
	sum pinned /dev/nbd1

	echo "detached and attached anew"
	overlaybd detach /dev/nbd0
	[ "$(attach $options $ref)" = /dev/nbd0 ]
	sum anew /dev/nbd0
'
wait "$mover" || fail "the tag was not moved"
same "pinned" "$(sed -n 's/^pinned: //p' "$work/guest.log" | sort | uniq -c | xargs)" \
	"6 $(sha256 "$work/1.raw")"
same "anew" "$(said anew)" "$(sha256 "$work/2.raw")"
same "digests" "$(sed -n 's/^digest: //p' "$work/guest.log" | sort -u)" "$first"

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# As a daemon: relative paths hold, threads live after the fork, another user may take over, and
# .get_ready's errors reach the terminal.
. "$(dirname "$0")/lib.sh"
need nbdkit nbdcopy

process_is_gone()
{
	! kill -0 "$1" 2>/dev/null
}

# daemon NAME ARGUMENT...: nbdkit forks; the parent's end means that the socket is there.
daemon()
{
	local name=$1

	shift
	nbdkit_ -P "$work/run/$name.pid" -U "$work/run/$name.sock" "$@" 2>"$work/$name.log" ||
		fail "$name does not start: $(cat "$work/$name.log")"
	await 10 test -s "$work/run/$name.pid" || fail "$name writes no pid"
}

end_daemon()
{
	local pid

	pid=$(cat "$work/run/$1.pid")
	kill "$pid"
	await 20 process_is_gone "$pid" || fail "daemon $1 does not end"
}

copy_and_check() # NAME SET
{
	nbdcopy "nbd+unix:///?socket=$work/run/$1.sock" "$work/copy"
	same "$2 from daemon $1" "$(sha256 "$work/copy")" "$(expected "$2" sha256)"
	rm "$work/copy"
}

mkdir -m 755 "$work/run"
chmod 711 "$work"

say "a daemon started with a relative path"
cd "$GOLDEN/mixed-3"
daemon plain "$plugin" config.v1.json
copy_and_check plain mixed-3
end_daemon plain
cd "$work"

say "a daemon over a folder, by a relative path"
mkdir dir
cp -r "$GOLDEN/raw-5" dir/raw-5
mv dir/raw-5/config.v1.json dir/raw-5/image.yaml
cd dir
daemon folder "$plugin" dir=raw-5
copy_and_check folder raw-5
end_daemon folder
cd "$work"

say "an image that does not open is told to the terminal, with a failing exit"
cp -r "$GOLDEN/raw-5" "$work/bad"
truncate -s 100 "$work/bad/layer2.obd"
if nbdkit_ -P "$work/run/bad.pid" -U "$work/run/bad.sock" "$plugin" \
	"$work/bad/config.v1.json" 2>"$work/bad.log"; then
	fail "a bad image starts"
fi
log_has bad "layer 2 ($work/bad/layer2.obd): "

say "resultFile is told how it went"
sed -i 's,"resultFile".*,"resultFile": "result",' "$work/bad/config.v1.json"
refuses "layer 2" "$work/bad/config.v1.json"
case $(cat "$work/bad/result") in
"failed:$work/bad/config.v1.json: layer 2 ($work/bad/layer2.obd): "*) ;;
*) fail "result file: $(cat "$work/bad/result")" ;;
esac
cp "$GOLDEN/raw-5/layer2.obd" "$work/bad/layer2.obd"
nbdkit_ -U - "$plugin" "$work/bad/config.v1.json" --run true
same "result file" "$(cat "$work/bad/result")" success
sed -i 's,"resultFile".*,"resultFile": "no/where/result",' "$work/bad/config.v1.json"
refuses "result file $work/bad/no/where/result: " "$work/bad/config.v1.json"

[ "$(id -u)" -eq 0 ] || skip "only root can change to another user; all else passed"
id nobody >/dev/null 2>&1 || skip "there is no user nobody; all else passed"

say "a daemon that becomes nobody serves files that only root can read"
cp -r "$GOLDEN/mixed-3" "$work/secret"
chmod 700 "$work/secret"
chown nobody "$work/run"
daemon nobody -u nobody "$plugin" "$work/secret/config.v1.json"
same "user" "$(stat -c %U "/proc/$(cat "$work/run/nobody.pid")")" nobody
copy_and_check nobody mixed-3
end_daemon nobody

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The control socket: who may use it, what it says, and that no client can hold it up.
. "$(dirname "$0")/lib.sh"
need nbdkit
need_python_nbd

ask() # LINE: what the server answers
{
	"$python" - "$work/ctl" "$1" <<-'end'
		import socket, sys
		s = socket.socket(socket.AF_UNIX)
		s.settimeout(30)
		s.connect(sys.argv[1])
		s.sendall(sys.argv[2].encode() + b"\n")
		print(s.makefile().read(), end="")
	end
}

says() # TEXT LINE
{
	ask "$2" >"$work/answer"
	grep -qF -- "$1" "$work/answer" || fail "'$2' gets $(cat "$work/answer")"
}

tool_fails() # MESSAGE ARGUMENT...
{
	if "$overlaybd" "${@:2}" >"$work/out" 2>&1; then
		fail "overlaybd ${*:2} succeeds"
	fi
	grep -qF -- "$1" "$work/out" || fail "'$1' is not in: $(cat "$work/out")"
}

cat >"$work/image.yaml" <<-end
	lowers: [{file: $GOLDEN/raw-5/layer0.obd}]
	upper: {data: u.data, index: u.index}
end
"$overlaybd" create "$work/u" --config "$work/image.yaml" >"$work/made"

umask 000
serve disk "$plugin" "$work/image.yaml" control="$work/ctl"
umask 022
same "mode of the socket" "$(stat -c %a "$work/ctl")" 600

say "status and statistics"
"$overlaybd" status --socket "$work/ctl" >"$work/status"
grep -q "process $(cat "$work/disk.pid")," "$work/status" || fail "$(cat "$work/status")"
grep -q "upper     $work/u.data, $work/u.index" "$work/status" || fail "$(cat "$work/status")"
grep -q "layer 0   $GOLDEN/raw-5/layer0.obd" "$work/status" || fail "$(cat "$work/status")"
"$overlaybd" status --socket "$work/ctl" --json | "$python" -c 'import json, sys
status = json.load(sys.stdin)
assert status["writable"] and status["upper"]["data"].endswith("/u.data"), status'
"$overlaybd" status --socket "$work/ctl" --stats | "$python" -c 'import json, sys
assert "reads" in json.load(sys.stdin)["images"][0]["counters"]'

say "what is no request"
says '"ok":false' ''
says '{\"command\": NAME}' 'hello'
says '{\"command\": NAME}' '[]'
says '{\"command\": NAME}' '{"command": 5}'
says '{\"command\": NAME}' '{"command": "status", "command": "status"}'
says 'no such command' '{"command": "stop"}'
says "needs a text 'layer'" '{"command": "snapshot"}'
says "'x' is not an absolute path" '{"command": "snapshot", "layer": "x"}'
says '"ok":true' '{"command": "status", "more": 1}'

say "clients that are silent, slow or too loud keep nobody waiting"
"$python" - "$work/ctl" "$overlaybd" <<'end'
import json, socket, subprocess, sys, time

def client():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(sys.argv[1])
    return s

def status():
    s = client()
    try:
        s.sendall(b'{"command":"status"}\n')
    except BrokenPipeError:
        pass
    return json.loads(s.makefile().readline())

silent = [client() for _ in range(6)]
slow = client()
slow.sendall(b'{"comm')
begin = time.monotonic()
assert status()["ok"]
assert time.monotonic() - begin < 5
time.sleep(0.3)  # until the one before is forgotten
silent.append(client())
time.sleep(0.3)
assert "too many clients" in status()["error"]
said = subprocess.run([sys.argv[2], "status", "--socket", sys.argv[1]], capture_output=True)
assert b"too many clients" in said.stderr, said
slow.sendall(b'and"}\n')
assert not json.loads(slow.makefile().readline())["ok"]
loud = client()
try:
    loud.sendall(b"x" * (1 << 20))
    assert loud.recv(1) == b""
except (BrokenPipeError, ConnectionResetError):
    pass
begin = time.monotonic()
assert silent[0].recv(1) == b"", "a silent client is kept"
assert 3 < time.monotonic() - begin + 5 < 25
assert status()["ok"]
end

say "the name of a socket that answers, and of what is no socket"
cp "$work/image.yaml" "$work/other.yaml"
sed -i 's/^upper.*//' "$work/other.yaml"
refuses "control socket $work/ctl: another server answers there" "$work/other.yaml" control="$work/ctl"
touch "$work/file"
refuses "control socket $work/file: there is something else of this name" "$work/other.yaml" \
	control="$work/file"
refuses "dir= and control= exclude each other" dir="$work" control="$work/file"
[ -f "$work/file" ] || fail "the file is gone"

say "the socket goes with the server, also under a silent client"
"$python" -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.recv(1)' "$work/ctl" &
silent=$!
sleep 0.5
stop disk
wait $silent
[ ! -e "$work/ctl" ] || fail "the socket is still there"
tool_fails "$work/ctl: No such file" status --socket "$work/ctl"

say "that of a server that was killed is replaced"
serve disk "$plugin" "$work/image.yaml" control="$work/ctl"
kill -9 "${servers[disk]}"
wait "${servers[disk]}" 2>/dev/null || true
unset "servers[disk]"
tool_fails "$work/ctl: Connection refused: its server has ended" status --socket "$work/ctl"
serve disk "$plugin" "$work/image.yaml" control="$work/ctl"
"$overlaybd" status --socket "$work/ctl" >"$work/status"
tool_fails "$work/u.data/..: Not a directory" snapshot --socket "$work/ctl" -o "$work/u.data/../x"
stop disk

say "snapshots that cannot be"
serve only "$plugin" "$work/other.yaml" control="$work/ctl"
tool_fails "the image has no upper that is written to" snapshot --socket "$work/ctl" -o "$work/l"
"$overlaybd" status --socket "$work/ctl" >"$work/status"
grep -q "none: read-only" "$work/status"
stop only
serve only "$plugin" "$work/other.yaml" upper="$work/u" control="$work/ctl"
tool_fails "the upper came from the command line" snapshot --socket "$work/ctl" -o "$work/l"
stop only
tool_fails "snapshot: --output is missing" snapshot --socket "$work/ctl"
tool_fails "status: --socket is missing" status

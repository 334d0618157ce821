#!/bin/bash
. "$(dirname "$0")/remote-lib.sh"
need nbdkit
set +e; trap - ERR
export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home" "$work/reg"
servers_count=${1:-2}
start_registry reg
start_link slow reg 20 ${MBIT:-200}
reg=127.0.0.1:${port[slow]}
cache=$work/cache
head -c $((${MIB:-32} << 20)) /dev/urandom >"$work/a.raw"
"$overlaybd" commit --raw "$work/a.raw" --compress none -o "$work/a.obd" >/dev/null
push_image "http://127.0.0.1:${port[reg]}" a obd "$work/a.obd"
for i in $(seq "$servers_count"); do
	serve "s$i" "$plugin" "image=$reg/a:obd" "cache-dir=$cache" trace=off timeout=30
done
tell reg /faults '[{"kind": "corrupt", "every": 1}]'
r=0; "$overlaybd" cache fill "$reg/a:obd" --cache-dir "$cache" || r=$?
echo "fill: $r"
tell reg /faults '[]'
tell reg /reset
cat >"$work/r.py" <<'END'
import sys, nbd, time
want = open(sys.argv[1], "rb").read()
h = nbd.NBD(); h.connect_uri(sys.argv[2])
t0 = time.time()
while time.time() - t0 < float(sys.argv[4]):
    t = time.time()
    try:
        r = "right" if h.pread(4096, 1 << 20) == want[1 << 20:(1 << 20) + 4096] else "WRONG"
    except nbd.Error as e:
        r = "EIO"
    print(f"{sys.argv[3]} at {t-t0:.1f} s: {r} after {time.time()-t:.1f} s", flush=True)
    if r == "right":
        break
    time.sleep(1)
END
before=$(grep -c /blobs/ "$work/reg.requests")
/usr/bin/python3 "$work/r.py" "$work/a.raw" "$(uri s2)" s2 1 >"$work/s2.out" 2>&1 &
while [ "$(grep -c /blobs/ "$work/reg.requests")" -lt $((before + 30)) ]; do sleep 0.02; done
kill -STOP "${servers[s2]}"
echo "s2 is frozen in its mending"
/usr/bin/python3 "$work/r.py" "$work/a.raw" "$(uri s1)" s1 40
echo "requests of blobs: $(grep -c /blobs/ "$work/reg.requests")"
curl -sS --unix-socket "$work/reg.control" http://control/stats | grep bytes_sent
kill -CONT "${servers[s2]}"

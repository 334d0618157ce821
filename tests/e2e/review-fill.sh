#!/bin/bash
. "$(dirname "$0")/remote-lib.sh"
export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home" "$work/reg"
start_registry reg
reg=127.0.0.1:${port[reg]}
cache=$work/cache
head -c 1048576 /dev/urandom >"$work/a.raw"
"$overlaybd" commit --raw "$work/a.raw" --compress none -o "$work/a.obd" >/dev/null
push_image "http://$reg" a obd "$work/a.obd"
exits 0 "1 layers, " "$overlaybd" cache fill "$reg/a:obd" --cache-dir "$cache"
# A process that evicts, and is frozen.
"$python" - "$cache/v1/lock" <<'END' &
import fcntl, struct, sys, time, os
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 1, 0))
print("locked", flush=True)
time.sleep(100)
END
holder=$!
sleep 1
date +%s
r=0; timeout 45 "$overlaybd" cache fill "$reg/a:obd" --cache-dir "$cache" || r=$?; echo "exit $r"
date +%s
kill $holder

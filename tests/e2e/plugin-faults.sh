#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every read of a layer file fails once: while the image is opened nbdkit does not start, and starts the
# next time; while it is served the client gets EIO, once, and the log says why.
. "$(dirname "$0")/lib.sh"
need nbdkit
need_python_nbd

fault=$BUILD/tests/libfault-preload.so
export FAULT_CONTROL=$work/fault
NBDKIT_PRELOAD="${NBDKIT_PRELOAD:-} $fault"
config=$GOLDEN/mixed-3/config.v1.json
make_flat mixed-3

# How a line about a failed read begins: with the whole path to the cause.
path_to_cause="$config: layer [0-2] ($GOLDEN/mixed-3/layer[0-2].obd): .*Input/output error"

starts()
{
	nbdkit_ -f --log=stderr -U - "$plugin" "$config" --run true 2>"$work/start.log"
}

say "each read of opening fails once"
k=0
while echo $k >"$FAULT_CONTROL" && ! starts; do
	[ ! -e "$FAULT_CONTROL" ] || fail "read $k: nbdkit does not start, without a fault"
	grep -q "$path_to_cause" "$work/start.log" || fail "read $k: $(cat "$work/start.log")"
	starts || fail "after a fault at read $k: $(cat "$work/start.log")"
	k=$((k + 1))
done
rm "$FAULT_CONTROL" || fail "nbdkit starts in spite of a fault at read $k"
[ $k -ge 12 ] || fail "only $k reads were seen"
say "ok: $k reads"

say "each read of serving fails once"
serve faults "$plugin" "$config"
"$python" "$SOURCE/tests/e2e/client.py" faults "$(uri faults)" "$work/mixed-3.raw" "$FAULT_CONTROL" \
	$((20 - $(times 20) + 1))
grep -q "$path_to_cause" "$work/faults.log" || fail "log: $(tail -3 "$work/faults.log")"
stop faults "Input/output error"

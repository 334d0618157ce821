#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# remote-merge.sh - `overlaybd merge` and `overlaybd create` over an image in a registry.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit nbdcopy

export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home"
"$python" "$tests/make-upper.py" 1 3145728 "$work/a" "$work/a.raw"
"$python" "$tests/make-upper.py" 2 3145728 "$work/b" "$work/b.raw" --base "$work/a.raw"
"$python" "$tests/make-upper.py" 3 3145728 "$work/c" "$work/c.raw" --base "$work/b.raw"
"$overlaybd" commit "$work/a" --tar -o "$work/a.obd" >/dev/null
"$overlaybd" commit "$work/b" --tar --compress zstd -o "$work/b.obd" >/dev/null
start_registry reg
push_image "http://127.0.0.1:${port[reg]}" app/disk obd "$work/a.obd" "$work/b.obd"
printf 'image: 127.0.0.1:%s/app/disk:obd\nupper:\n  data: c.data\n  index: c.index\n' "${port[reg]}" \
	>"$work/image.yaml"

# merged OPTION...: makes $work/merged.obd.
merged()
{
	"$overlaybd" merge "$work/image.yaml" "$@" --compress none -o "$work/merged.obd" >"$work/summary" ||
		fail "merge $*"
}

merged
"$python" "$SOURCE/tests/check-layer.py" "$work/merged.obd" --disk "$work/c.raw"
merged --layers 0-1
"$python" "$SOURCE/tests/check-layer.py" "$work/merged.obd" --disk "$work/b.raw"
merged --layers 1-
"$python" "$SOURCE/tests/check-layer.py" "$work/merged.obd" --base "$work/a.raw" --disk "$work/c.raw"
say "ok: merges of remote layers"

"$overlaybd" create "$work/new" --config "$work/image.yaml" >"$work/summary"
grep -q ": a disk of 3145728 bytes" "$work/summary" || fail "$(cat "$work/summary")"
say "ok: create over a remote image"

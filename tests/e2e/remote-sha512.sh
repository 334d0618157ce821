#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# An image whose blobs have sha512 digests is served, checked, cached and looked after as any other; so is
# one whose manifest is asked for by a sha512.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit nbdcopy
need_python_nbd

client=$SOURCE/tests/e2e/client.py
export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home" "$work/reg"
make_image img $((4 * 1024 * 1024)) 20
flat=$work/img/flat.raw
layers=("$work"/img/[123].obd)
start_registry reg
reg=127.0.0.1:${port[reg]}
digests=sha512
push_image "http://$reg" app obd "${layers[@]}"
cache=$work/cache

# reads NAME IMAGE
reads()
{
	serve "$1" "$plugin" "image=$2" "cache-dir=$cache" trace=off
	"$python" "$client" survive "$(uri "$1")" "$flat" 1 >"$work/$1.out"
	stop "$1"
}

reads tag "$reg/app:obd"
exits 0 "$(digest_of "${layers[0]}")" "$overlaybd" cache ls --cache-dir "$cache"
same "layers in the cache" "$(grep -c ' sha512:' "$work/out")" 3
say "ok: by its tag"

manifest=$(digest_of "$work/push.manifest")
reads digest "$reg/app@$manifest"
exits 0 "3 layers, " "$overlaybd" cache fill "$reg/app@$manifest" --cache-dir "$cache"
exits 0 "$(digest_of "${layers[2]}")  -" "$overlaybd" cache ls --cache-dir "$cache"
same "whole layers" "$(grep -c '^whole .* sha512:' "$work/out")" 3
exits 0 ", 0 wrong" "$overlaybd" cache verify --cache-dir "$cache"
say "ok: by a sha512, and as a whole"

# Nothing is asked for that is there; another repository is served from it too.
tell reg /reset
push_image "http://$reg" other obd "${layers[@]}"
tell reg /reset
reads warm "$reg/other:obd"
! grep -q '"GET /v2/other/blobs/' "$work/reg.requests" || fail "a layer was fetched again"
tell reg /faults '[{"kind": "503", "every": 1}]'
reads away "$reg/app@$manifest"
tell reg /faults '[]'
say "ok: from the cache"

printf x | dd of="$cache/v1/sha256/$(digest_of "${layers[0]}")/data" bs=1 seek=20000 conv=notrunc status=none
exits 1 ", 1 wrong and dropped" "$overlaybd" cache verify --cache-dir "$cache"
exits 0 "1 blob dropped" "$overlaybd" cache drop "$(digest_of "${layers[1]}")" --cache-dir "$cache"
exits 0 "freed" "$overlaybd" cache prune --to 0 --cache-dir "$cache"
exits 0 "0 B in all" "$overlaybd" cache ls --cache-dir "$cache"
same "layers left" "$(grep -c ' sha512:' "$work/out")" 0
say "ok: verify, drop and prune"

# The wrong bytes of a sha512 are found.
tell reg /faults '[{"kind": "corrupt", "every": 1}]'
exits 1 "the blob is wrong: its bytes have the digest sha512:" "$overlaybd" cache fill "$reg/app:obd" \
	--cache-dir "$work/wrong"
tell reg /faults '[]'
say "ok: wrong bytes"

# What is pushed from it has sha256 digests, as all that we write.
cat >"$work/from.yaml" <<END
image: $reg/app:obd
END
exits 0 "$reg/copy:obd" "$overlaybd" push "$work/from.yaml" "$reg/copy:obd"
serve copy "$plugin" "image=$reg/copy:obd" cache-dir=none trace=off
"$python" "$client" survive "$(uri copy)" "$flat" 1 >"$work/copy.out"
stop copy
say "ok: push"

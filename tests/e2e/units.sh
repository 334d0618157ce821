#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The systemd units in examples/: systemd finds nothing to say about them, and the programs take the
# command lines in them.
. "$(dirname "$0")/tool-lib.sh"
need systemd-analyze nbdkit

# Programs are looked for where they would be installed.
for unit in "$SOURCE"/examples/*@.service "$SOURCE"/examples/*@.socket; do
	name=$(basename "$unit")
	sed "s,/usr/[a-z/]*/overlaybd,$overlaybd,; s,/usr/[a-z/]*/nbdkit,$(command -v nbdkit)," \
		"$unit" >"$work/${name/@/@nbd0}"
done
for unit in "$work"/*@nbd0.*; do
	systemd-analyze verify --man=no "$unit" >"$work/verify" 2>&1 ||
		fail "$(basename "$unit"): $(cat "$work/verify")"
	same "what systemd says of $(basename "$unit")" "$(cat "$work/verify")" ""
done
say "ok: $(find "$work" -name '*@nbd0.*' | wc -l) units"

# Wrong options would be status 2.  No such config is there.
commands=0
while read -r arguments; do
	arguments=${arguments//%i/none-$$}
	# shellcheck disable=SC2086 # words
	exits 1 "" "$overlaybd" ${arguments/\/dev\/none-$$//dev/nbd0}
	commands=$((commands + 1))
done < <(sed -n 's/^Exec[A-Za-z]*=@\{0,1\}[^ ]*overlaybd \(@overlaybd \)\{0,1\}//p' "$SOURCE"/examples/*.service |
	grep attach)
[ "$commands" -eq 2 ] || fail "$commands command lines"
say "ok: command lines"

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Damage under a running server: the client gets EIO, the log names image, layer and cause, and all
# else can still be read.
. "$(dirname "$0")/lib.sh"
need nbdkit nbdcopy
need_python_nbd

client=$SOURCE/tests/e2e/client.py

# scan NAME FLAT: some blocks fail, with EIO and nothing else, others are right.
scan()
{
	local outcome

	outcome=$("$python" "$client" scan "$(uri "$1")" "$2")
	[[ $outcome =~ ^EIO=[0-9]+\ good=[0-9]+$ ]] || fail "$1: $outcome"
	say "ok: $1: $outcome"
}

flip_byte() # FILE OFFSET
{
	python3 -c 'import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2]))
    b = f.read(1)[0]
    f.seek(int(sys.argv[2]))
    f.write(bytes([b ^ 0x10]))' "$1" "$2"
}

say "a bare layer that loses its second half"
make_flat raw-5
cp -r "$GOLDEN/raw-5" "$work/cut"
serve cut "$plugin" "$work/cut/config.v1.json"
layer=$work/cut/layer4.obd
truncate -s $(($(stat -c %s "$layer") / 2)) "$layer"
scan cut "$work/raw-5.raw"
log_has cut "$work/cut/config.v1.json: layer 4 ($layer): "
log_has cut "the file ends at"
stop cut

for set in lz4-4k zstd-64k; do
	say "a $set layer with one wrong byte"
	make_flat $set
	cp -r "$GOLDEN/$set" "$work/bad-$set"
	layer=$work/bad-$set/layer0.obd
	serve "bad-$set" "$plugin" "$work/bad-$set/config.v1.json"
	flip_byte "$layer" $(($(stat -c %s "$layer") / 2))
	scan "bad-$set" "$work/$set.raw"
	log_has "bad-$set" "$work/bad-$set/config.v1.json: layer 0 ($layer): zfile block "
	stop "bad-$set"
done

say "a layer that is damaged before the start is refused with its name"
mkdir "$work/start"
cp "$GOLDEN"/mixed-3/* "$work/start"
flip_byte "$work/start/layer1.obd" $((1536 + 40))
refuses "$work/start/config.v1.json: layer 1 ($work/start/layer1.obd): " \
	"$work/start/config.v1.json"

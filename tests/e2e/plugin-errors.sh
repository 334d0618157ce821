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
	"$python" -c 'import sys
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
stop cut "layer4.obd): reading "

for set in lz4-4k zstd-64k; do
	say "a $set layer with one wrong byte"
	make_flat $set
	cp -r "$GOLDEN/$set" "$work/bad-$set"
	layer=$work/bad-$set/layer0.obd
	serve "bad-$set" "$plugin" "$work/bad-$set/config.v1.json"
	flip_byte "$layer" $(($(stat -c %s "$layer") / 2))
	scan "bad-$set" "$work/$set.raw"
	log_has "bad-$set" "$work/bad-$set/config.v1.json: layer 0 ($layer): zfile block "
	stop "bad-$set" "wrong CRC"
done

say "a layer that is damaged before the start is refused with its name"
mkdir "$work/start"
cp "$GOLDEN"/mixed-3/* "$work/start"
flip_byte "$work/start/layer1.obd" $((1536 + 40))
refuses "$work/start/config.v1.json: layer 1 ($work/start/layer1.obd): " \
	"$work/start/config.v1.json"

say "a layer that is missing is told in the result file"
mkdir "$work/result"
cd "$work/result"
echo success >res
printf 'lowers:\n  - file: gone.obd\nresultFile: res\n' >c.yaml
refuses "$PWD/c.yaml:2: layer 0: $PWD/gone.obd: No such file or directory" c.yaml
same "result" "$(cat res)" \
	"failed:$PWD/c.yaml:2: layer 0: $PWD/gone.obd: No such file or directory"
printf 'lowers:\n  - file: res\nresultFile: ./res\n' >c.yaml
refuses "$PWD/c.yaml: result file: '$PWD/./res' is a file of the image: $PWD/res" c.yaml
grep -q "^failed:" res || fail "the result file was written"

say "a log that a crash cut goes on from there, with a warning"
cp -r "$GOLDEN/upper-log" "$work/crash"
truncate -s -5 "$work/crash/upper.index"
serve crash "$plugin" "$work/crash/config.v1.json"
nbdcopy "$(uri crash)" null:
log_has crash "warning: $work/crash/upper.index: cut after a crash: 41 records stay, 0 whole entries and"
stop crash "upper.index: cut after a crash: 41 records stay"

say "a name cannot forge lines of the log"
: >$'x\nnbdkit: error: forged \e[31m.obd'
printf 'lowers: [{file: "x\\nnbdkit: error: forged \\e[31m.obd"}]\nresultFile: res\n' >c.yaml
refuses 'x\x0anbdkit: error: forged \x1b[31m.obd): ' c.yaml
if grep -q '^nbdkit: error: forged' "$work/refused.log" res || grep -q $'\e' "$work/refused.log" res
then
	fail "a forged line: $(cat "$work/refused.log" res)"
fi
cd "$work"

say "more layers than the soft limit of open files"
"$python" -c 'import sys
print("lowers:")
for i in range(200):
    print("  - file:", sys.argv[1])' "$GOLDEN/raw-5/layer0.obd" >"$work/many.yaml"
(
	ulimit -Sn 100
	nbdkit_ -f -U - "$plugin" "$work/many.yaml" --run true
	"$overlaybd" check "$work/many.yaml" | tail -1 | grep -q ': ok' || fail "check of many layers"
) || fail "200 layers do not open"

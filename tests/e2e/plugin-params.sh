#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Parameters: what is refused and how, --help, --dump-plugin, and that the manual has them all.
. "$(dirname "$0")/lib.sh"
need nbdkit nbdinfo

config=$GOLDEN/raw-5/config.v1.json
cd "$work"

refuses "nothing to serve: config=FILE or dir=DIR is needed"
refuses "config= and dir= exclude each other" config="$config" dir="$work"
refuses "config= is given twice" "$config" config="$config"
refuses "dir= is given twice" dir="$work" dir="$work"
refuses "config= is empty" config=
refuses "unknown parameter 'confg' (did you mean 'config'?)" confg="$config"
refuses "unknown parameter 'colour'" "$config" colour=red
refuses "$work/none.yaml: No such file or directory" none.yaml
refuses "$work/none: No such file or directory" dir=none
refuses "$config: Not a directory" dir="$config"
for name in $(sed -n '/^static const char \*const later/,/};/p' \
	"$SOURCE/nbdkit-plugin/params.c" | grep -o '"[a-z-]*"' | tr -d '"'); do
	refuses "'$name' is not in this version" "$name=1"
done

for reference in reg.example.com/app:v1 app:v1 localhost/app reg:5000/a/b \
	reg.example.com/app@sha256:0123 ; do
	refuses "$reference: no such file; did you mean image=$reference?" "$reference"
done
for file in ./no.where/file none folder/file some.folder/image.yaml; do
	refuses "No such file or directory" "$file"
	if grep -q "did you mean" "$work/refused.log"; then
		fail "$file was taken for a registry reference"
	fi
done

say "a file that looks like a reference is still a file"
mkdir "$work/reg.example.com"
sed "s,\"layer,\"$GOLDEN/raw-5/layer,; s,\"resultFile.*,\"resultFile\": \"\"," "$config" \
	>"$work/reg.example.com/app:v1"
serve odd "$plugin" reg.example.com/app:v1
same "size" "$(nbdinfo --size "$(uri odd)")" "$(expected raw-5 virtual_size)"
stop odd

say "--dump-plugin"
nbdkit_ "$plugin" --dump-plugin >"$work/dump"
for key in version=[0-9.]+ formats=lsmt,zfile-lz4,zfile-zstd,tar lz4_version=1\\. \
	zstd_version=1\\. libyaml_version=0\\. "crc32c=(sse4.2|armv8|portable)"; do
	grep -Eq "^overlaybd_$key" "$work/dump" || fail "no overlaybd_$key in --dump-plugin"
done
grep -qx "magic_config_key=config" "$work/dump"
grep -qx "thread_model=parallel" "$work/dump"

say "every parameter is in --help and in the manual"
pod=$SOURCE/man/nbdkit-overlaybd-plugin.pod
nbdkit_ "$plugin" --help >"$work/help"
names=$(sed -n '/^static const char \*const known/,/};/p' "$SOURCE/nbdkit-plugin/params.c" |
	grep -o '"[a-z-]*"' | tr -d '"')
[ -n "$names" ] || fail "no parameters found in params.c"
for name in $names; do
	grep -Eq "^\[?$name=" "$work/help" || fail "$name= is not in --help"
	grep -Eq "^=item (\[B<$name=>\]|B<$name=>)" "$pod" || fail "$name= is not in the manual"
done
grep -o '^overlaybd_[a-z0-9_]*' "$work/dump" | while read -r key; do
	grep -qF "C<$key=" "$pod" || fail "$key is not in the manual"
done
if command -v podchecker >/dev/null; then
	podchecker -warnings -warnings "$pod" 2>"$work/pod.log" || fail "$(cat "$work/pod.log")"
	if grep -i warning "$work/pod.log"; then
		fail "podchecker warns"
	fi
fi

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Parameters: what is refused and how, --help, --dump-plugin, and that the manual has them all.
. "$(dirname "$0")/lib.sh"
need nbdkit nbdinfo

config=$GOLDEN/raw-5/config.v1.json
cd "$work"

# names FILE TABLE: the names in a table of a C file.
names()
{
	awk -v start=" $2[] = {" 'index($0, start) { on = 1 } on { print } on && /};/ { exit }' \
		"$SOURCE/$1" | grep -o '"[a-z-]*"' | tr -d '"'
}

# Parameters as the parser knows them, in the order of the manual: what to serve, then the rest.
settings=$(names core/config_setting.c settings)
others=$(names nbdkit-plugin/params.c known)
[ "$(wc -w <<<"$settings $others")" -gt 20 ] || fail "no parameters found in the sources"

refuses "nothing to serve: config=FILE, dir=DIR or image=REF is needed"
refuses "config=, dir= and image= exclude each other" config="$config" dir="$work"
refuses "config=, dir= and image= exclude each other" "$config" image=reg.example.com/app
refuses "config= is given twice" "$config" config="$config"
refuses "dir= is given twice" dir="$work" dir="$work"
refuses "config= is empty" config=
digest=sha256:$(printf '%064d' 0)
refuses "digest= is given twice" "$config" "digest=$digest" "digest=$digest"
refuses "digest=: not 'sha256:' and 64 hex digits" "$config" digest=sha256:00
refuses "dir= and digest= exclude each other" dir="$work" "digest=$digest"
refuses "$config: a digest is given, but it names no 'image'" "$config" "digest=$digest"
refuses "app@sha256:$(printf '%064d' 1): its image is sha256:" \
	"image=localhost:1/app@sha256:$(printf '%064d' 1)" "digest=$digest"
refuses "unknown parameter 'confg' (did you mean 'config'?)" confg="$config"
refuses "unknown parameter 'colour'" "$config" colour=red
refuses "unknown parameter 'cache-dri' (did you mean 'cache-dir'?)" "$config" cache-dri=x
refuses "$work/none.yaml: No such file or directory" none.yaml
refuses "$work/none: No such file or directory" dir=none
refuses "$config: Not a directory" dir="$config"

say "settings: each is refused when it is empty, and most when they are given twice"
value()
{
	case $1 in
	connections | timeout | cache-keep-free | cache-limit | verify-cache) echo 1 ;;
	acceleration-paths | download | insecure) echo true ;;
	mirror) echo http://localhost ;;
	password) echo "+$work/password" ;;
	platform) echo linux/amd64 ;;
	prefetch) echo /etc ;;
	trace) echo off ;;
	trace-idle | trace-seconds) echo 1 ;;
	*) echo "my-$1" ;;
	esac
}
echo hush >"$work/password"
for name in $settings; do
	case $name in
	password) refuses "password= would show it in the process list" password= ;;
	*) refuses "$name=: it is empty" "$name=" ;;
	esac
	case $name in
	mirror | prefetch) ;;
	*) refuses "$name= is given twice" "$name=$(value "$name")" "$name=$(value "$name")" ;;
	esac
done
refuses "connections=: '1025' is not a whole number from 1 to 1024" "$config" connections=1025
refuses "timeout=: '60s' is not a whole number of seconds from 0 to" "$config" timeout=60s
refuses "'user' is given without 'password'" "$config" service=none user=me
refuses "service file $work/none.json: No such file" "$config" service=none.json

say "all of them together, over a service file"
all=()
for name in $settings; do
	all+=("$name=$(value "$name")")
done
cat >"$work/service.json" <<-end
	{"cacheConfig": {"cacheDir": "cache", "cacheSizeGB": 1}, "logConfig": {"logLevel": 1}}
end
serve all "$plugin" "$config" service=service.json "${all[@]}" mirror=http://localhost/second
same "size" "$(nbdinfo --size "$(uri all)")" "$(expected raw-5 virtual_size)"
stop all "no replay: the disk holds no ext4 file system"

say "no secret in an error, wherever it stands"
printf 'lowers: [{file: x}]\nproxy: "ftp://me:hush@proxy"\n' >"$work/proxy.yaml"
printf 'lowers: [{file: x}]\nuser: me\npassword: "hush\\n"\n' >"$work/password.yaml"
printf 'image: "https://me:hush@reg.example.com/app"\n' >"$work/image.yaml"
for arguments in "password=hush" "password=-hush" "proxy=http://me:hush@proxy" \
	"mirror=https://me:hush@mirror" "credentials=http://me:hush@helper" \
	"image=me:hush@reg.example.com/app" "config=proxy.yaml service=none" \
	"config=password.yaml service=none" "config=image.yaml service=none"; do
	# shellcheck disable=SC2086
	refuses "" $arguments
	if grep -q hush "$work/refused.log"; then
		fail "the secret of $arguments is told: $(cat "$work/refused.log")"
	fi
	same "lines of the error" "$(wc -l <"$work/refused.log")" 1
done
refuses "open $work/gone: No such file" "$config" user=me password=+"$work/gone"

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
	zstd_version=1\\. libyaml_version=0\\.; do
	grep -Eq "^overlaybd_$key" "$work/dump" || fail "no overlaybd_$key in --dump-plugin"
done
grep -qx "magic_config_key=config" "$work/dump"
grep -qx "thread_model=parallel" "$work/dump"

say "every parameter is in --help and in the manual"
pod=$SOURCE/man/nbdkit-overlaybd-plugin.pod
nbdkit_ "$plugin" --help >"$work/help"
for name in $others $settings; do
	grep -Eq "^\[?$name=" "$work/help" || fail "$name= is not in --help"
done
# The manual has the same list, and no other.
same "parameters of the manual" \
	"$(sed -n '/^=head1 PARAMETERS/,/^=head1 THE CONFIG/s/^=item \[\?B<\([a-z-]*\)=>.*/\1/p' "$pod" |
		sort | tr '\n' ' ')" "$(printf '%s\n' $others $settings | sort | tr '\n' ' ')"
# So have the keys: settings by a reference to the parameters, the others one by one.
for name in $(sed -n '/^static const struct key/,/^};/s/.*{ "\([A-Za-z]*\)", KEY_[A-Z]*, NULL }.*/\1/p' \
	"$SOURCE/core/config.c" "$SOURCE/core/config_setting.c" "$SOURCE/core/service.c"); do
	grep -qF "C<$name>" "$pod" || fail "the key $name is not in the manual"
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

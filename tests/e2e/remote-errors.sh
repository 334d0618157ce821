#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What is wrong with a name, a registry or a login is told in one line, which names the image and says
# what to do about it; and an image that is in the cache opens without its registry.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit nbdcopy
need_python_nbd

export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home" "$work/reg"
make_image img $((2 * 1024 * 1024)) 10
echo user:secret >"$work/users"
start_registry reg --users "$work/users"
reg=127.0.0.1:${port[reg]}
push_image "http://$reg" app obd "$work"/img/[123].obd
cp "$work/push.manifest" "$work/manifest"

# tells NAME TEXT... -- PARAMETER...: nbdkit does not start with these parameters; what it says is one
# line, which has all of these texts in it.
tells()
{
	local name=$1 text texts=()

	shift
	while [ "$1" != -- ]; do
		texts+=("$1")
		shift
	done
	shift
	if nbdkit_ -f --log=stderr -U - "$plugin" "$@" --run true 2>"$work/$name.log"; then
		fail "$name: nbdkit starts"
	fi
	same "lines of: $(cat "$work/$name.log")" "$(wc -l <"$work/$name.log")" 1
	for text in "nbdkit: error: " "${texts[@]}"; do
		log_has "$name" "$text"
	done
	say "ok: $name: $(cut -d: -f3- "$work/$name.log")"
}

# put TAG TYPE FILE: a manifest, as it is.
put()
{
	curl -sS --fail-with-body -X PUT --data-binary "@$3" -H "Content-Type: $2" \
		"http://$reg/v2/app/manifests/$1" >"$work/put.out" || fail "$(cat "$work/put.out")"
}

# change SCRIPT: the image's manifest, with this done to it as m.
change()
{
	"$python" -c 'import json, sys
m = json.load(open(sys.argv[1]))
exec(sys.argv[2])
print(json.dumps(m))' "$work/manifest" "$1" >"$work/changed"
}

closed=$("$python" -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])')
# Nobody listens on this machine, or there is no such host: that is told at once.
began=$SECONDS
tells unreachable "127.0.0.1:$closed/app:obd: " "connect" "check" "can be reached" \
	-- "image=127.0.0.1:$closed/app:obd"
if ! getent hosts no-such-host.invalid && [ $? -eq 2 ]; then
	tells unknown-host "no-such-host.invalid/x:latest: no-such-host.invalid: " "resolve" \
		"check the host's name" -- image=no-such-host.invalid/x
fi
[ $((SECONDS - began)) -lt 10 ] || fail "told after $((SECONDS - began)) s"

tells plain-http "http://192.0.2.1/x: 192.0.2.1: plain HTTP" "insecure=true" -- image=http://192.0.2.1/x
tells syntax "image=" "HOST/REPOSITORY:TAG" -- "image=app:no tag"
tells capitals "127.0.0.1/App" "small letters" -- "image=127.0.0.1/App"
tells mirror "mirror=: an address with http://" \
	-- "image=$reg/app:obd" mirror=ftp://host
tells bad-tag "$reg/app:none: there is no such image at $reg" "check name and tag" -- "image=$reg/app:none"
tells bad-repository "$reg/ap:obd: there is no such image" "check name and tag" -- "image=$reg/ap:obd"

change 'for layer in m["layers"]: layer.pop("annotations")'
put docker application/vnd.oci.image.manifest.v1+json "$work/changed"
tells not-overlaybd "$reg/app:docker: not an overlaybd image" "convert it first" -- "image=$reg/app:docker"
change 'm = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
	{"mediaType": m["mediaType"], "size": 1, "digest": "'"$pushed"'",
	 "platform": {"os": "plan9", "architecture": "mips"}}]}'
put index application/vnd.oci.image.index.v1+json "$work/changed"
tells platform "$reg/app:index: no manifest for platform linux/" "there is: plan9/mips" "platform=" \
	-- "image=$reg/app:index"
tells half-platform "platform=: 'amd64'" "such as linux/arm64" -- "image=$reg/app:obd" platform=amd64

change 'm["layers"][1]["size"] += 1; m["layers"][1]["annotations"][
	"containerd.io/snapshot/overlaybd/blob-size"] = str(m["layers"][1]["size"])'
put size application/vnd.oci.image.manifest.v1+json "$work/changed"
tells blob-size "$reg/app:size: layer 1 (sha256:" "bytes, the manifest says" -- "image=$reg/app:size"
change 'm["layers"][1]["digest"] = m["layers"][1]["annotations"][
	"containerd.io/snapshot/overlaybd/blob-digest"] = "sha256:" + 64 * "5"'
cp "$work/changed" "$work/reg/manifests/app/$pushed"
tells digest "$reg/app@$pushed: $reg: what came for $pushed has the digest sha256:" -- "image=$reg/app@$pushed"
# A mirror's wrong manifest is not the end: the registry is asked next.
start_registry other
other=127.0.0.1:${port[other]}
mkdir -p "$work/garbage/manifests/app"
echo '<html>please log in</html>' >"$work/garbage/manifests/app/obd"
start_nginx garbage plain "$(static_registry "$work/garbage")"
push_image "http://$other" app obd "$work"/img/[123].obd
tell other /reset
mirrors=("mirror=http://$reg" "mirror=http://127.0.0.1:${port[garbage]}")
for reference in "$other/app@$pushed" "$other/app:obd"; do
	nbdkit_ -f -U - "$plugin" "image=$reference" cache-dir=none "${mirrors[@]}" \
		--run true 2>"$work/mirrors.log" || fail "wrong mirrors: $(cat "$work/mirrors.log")"
	mirrors=("${mirrors[@]: -1}")
done
[ "$(count other requests manifest)" -eq 2 ] || fail "the registry was not asked for manifests"
say "ok: mirrors with wrong manifests"
cp "$work/changed" "$work/reg/manifests/app/blob"
tells no-blob "$reg/app:blob: layer 1 (sha256:5555" "404" -- "image=$reg/app:blob"

tell reg /settings '{"auth": "basic"}'
echo wrong >"$work/wrong"
echo "{\"auths\": {\"$reg\": {\"auth\": \"$(printf user:wrong | base64)\"}}}" >"$work/wrong.json"
tells no-password "$reg/app:obd: $reg: it wants a user and password" "docker login" "credentials=FILE" \
	-- "image=$reg/app:obd"
tells wrong-password "$reg/app:obd: $reg: user 'user'" "check the credentials" \
	-- "image=$reg/app:obd" user=user "password=+$work/wrong"
tells wrong-file "$reg/app:obd: $reg: user 'user'" "check the credentials" \
	-- "image=$reg/app:obd" "credentials=$work/wrong.json"
tells no-file "$work/none.json: No such file" -- "image=$reg/app:obd" "credentials=$work/none.json"
tell reg /settings '{"auth": "bearer"}'
tells no-token "$reg/app:obd: $reg: it wants a login" "docker login" -- "image=$reg/app:obd"
tells wrong-token "$reg/app:obd: $reg: user 'user'" "check the credentials" \
	-- "image=$reg/app:obd" "credentials=$work/wrong.json"
tells helper "$reg/app:obd: $reg: it wants a login" \
	"credentials: credential helper at 127.0.0.1:$closed: " \
	-- "image=$reg/app:obd" "credentials=http://127.0.0.1:$closed/?secret=hush"
tell reg /settings '{"auth": "none"}'

make_ca
start_registry tls --dir "$work/reg" --tls "$work/server.pem" "$work/server.key"
tells untrusted "127.0.0.1:${port[tls]}/app:obd: " "certificate" "cainfo=FILE" \
	-- "image=https://127.0.0.1:${port[tls]}/app:obd"

# Without the registry: by digest nothing is asked, by tag there is a warning.
by_digest=$reg/app@$(sha256 "$work/manifest" | sed 's/^/sha256:/')
cp "$work/manifest" "$work/reg/manifests/app/$pushed"
for reference in "$by_digest" "$reg/app:obd"; do
	serve warm "$plugin" "image=$reference" "cache-dir=$work/cache"
	nbdcopy "$(uri warm)" "$work/copy"
	stop warm
done
end reg
serve warm "$plugin" "image=$by_digest" "cache-dir=$work/cache"
nbdcopy "$(uri warm)" "$work/copy"
cmp "$work/copy" "$work/img/flat.raw" || fail "other bytes from the cache"
stop warm # and says nothing
serve warm "$plugin" "image=$reg/app:obd" "cache-dir=$work/cache"
nbdcopy "$(uri warm)" "$work/copy"
cmp "$work/copy" "$work/img/flat.raw" || fail "other bytes from the cache"
log_has warm "$reg/app:obd: cannot reach the registry ("
log_has warm "using the manifest cached for this tag, $pushed"
stop warm "cannot reach the registry"
say "ok: images in the cache without their registry"

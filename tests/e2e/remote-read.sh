#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A three-layer image (lz4 in a tar, zstd in a tar, bare) read from real registries is the local one,
# byte for byte: docker-registry without and with a login, nginx with TLS, redirects to a second origin,
# mirrors that die.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit nbdcopy
need_python_nbd

client=$SOURCE/tests/e2e/client.py
export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home"
make_image img $((32 * 1024 * 1024)) 60
layers=("$work"/img/[123].obd)
flat=$work/img/flat.raw

# read_all NAME: the export NAME is the image's disk.
read_all()
{
	rm -f "$work/copy"
	nbdcopy "$(uri "$1")" "$work/copy"
	cmp "$work/copy" "$flat" || fail "$1 serves other bytes"
}

# serves NAME REFERENCE PARAMETER...: with a cache of its own, cold and then warm.
serves()
{
	local name=$1 reference=$2

	shift 2
	serve "$name" "$plugin" "image=$reference" "cache-dir=$work/cache-$name" "$@"
	read_all "$name"
	stop "$name"
	serve "$name" "$plugin" "image=$reference" "cache-dir=$work/cache-$name" "$@"
	read_all "$name"
	stop "$name"
	say "ok: $name"
}

# slowly NAME SECONDS: random reads over that time, so that what is signed for less runs out.
slowly()
{
	local end=$((SECONDS + $2))

	while [ $SECONDS -lt $end ]; do
		"$python" "$client" random "$(uri "$1")" "$flat" 20 $RANDOM >"$work/slowly.out"
		sleep 0.5
	done
}

# password_file NAME: a docker-style file for that server's user.
password_file()
{
	printf '{"auths": {"127.0.0.1:%s": {"auth": "%s"}}}' "${port[$1]}" \
		"$(printf 'user:secret' | base64)" >"$work/$1.json"
	echo "$work/$1.json"
}

start_docker docker none
push_image "http://127.0.0.1:${port[docker]}" app/disk obd "${layers[@]}"
serves docker "localhost:${port[docker]}/app/disk:obd"
serves digest "localhost:${port[docker]}/app/disk@$pushed"
serve uncached "$plugin" "image=localhost:${port[docker]}/app/disk:obd" cache-dir=none
read_all uncached
stop uncached
say "ok: without a cache"
printf 'repoBlobUrl: http://127.0.0.1:%s/v2/app/disk/blobs\nlowers:\n' "${port[docker]}" \
	>"$work/by-digest.yaml"
for layer in "${layers[@]}"; do
	printf -- '  - {digest: "sha256:%s"}\n' "$(sha256 "$layer")" >>"$work/by-digest.yaml"
done
serve config "$plugin" "config=$work/by-digest.yaml"
read_all config
stop config
say "ok: a config with digests and no sizes"

start_docker basic basic
push_options=(-u user:secret)
push_image "http://127.0.0.1:${port[basic]}" app/disk obd "${layers[@]}"
push_options=()
serves basic "127.0.0.1:${port[basic]}/app/disk:obd" "credentials=$(password_file basic)"
echo secret >"$work/password"
serves basic-user "127.0.0.1:${port[basic]}/app/disk:obd" user=user "password=+$work/password"

# With the blobs of the first one: on a slow machine a push takes longer than a token lives.
cp -r "$work/docker" "$work/token"
start_docker token token 5
serves token "127.0.0.1:${port[token]}/app/disk:obd" "credentials=$(password_file token)"
serve token-slow "$plugin" "image=127.0.0.1:${port[token]}/app/disk:obd" \
	"credentials=$work/token.json" cache-dir=none
slowly token-slow 8
read_all token-slow
stop token-slow
say "ok: tokens that live 5 s, for 8 s"

mkdir "$work/origin"
start_registry origin --redirect --url-seconds 3
push_image "http://127.0.0.1:${port[origin]}" app/disk obd "${layers[@]}"
serves redirect "127.0.0.1:${port[origin]}/app/disk:obd"
serve redirect-slow "$plugin" "image=127.0.0.1:${port[origin]}/app/disk:obd" cache-dir=none
slowly redirect-slow 5
read_all redirect-slow
stop redirect-slow
same "credentials at the redirect's target" "$(count origin leaks)" 0
say "ok: signed addresses that live 3 s, for 5 s"

start_nginx tls tls "$(static_registry "$work/origin")"
serves tls "https://127.0.0.1:${port[tls]}/app/disk:obd" "cainfo=$work/ca.pem"
refuses "cainfo=" "image=https://127.0.0.1:${port[tls]}/app/disk:obd" "cache-dir=$work/cache-untrusted"
serves tls-unchecked "https://127.0.0.1:${port[tls]}/app/disk:obd" insecure=true
start_nginx client-cert client-cert "$(static_registry "$work/origin")"
serves client-cert "https://127.0.0.1:${port[client-cert]}/app/disk:obd" "cainfo=$work/ca.pem" \
	"client-cert=$work/client.pem" "client-key=$work/client.key"

start_nginx mirror plain "$(mirror_of docker)"
serve mirrored "$plugin" "image=localhost:${port[docker]}/app/disk:obd" \
	"mirror=http://127.0.0.1:${port[mirror]}" cache-dir=none
"$python" "$client" random "$(uri mirrored)" "$flat" 100 1 >"$work/mirrored.out"
grep -q 'GET /v2/app/disk/blobs/' "$work/mirror.requests" || fail "the mirror was not asked"
end mirror KILL
"$python" "$client" random "$(uri mirrored)" "$flat" 100 2 >"$work/mirrored.out"
read_all mirrored
stop mirrored
say "ok: a mirror that dies"
serves dead-mirror "localhost:${port[docker]}/app/disk:obd" "mirror=http://127.0.0.1:${port[mirror]}"
# Our registry leaves out what stands before /v2/ in a path, as a peer-to-peer proxy does.
tell origin /reset
serves prefix "localhost:${port[docker]}/app/disk:obd" \
	"mirror=http://127.0.0.1:${port[origin]}/dadip2p"
[ "$(count origin requests blob)" -gt 0 ] || fail "the address prefix was not used"

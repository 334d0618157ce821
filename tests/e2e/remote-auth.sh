#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Logging in where something goes wrong on the way: refusals that are cut short, a token service that
# is away for a while.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit
need_python_nbd

export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home"
make_image img $((8 * 1024 * 1024)) 10
echo user:secret >"$work/users"
start_registry reg --users "$work/users"
push_image "http://127.0.0.1:${port[reg]}" app/disk obd "$work"/img/[123].obd
printf '{"auths": {"127.0.0.1:%s": {"auth": "%s"}}}' "${port[reg]}" \
	"$(printf 'user:secret' | base64)" >"$work/auth.json"
tell reg /settings '{"auth": "bearer"}'

# opens FAULTS: the image opens without a cache under these, within the 15 s of opening.
opens()
{
	tell reg /faults "$1"
	timeout 20 env LD_PRELOAD="${NBDKIT_PRELOAD:-}" nbdkit -f -U - "$plugin" \
		"image=127.0.0.1:${port[reg]}/app/disk:obd" "credentials=$work/auth.json" \
		cache-dir=none --run true 2>"$work/opens.log" ||
		fail "status $? under $1: $(cat "$work/opens.log")"
	say "ok: $1"
}

opens '[]'
opens '{"kind": "truncate", "on": "manifest", "times": 1, "after": 5}'
opens '{"kind": "503", "on": "token", "times": 4}'
opens '{"kind": "close", "on": "token", "times": 4}'

# While the token service fails it is left alone for longer and longer, though the token has run out and
# many readers want one; when it is well again, so are they.
tell reg /faults '[]'
tell reg /settings '{"auth": "bearer", "token_seconds": 2}'
serve away "$plugin" "image=127.0.0.1:${port[reg]}/app/disk:obd" "credentials=$work/auth.json" \
	cache-dir=none connections=8
sleep 2.2
tell reg /faults '{"kind": "503", "on": "token"}'
tell reg /reset
readers=()
for seed in 1 2 3 4 5 6; do
	"$python" "$SOURCE/tests/e2e/client.py" random "$(uri away)" "$work/img/flat.raw" 40 $seed \
		>"$work/reader.$seed" 2>&1 &
	readers+=($!)
done
sleep 4
asked=$(count reg requests token)
[ "$asked" -ge 1 ] || fail "nobody asks for a token"
[ "$asked" -le 8 ] || fail "a token service that fails is asked $asked times in 4 s"
tell reg /faults '[]'
for reader in "${readers[@]}"; do
	wait "$reader" || fail "$(cat "$work"/reader.*)"
done
stop away
tell reg /settings '{"token_seconds": 300}'
say "ok: a token service that is away for a while: asked $asked times in 4 s"

# A stranger to which an upload is sent asks for a login: nothing that is ours goes to where it says.
start_nginx stranger plain 'location = /token { if ($http_authorization) { return 418; } return 403; }
	location / { if ($http_authorization) { return 418; }
		add_header WWW-Authenticate "Bearer realm=\"http://127.0.0.1:@PORT@/token\"" always;
		return 401; }'
start_nginx pushed plain "location / { if (\$http_authorization = '') {
		add_header WWW-Authenticate 'Basic realm=\"test\"' always; return 401; }
		if (\$request_method = POST) {
			add_header Location http://127.0.0.1:${port[stranger]}/up always; return 202; }
		return 404; }"
printf '{"auths": {"127.0.0.1:%s": {"auth": "%s"}}}' "${port[pushed]}" \
	"$(printf 'user:secret' | base64)" >"$work/push.json"
complains 1 "127.0.0.1:${port[pushed]}/app/disk:obd: " push --credentials "$work/push.json" \
	"$work/img/1.obd" "127.0.0.1:${port[pushed]}/app/disk:obd"
grep -q 'PUT /up' "$work/stranger.requests" || fail "no upload: $(cat "$work/out")"
! grep -qE '" 418 |/token' "$work/stranger.requests" ||
	fail "a stranger was sent a login: $(cat "$work/stranger.requests")"
say "ok: an upload that leads to a stranger"

# A client certificate is for the registry, not for where it redirects to.
make_ca
start_nginx store tls "ssl_verify_client optional_no_ca;
	location ~ ^/(?<blob>[0-9a-f]+)\$ {
		if (\$ssl_client_verify != NONE) { return 418; }
		alias $work/reg/blobs/sha256/\$blob; }"
start_nginx redirecting client-cert "location ~ ^/v2/.+/blobs/sha256:(?<blob>[0-9a-f]+)\$ {
		return 307 https://127.0.0.1:${port[store]}/\$blob; }
	$(static_registry "$work/reg")"
nbdkit_ -f -U - "$plugin" "image=127.0.0.1:${port[redirecting]}/app/disk:obd" cache-dir=none \
	"cainfo=$work/ca.pem" "client-cert=$work/client.pem" "client-key=$work/client.key" \
	--run true 2>"$work/opens.log" || fail "$(cat "$work/opens.log" "$work/store.requests")"
grep -q '" 206 ' "$work/store.requests" || fail "nobody was redirected"
say "ok: a redirect of who has a certificate"

start_nginx leaky tls "location / {
		if (\$request_method = POST) {
			add_header Location http://127.0.0.1:${port[stranger]}/plain always; return 202; }
		return 404; }"
complains 1 "127.0.0.1:${port[leaky]}/app/disk:obd: " push --cainfo "$work/ca.pem" \
	"$work/img/1.obd" "127.0.0.1:${port[leaky]}/app/disk:obd"
! grep -q /plain "$work/stranger.requests" || fail "an upload left TLS"
say "ok: an upload that leads out of TLS"

# What stands before an @ in a realm is no host.
start_nginx lying plain "location / {
		add_header WWW-Authenticate
			'Bearer realm=\"http://127.0.0.1:x@localhost:${port[stranger]}/token\"' always;
		return 401; }"
printf '{"auths": {"127.0.0.1:%s": {"auth": "%s"}}}' "${port[lying]}" \
	"$(printf 'user:secret' | base64)" >"$work/lying.json"
refuses "127.0.0.1:${port[lying]}: " "image=127.0.0.1:${port[lying]}/app/disk:obd" \
	"credentials=$work/lying.json" cache-dir=none
grep -q /token "$work/stranger.requests" || fail "no token was asked for"
! grep -q -- '- user \[' "$work/stranger.requests" || fail "a realm with an @ got the password"

# A signed address that has run out is had anew from where it came, not from another place.
tell reg /settings '{"auth": "none", "redirect": true, "url_seconds": 0.5}'
tell reg /faults '[]'
start_registry plain
push_image "http://127.0.0.1:${port[plain]}" app/disk obd "$work"/img/[123].obd
serve signed "$plugin" "image=127.0.0.1:${port[plain]}/app/disk:obd" cache-dir=none \
	"mirror=http://127.0.0.1:${port[reg]}"
tell plain /reset
for seed in 1 2 3; do
	"$python" "$SOURCE/tests/e2e/client.py" random "$(uri signed)" "$work/img/flat.raw" 20 $seed
	sleep 0.8
done
[ "$(count reg status signed 403)" -gt 0 ] || fail "no address has run out"
same "requests of the registry" "$(count plain requests blob)" 0
stop signed
say "ok: a signed address that has run out"

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# servers.sh - the servers that other tests rely on do what they say, right and wrong: our registry with
# each of its faults, docker-registry, nginx, and the slow link.
. "$(dirname "$0")/remote-lib.sh"
need cmp

# get STATUS CURL-OPTION...: a request that must be answered so; the body is in $work/body.
get()
{
	local wanted=$1

	shift
	same "status of: $*" "$(curl -sS -o "$work/body" -w '%{http_code}' "$@")" "$wanted"
}

# breaks STATUS CURL-OPTION...: curl must end with this status of its own, a pattern.
breaks()
{
	local wanted=$1 status=0

	shift
	curl -sS -o "$work/body" -D "$work/head" -m 5 "$@" 2>"$work/curl.err" || status=$?
	# shellcheck disable=SC2053 # a pattern
	[[ $status == $wanted ]] ||
		fail "curl ends with $status, not $wanted ($(cat "$work/curl.err")): $*"
}

# statuses WANTED CURL-OPTION...: the same for several requests at once.
statuses()
{
	local wanted=$1

	shift
	same "statuses of: $*" "$(curl -sS -w '%{http_code} ' "$@")" "$wanted "
}

# header NAME CURL-OPTION...: prints the value.
header()
{
	local name=$1

	shift
	curl -sS -o "$work/body" -D - "$@" | sed -n "s/^$name: \([^\r]*\).*/\1/Ip"
}

# holds_range FILE FIRST LAST: the body is these bytes of the file.
holds_range()
{
	same "bytes for $2-$3" "$(stat -c %s "$work/body")" $(($3 - $2 + 1))
	cmp -i "$2:0" -n $(($3 - $2 + 1)) "$1" "$work/body" || fail "wrong bytes for $2-$3 of $1"
}

# serves_image URL CURL-OPTION...: the image is there as pushed; ranges of its layers too.
serves_image()
{
	local url=$1 n urls=()

	shift
	get 200 "$@" "$url/v2/test/image/manifests/$image"
	cmp "$work/body" "$work/image/manifest" || fail "another manifest"
	for n in 1 2 3; do
		urls+=(-o "$work/got.$n" "$url/v2/test/image/blobs/sha256:$(sha256 "$work/image/$n.obd")")
	done
	statuses "200 200 200" "$@" "${urls[@]}"
	for n in 1 2 3; do
		cmp "$work/got.$n" "$work/image/$n.obd" || fail "another layer $n"
	done
	statuses "206 206 206" -r 1000-9999 "$@" "${urls[@]}"
	for n in 1 2 3; do
		mv "$work/got.$n" "$work/body"
		holds_range "$work/image/$n.obd" 1000 9999
	done
}

# milliseconds URL CURL-OPTION...: that it takes.
milliseconds()
{
	curl -sS -o /dev/null -w '%{time_total}\n' "$@" | awk '{ print int($1 * 1000) }'
}

between()
{
	[ "$2" -ge "$3" ] && [ "$2" -le "$4" ] || fail "$1: $2, not $3 to $4"
}

# What the image is does not depend on the servers; what lies there is compared with these files.
make_image image 2097152
layer=$work/image/1.obd
size=$(stat -c %s "$layer")
digest=sha256:$(sha256 "$layer")
holds "$work/image/image.yaml" "$work/image/flat.raw"

echo user:secret >"$work/users"
start_registry reg --unix "$work/reg.sock" --users "$work/users" --token-port
reg=http://127.0.0.1:${port[reg]}
blob=$reg/v2/test/image/blobs/$digest
push_image "$reg" test/image v1 "$work"/image/*.obd
push_image "$reg" test/image v1 "$work"/image/*.obd
image=$pushed
cp "$work/push.manifest" "$work/image/manifest"
serves_image "$reg"
get 200 --unix-socket "$work/reg.sock" "$blob" && cmp "$work/body" "$layer"
same "digest of the tag" "$(header docker-content-digest -I "$reg/v2/test/image/manifests/v1")" "$pushed"
get 304 -H "If-None-Match: \"$pushed\"" "$reg/v2/test/image/manifests/v1"
get 206 -r -100 "$blob"
holds_range "$layer" $((size - 100)) $((size - 1))
same Content-Range "$(header content-range -r $((size - 10))-$((size + 10)) "$blob")" \
	"bytes $((size - 10))-$((size - 1))/$size"
get 416 -r "$size-" "$blob"
get 416 -r 0-1,4-5 "$blob"
get 404 "$reg/v2/test/image/manifests/v2"
get 404 "$reg/v2/test/image/blobs/${digest/a/b}"
get 404 "$reg/elsewhere"
get 206 -r 0-9 "$reg/peers/https://other:1/v2/test/image/blobs/$digest"
get 400 -X POST --data-binary x "$reg/v2/test/image/blobs/uploads/?digest=$digest"
get 400 -X PUT -d '{"layers": [{"digest": "sha256:no"}]}' "$reg/v2/test/image/manifests/v2"
mkdir -p "$work/reg/manifests/other"
cp "$work/push.manifest" "$work/reg/manifests/other/latest"
get 200 "$reg/v2/other/manifests/$pushed"
tell reg /reset
get 206 -r 0-999 "$blob"
get 200 -I "$blob"
same "requests" "$(count reg requests blob)" 2
same "bytes" "$(count reg bytes "$digest")" 1000
same "requests in the log" "$(grep -c '"range": "bytes=0-999", "status": 206, "sent": 1000' \
	"$work/reg.requests")" 1
say "ok: registry"

# Each fault has a place of its own: what comes before /v2/ in the path.
tell reg /faults '[
	{"path": "^/latency/", "kind": "latency", "seconds": 0.2},
	{"path": "^/stall/", "kind": "stall", "after": 10},
	{"path": "^/mute/", "kind": "stall", "after": -1},
	{"path": "^/pause/", "kind": "stall", "seconds": 0.2},
	{"path": "^/reset/", "kind": "reset"},
	{"path": "^/truncate/", "kind": "truncate"},
	{"path": "^/start/", "kind": "content-range", "wrong": "start"},
	{"path": "^/end/", "kind": "content-range", "wrong": "end"},
	{"path": "^/total/", "kind": "content-range", "wrong": "total"},
	{"path": "^/missing/", "kind": "content-range", "wrong": "missing"},
	{"path": "^/corrupt/", "kind": "corrupt"},
	{"path": "^/whole/", "kind": "whole"},
	{"path": "^/401/", "kind": "401"},
	{"path": "^/403/", "kind": "403"},
	{"path": "^/404/", "kind": "404"},
	{"path": "^/416/", "kind": "416"},
	{"path": "^/429/", "kind": 429, "retry_after": 3},
	{"path": "^/500/", "kind": "500"},
	{"path": "^/502/", "kind": "502"},
	{"path": "^/503/", "kind": 503, "retry_after": 3, "date": true},
	{"path": "^/slow/", "kind": "slow-headers", "ms": 1},
	{"path": "^/garbage/", "kind": "garbage"},
	{"path": "^/close/", "kind": "close"},
	{"path": "^/loop/", "kind": "loop", "times": 1},
	{"path": "^/gzip/", "kind": "gzip"},
	{"path": "^/huge/", "kind": "huge-headers"},
	{"path": "^/chunked/", "kind": "chunked"}]'

# at FAULT: the blob's URL in the place of that fault.
at()
{
	echo "$reg/$1/v2/test/image/blobs/$digest"
}

between "milliseconds with latency" "$(milliseconds -r 0-9 "$(at latency)")" 200 2000
breaks 28 -m 1 -r 0-99 "$(at stall)"
same "bytes before a stall" "$(stat -c %s "$work/body")" 10
breaks 28 -m 0.4 -r 0-99 "$(at mute)"
same "bytes of no answer" "$(cat "$work/head")" ""
between "milliseconds with a pause" "$(milliseconds -r 0-99 "$(at pause)")" 200 2000
breaks 56 -r 0-9999 "$(at reset)"
breaks 18 -r 0-99 "$(at truncate)"
same "bytes of a truncated body" "$(stat -c %s "$work/body")" 50
same "wrong start" "$(header content-range -r 0-99 "$(at start)")" "bytes 50-149/$size"
holds_range "$layer" 50 149
same "wrong end" "$(header content-range -r 0-99 "$(at end)")" "bytes 0-49/$size"
same "wrong total" "$(header content-range -r 0-99 "$(at total)")" "bytes 0-99/$((size + 1))"
same "missing" "$(header content-range -r 0-99 "$(at missing)")" ""
get 206 -r 0-4095 "$(at corrupt)"
same "bytes corrupted" "$(cmp -l -n 4096 "$layer" "$work/body" | wc -l)" 8
get 200 -r 0-99 "$(at whole)"
cmp "$work/body" "$layer" || fail "not the whole blob"
statuses "401 403 404 416 429 500 502 503" \
	-o "$work/body" "$reg/{401,403,404,416,429,500,502,503}/v2/test/image/blobs/$digest"
same Retry-After "$(header retry-after "$(at 429)")" 3
seconds=$(($(date -d "$(header retry-after "$(at 503)")" +%s) - $(date +%s)))
between "seconds until then" $seconds 1 3
between "milliseconds of a slow head" "$(milliseconds -r 0-9 "$(at slow)")" 200 5000
breaks 1 "$(at garbage)"
breaks 52 "$(at close)"
breaks 47 -L --max-redirs 5 "$(at loop)"
get 206 -r 0-9999 --compressed "$(at gzip)"
holds_range "$layer" 0 9999
breaks 56 -r 0-9 "$(at huge)"
same "no length" "$(header content-length -r 0-99999 "$(at chunked)")" ""
holds_range "$layer" 0 99999
same "faults counted" "$(count reg faults content-range)" 4
tell reg /faults '[{"kind": "500", "every": 3, "skip": 1, "times": 1, "path": "blobs", "range": "^bytes=-"},
	{"kind": "404", "on": "manifest", "method": "HEAD"}]'
get 206 -r 0-9 "$blob"
statuses "206 206 206 500 206 206 206" -r -9 -o "$work/body" "$blob?[1-7]"
get 200 "$reg/v2/test/image/manifests/v1"
get 404 -I "$reg/v2/test/image/manifests/v1"
tell reg /faults '{"kind": "tls", "every": 2}'
get 206 -r 0-9 "$blob"
breaks '@(52|56)' "$blob"
get 400 --unix-socket "$work/reg.control" -d '{"kind": "reset", "evry": 1}' http://control/faults
get 400 --unix-socket "$work/reg.control" -d '{"kind": "rest"}' http://control/faults
tell reg /faults '[]'
get 200 "$blob"
say "ok: faults"

tell reg /settings '{"auth": "basic"}'
get 401 "$reg/v2/"
get 401 -u user:wrong "$reg/v2/"
serves_image "$reg" -u user:secret
get 401 -X POST "$reg/v2/test/image/blobs/uploads/"

tokens=http://127.0.0.1:${port[reg-token]}/token
tell reg /settings '{"auth": "bearer", "token_seconds": 0}'
get 401 "$tokens"
get 401 -u user:wrong "$tokens"
log_in "$reg" test/image -u user:secret
tell reg /settings '{"token_seconds": 300}'
get 401 "${push_options[@]}" "$reg/v2/"
header www-authenticate "${push_options[@]}" "$reg/v2/" | grep -q invalid_token ||
	fail "an old token is not called invalid"
log_in "$reg" test/image -u user:secret
serves_image "$reg" "${push_options[@]}"
push_image "$reg" test/image v2 "$layer"
get 401 "${push_options[@]}" "$reg/v2/other/manifests/v1"
same "tokens" "$(count reg tokens)" 2
tell reg /revoke
get 401 "${push_options[@]}" "$blob"
say "ok: basic and bearer"

tell reg /settings '{"auth": "basic", "redirect": true}'
push_options=(-u user:secret)
push_image "$reg" test/image v1 "$work"/image/*.obd
push_options=()
serves_image "$reg" -L -u user:secret
target=$(header location -u user:secret "$blob")
get 206 -r 0-9 "$target"
get 403 "${target}0"
same "leaks" "$(count reg leaks)" 0
breaks 0 --location-trusted -u user:secret "$blob"
same "leaks" "$(count reg leaks)" 1
log_has reg LEAK
tell reg /settings '{"url_seconds": -1}'
target=$(header location -u user:secret "$blob")
get 403 "$target"
if grep -e secret -e dXNlcjpzZWNyZXQ -e "$(cut -d' ' -f4 "$work/token.curl")" "$work"/reg.{log,requests}
then
	fail "a secret in a log"
fi
end reg
say "ok: redirects"

make_ca
start_registry tls --dir "$work/reg" --tls "$work/server.pem" "$work/server.key"
url=https://localhost:${port[tls]}
serves_image "$url" --cacert "$work/ca.pem"
breaks 60 "$url/v2/"
tell tls /faults '{"kind": "tls"}'
breaks 35 --cacert "$work/ca.pem" "$url/v2/"
end tls
start_registry tls --dir "$work/reg" --tls "$work/server.pem" "$work/server.key" \
	--client-ca "$work/ca.pem"
url=https://localhost:${port[tls]}
breaks '@(55|56)' --cacert "$work/ca.pem" "$url/v2/"
get 200 --cacert "$work/ca.pem" --cert "$work/client.pem" --key "$work/client.key" "$url/v2/"
end tls
say "ok: TLS"

# docker-registry, which gives a manifest only to those who ask for its type.
for auth in none basic token; do
	start_docker docker-$auth $auth 8
	url=http://127.0.0.1:${port[docker-$auth]}
	case $auth in
	none) push_options=() ;;
	basic) push_options=(-u user:secret) ;;
	token) log_in "$url" test/image -u user:secret ;;
	esac
	[ $auth = none ] || get 401 "$url/v2/"
	push_image "$url" test/image v1 "$layer"
	get 200 "${push_options[@]}" -H "Accept: application/vnd.oci.image.manifest.v1+json" \
		"$url/v2/test/image/manifests/v1"
	cmp "$work/body" "$work/push.manifest" || fail "another manifest"
	get 206 "${push_options[@]}" -r 1000-9999 "$url/v2/test/image/blobs/$digest"
	holds_range "$layer" 1000 9999
done
bearer=("${push_options[@]}")
old=$url
push_options=()
say "ok: docker-registry"

start_nginx secure tls "$(static_registry "$work/reg")"
serves_image "https://localhost:${port[secure]}" --cacert "$work/ca.pem"
same "version of HTTP" "$(curl -sS --cacert "$work/ca.pem" -o "$work/body" -w '%{http_version}' \
	"https://localhost:${port[secure]}/v2/")" 2
end secure
start_nginx closed client-cert "$(static_registry "$work/reg")"
get 400 --cacert "$work/ca.pem" "https://localhost:${port[closed]}/v2/"
get 200 --cacert "$work/ca.pem" --cert "$work/client.pem" --key "$work/client.key" \
	"https://localhost:${port[closed]}/v2/"
end closed
start_registry reg
start_nginx mirror plain "$(mirror_of reg)"
serves_image "http://127.0.0.1:${port[mirror]}"
tell reg /reset
serves_image "http://127.0.0.1:${port[mirror]}"
same "blobs asked for again" "$(count reg requests blob)" 0
same "manifests asked for again" "$(count reg requests manifest)" 1
end mirror KILL
breaks 7 "http://127.0.0.1:${port[mirror]}/v2/"
say "ok: nginx"

# The slow link.
reg=http://127.0.0.1:${port[reg]}
start_link slow reg 50 100
url=http://127.0.0.1:${port[slow]}
slow=$url/v2/test/image/blobs/$digest
between "ms of two round trips, at best" "$(milliseconds -r 0-9 -H "Connection: close" \
	"$slow?[1-5]" | sort -n | head -1)" 100 115
between "ms of one" "$(milliseconds -r 0-9 "$slow?[1-5]" | sort -n | head -1)" 50 60
serves_image "$url"
head -c 2500000 /dev/urandom >"$work/blob"
push_blob "$reg" test/image "$work/blob"
large=$url/v2/test/image/blobs/sha256:$(sha256 "$work/blob")
tell slow /reset
between "ms for 20 Mbit" "$(milliseconds "$large")" 295 1000
begin=${EPOCHREALTIME/./}
curl -sS -Z --no-progress-meter -r 0-624999 -o "$work/1" "$large" -o "$work/2" "$large" \
	-o "$work/3" "$large" -o "$work/4" "$large"
between "ms for four times 5 Mbit at once" $(((${EPOCHREALTIME/./} - begin) / 1000)) 295 2000
get 200 "$large"
cmp "$work/body" "$work/blob" || fail "the link changes bytes"
[ "$(count slow bytes_down)" -gt 5000000 ] || fail "bytes of the link: $(count slow bytes_down)"
tell slow "/shape?rtt=2&bandwidth=0"
between "ms without a limit" "$(milliseconds "$large")" 4 250
tell reg /faults '{"kind": "reset"}'
breaks 56 "$slow"
tell reg /faults '{"kind": "truncate"}'
breaks 18 "$slow"
tell reg /faults '[]'
tell slow /refuse
breaks 7 "$slow"
tell slow /hole
breaks 28 -m 0.2 "$slow"
tell slow /pass
get 200 "$slow"
tell slow "/shape?rtt=2&bandwidth=10"
tell slow /reset
flows()
{
	[ "$(count slow bytes_down)" -gt 0 ]
}
(await 10 flows && tell slow /drop) &
breaks 56 "$large"
wait $!
end reg
breaks '@(7|56)' "$slow"
say "ok: link"

# By now its token has ended.
is_refused()
{
	[ "$(curl -sS "${bearer[@]}" -o "$work/body" -w '%{http_code}' "$old/v2/")" = 401 ]
}
await 10 is_refused || fail "a token lives longer than it should"
header www-authenticate "${bearer[@]}" "$old/v2/" | grep -q invalid_token ||
	fail "an old token is not called invalid"
say "ok: tokens of docker-registry end"

# No server outlives a test that is killed.  (In a subshell, bash does not report that it was.)
(bash -c '. "$1/remote-lib.sh"
	start_registry a
	start_link b a 1
	start_nginx c plain ""
	start_docker d none
	echo "$work ${servers[*]}" >"$2"
	kill -KILL $$' bash "$tests" "$work/orphans" || true) 2>/dev/null
read -r folder pids <"$work/orphans"
all_gone()
{
	# shellcheck disable=SC2086 # several
	! kill -0 $pids 2>/dev/null
}
same "servers" "$(wc -w <<<"$pids")" 4
await 5 all_gone || fail "servers that linger: $pids"
rm -r "$folder"
say "ok: nothing lingers"

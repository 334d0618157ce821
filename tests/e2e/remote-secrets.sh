#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# No password, token or signed address is ever in a log (debug lines too), an error, the statistics, the
# cache, or where other users of the machine look; none reaches a redirect's target.  Credentials that
# change under a running server are noticed.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit nbdcopy
need_python_nbd

client=$SOURCE/tests/e2e/client.py
export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home" "$work/reg" "$work/bin"
make_image img $((2 * 1024 * 1024)) 10
flat=$work/img/flat.raw
printf 'user:hush-password\n<token>:hush-identity\n' >"$work/users"
start_registry reg --redirect --users "$work/users" --token-port
reg=127.0.0.1:${port[reg]}
push_image "http://$reg" app obd "$work"/img/[123].obd

# What must be nowhere: passwords, both as they are and as they travel; tokens and signatures are random,
# so those of this run are taken from the answers.
encoded=$(printf user:hush-password | base64)
secrets=(hush "${encoded%%=*}" signature=)

# clean WHAT FILE...: none of the secrets is in the files, or in those of the folders.
clean()
{
	local what=$1 secret

	shift
	for secret in "${secrets[@]}"; do
		if grep -rqaF -- "$secret" "$@"; then
			fail "$what: '$secret' in $(grep -rlaF -- "$secret" "$@" | head -1)"
		fi
	done
}

# keeps_secrets NAME PARAMETER...: the image is read, cold, with all that nbdkit can be made to tell.
keeps_secrets()
{
	local name=$1 pid

	shift
	rm -rf "$work/cache"
	mkdir -p "$work/told"
	serve "$name" -v "$plugin" "cache-dir=$work/cache" "stats=$work/told/$name.json" "$@"
	rm -f "$work/copy"
	nbdcopy "$(uri "$name")" "$work/copy"
	cmp "$work/copy" "$flat" || fail "$name: other bytes"
	pid=${servers[$name]}
	tr '\0' '\n' <"/proc/$pid/cmdline" >"$work/told/$name.cmdline"
	[ ! -r "/proc/$pid/environ" ] || tr '\0' '\n' <"/proc/$pid/environ" >"$work/told/$name.environ"
	stop "$name"
	cp "$work/$name.log" "$work/told"
	clean "$name" "$work/told" "$work/cache"
	same "$name: credentials at the redirect's target" "$(count reg leaks)" 0
	say "ok: $name"
}

# file NAME JSON: a docker-style file, of what it says of the registry.
file()
{
	(umask 077 && printf '{"auths": {"%s": %s}}\n' "$reg" "$2" >"$work/$1.json")
}

file basic "{\"auth\": \"$encoded\"}"
file identity '{"identitytoken": "hush-identity"}'
file empty '{}'
echo hush-password >"$work/password"

tell reg /settings '{"auth": "basic"}'
keeps_secrets basic "image=$reg/app:obd" "credentials=$work/basic.json"
keeps_secrets user "image=$reg/app:obd" user=user "password=+$work/password"
printf 'image: %s/app:obd\nuser: user\npassword: hush-password\n' "$reg" >"$work/image.yaml"
keeps_secrets config "config=$work/image.yaml"

# A program of docker's kind; it sees neither a secret nor more than its one word.
cat >"$work/bin/docker-credential-test" <<-END
	#!/bin/sh
	read -r server
	echo "\$@" "\$server" >>"$work/told/program"
	tr '\\0' '\\n' </proc/self/environ >"$work/told/program.environ"
	echo '{"Username": "user", "Secret": "hush-password"}'
END
chmod +x "$work/bin/docker-credential-test"
echo '{"credsStore": "test"}' >"$work/program.json"
PATH=$work/bin:$PATH keeps_secrets program "image=$reg/app:obd" "credentials=$work/program.json"
same "the program's question" "$(sort -u "$work/told/program")" "get $reg"

# The helper of the overlaybd snapshotter: by HTTP, over a socket, over TLS with a certificate of ours.
cat >"$work/helper.py" <<'END'
import http.server, json, socketserver, ssl, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(sys.argv[1] + ".asked", "a") as f:
            print(self.path, file=f)
        body = json.dumps({"success": True, "data": {"auths": {sys.argv[2]: {
            "username": "user", "password": "hush-password"}}}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

if len(sys.argv) == 4 and not sys.argv[3].endswith(".pem"):
    server, where = socketserver.UnixStreamServer(sys.argv[3], Handler), sys.argv[3]
else:
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    where = server.server_port
if sys.argv[-1].endswith(".pem"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(sys.argv[5])
    server.socket = context.wrap_socket(server.socket, server_side=True)
with open(sys.argv[1], "w") as f:
    print(where, file=f)
server.serve_forever()
END
launch helper "$python" "$work/helper.py" "$work/helper.port" "$reg"
launched helper "$work/helper.port"
launch local-helper "$python" "$work/helper.py" "$work/local-helper.port" "$reg" "$work/helper.sock"
launched local-helper "$work/local-helper.port"
make_ca
launch tls-helper "$python" "$work/helper.py" "$work/tls-helper.port" "$reg" \
	"$work/server.pem" "$work/server.key" "$work/ca.pem"
launched tls-helper "$work/tls-helper.port"
echo "{\"credentialConfig\": {\"mode\": \"uds\", \"path\": \"$work/helper.sock\", \"timeout\": 1}}" \
	>"$work/uds.json"
keeps_secrets uds "image=$reg/app:obd" "service=$work/uds.json"
echo "{\"credentialConfig\": {\"mode\": \"https\", \"timeout\": 1,
	\"path\": \"127.0.0.1:$(cat "$work/tls-helper.port")/auth\", \"server_ca_path\": \"ca.pem\",
	\"client_cert_path\": \"client.pem\", \"client_key_path\": \"client.key\"}}" >"$work/https.json"
keeps_secrets https "image=$reg/app:obd" "service=$work/https.json"
for name in local tls; do
	grep -q "^/auth?remote_url=http://$reg/v2/app/blobs/sha256:[0-9a-f]\{64\}\$" \
		"$work/$name-helper.port.asked" ||
		fail "$name helper was asked $(cat "$work/$name-helper.port.asked")"
done
# A mode that nobody knows is the fault of those who need a login.
echo '{"credentialConfig": {"mode": "smoke", "path": "signals"}}' >"$work/smoke.json"
refuses "credentials: $work/smoke.json:1: credentialConfig: mode 'smoke' is not known" \
	"image=$reg/app:obd" "service=$work/smoke.json" cache-dir=none
tell reg /settings '{"auth": "none"}'
keeps_secrets smoke "image=$reg/app:obd" "service=$work/smoke.json"
tell reg /settings '{"auth": "basic"}'
printf 'image: %s/app:obd\ncredentials: "http://127.0.0.1:%s/auth?key=hush"\n' "$reg" \
	"$(cat "$work/helper.port")" >"$work/helper.yaml"
keeps_secrets helper "config=$work/helper.yaml"

tell reg /settings '{"auth": "bearer"}'
keeps_secrets bearer "image=$reg/app:obd" "credentials=$work/basic.json"
keeps_secrets identity "image=$reg/app:obd" "credentials=$work/identity.json"
if grep -qi 'authorization: *\(bearer\|basic\) *.' "$work"/told/*.log; then
	fail "a header with credentials in a log"
fi

# A proxy with a password, which can only stand in a config.
cat >"$work/proxy.py" <<'END'
import http.server, sys, urllib.error, urllib.request

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if not self.headers["Proxy-Authorization"]:
            self.answer(407, {"Proxy-Authenticate": 'Basic realm="proxy"'}, b"")
            return
        headers = {k: v for k, v in self.headers.items() if not k.lower().startswith("proxy-")}
        request = urllib.request.Request(self.path, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Keep)
        try:
            r = opener.open(request)
        except urllib.error.HTTPError as e:
            r = e
        self.answer(r.status, dict(r.headers), r.read())

    def answer(self, status, headers, body):
        self.send_response(status)
        for k, v in headers.items():
            if k.lower() not in ("content-length", "connection"):
                self.send_header(k, v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

class Keep(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open(sys.argv[1], "w") as f:
    print(server.server_port, file=f)
server.serve_forever()
END
launch proxy "$python" "$work/proxy.py" "$work/proxy.port"
launched proxy "$work/proxy.port"
printf 'image: %s/app:obd\ncredentials: %s/basic.json\nproxy: "http://who:hush-proxy@127.0.0.1:%s"\n' \
	"$reg" "$work" "$(cat "$work/proxy.port")" >"$work/proxy.yaml"
secrets+=("$(printf who:hush-proxy | base64)")
keeps_secrets proxied "config=$work/proxy.yaml"

# Errors tell no more than who was refused.
file wrong "{\"auth\": \"$(printf user:hush-hush | base64)\"}"
refuses "user 'user'" -v "image=$reg/app:obd" "credentials=$work/wrong.json" cache-dir=none
secrets+=("$(printf user:hush-hush | base64)")
clean "a refused login" "$work/refused.log"

# Changes under a running server.
file changing "{\"auth\": \"$encoded\"}"
tell reg /settings '{"url_seconds": 1}'
serve changing "$plugin" "image=$reg/app:obd" "credentials=$work/changing.json" cache-dir=none timeout=20
tell reg /revoke
"$python" "$client" random "$(uri changing)" "$flat" 20 1 >"$work/random.out"
say "ok: tokens that are revoked"
tell reg /settings '{"auth": "basic"}'
"$python" "$client" random "$(uri changing)" "$flat" 20 2 >"$work/random.out"
say "ok: a registry that wants another kind of login"
echo user:hush-new >"$work/users"
file changing "{\"auth\": \"$(printf user:hush-new | base64)\"}"
end reg
start_registry reg --port "${port[reg]}" --redirect --users "$work/users" --auth basic
"$python" "$client" random "$(uri changing)" "$flat" 20 3 >"$work/random.out"
same "credentials at the redirect's target" "$(count reg leaks)" 0
stop changing
say "ok: a password that is changed"

# Out of TLS no redirect is followed.
make_ca
start_registry tls --dir "$work/reg" --tls "$work/server.pem" "$work/server.key" --redirect
tell reg /reset
tell tls /settings "{\"target\": \"http://127.0.0.1:${port[reg-target]}\"}"
refuses "redirect refused: the Location is missing, malformed, not http(s), or leaves TLS" "image=https://127.0.0.1:${port[tls]}/app:obd" \
	"cainfo=$work/ca.pem" cache-dir=none timeout=5
same "requests of the target" "$(count reg requests signed)" 0

# Nor does a password go in the clear to another machine, which the registry names for tokens.
other=$(hostname -I 2>/dev/null | tr ' ' '\n' | grep -m1 '^[0-9.]*$' || true)
if [ -z "$other" ]; then
	say "no second address: a token service elsewhere is not tried"
	exit 0
fi
cat >"$work/listener.py" <<'END'
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.path, self.headers["Authorization"], file=sys.stderr, flush=True)
        self.send_error(401)

    do_POST = do_GET

    def log_message(self, *args):
        pass

server = http.server.HTTPServer((sys.argv[2], 0), Handler)
with open(sys.argv[1], "w") as f:
    print(server.server_port, file=f)
server.serve_forever()
END
launch listener "$python" "$work/listener.py" "$work/listener.port" "$other"
launched listener "$work/listener.port"
tell reg /settings "{\"auth\": \"bearer\", \"realm\": \"http://$other:$(cat "$work/listener.port")/token\"}"
for login in changing identity; do
	refuses "a token service without TLS on another machine" "image=$reg/app:obd" "credentials=$work/$login.json" cache-dir=none
done
same "asked for tokens" "$(grep -c '^/token?' "$work/listener.log")" \
	"$(grep -c '^/token?.* None$' "$work/listener.log")"
clean "a token service on another machine" "$work/listener.log"
say "ok: no password to $other"

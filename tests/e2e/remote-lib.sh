# SPDX-License-Identifier: Apache-2.0
# remote-lib.sh - what the tests with registries share beyond tool-lib.sh, which this sources: servers
# to start, each on a free port, and images to put on them.
#
# A server has a name; port[NAME] is its port of 127.0.0.1, $work/NAME.log what it says.  All of them
# end with the test, even one that is killed.  They must be started by the test itself, not in a
# subshell.
. "$(dirname "${BASH_SOURCE[0]}")/tool-lib.sh"

link=$BUILD/tests/link
declare -A port=()
need curl python3 setpriv

# Options of every curl that pushes: who we are, whom to trust.
push_options=()

# launch NAME COMMAND...
launch()
{
	local name=$1

	shift
	setpriv --pdeathsig TERM "$@" >"$work/$name.log" 2>&1 &
	servers[$name]=$!
}

# launched NAME FILE: waits for the file that a server writes when it is up.
launched()
{
	await 30 has_written "$1" "$2" || fail "server $1 does not start"
	[ -s "$2" ] || fail "server $1 ended: $(cat "$work/$1.log")"
}

has_written()
{
	[ -s "$2" ] || ! kill -0 "${servers[$1]}" 2>/dev/null
}

# accepts PORT
accepts()
{
	(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# end NAME [SIGNAL]: `stop` for a server that may end as it likes.
end()
{
	local pid=${servers[$1]}

	kill "-${2:-TERM}" "$pid"
	unset "servers[$1]"
	wait "$pid" 2>/dev/null || true
}

# read_ports NAME FILE: port[NAME] is that of the registry or token service; others get a suffix.
read_ports()
{
	local kind number

	while read -r kind number; do
		port[$1-$kind]=$number
	done < <("$python" -c 'import json, sys
for name, number in json.load(open(sys.argv[1])).items():
	print(name, number)' "$2")
	port[$1]=${port[$1-registry]:-${port[$1-token]}}
}

# start_registry NAME OPTION...: our own (see registry-server.py), over the folder $work/NAME, with its
# requests in $work/NAME.requests.  Its second origin is port[NAME-target].
start_registry()
{
	local name=$1

	shift
	rm -f "$work/$name.ports"
	launch "$name" "$python" "$tests/registry-server.py" --dir "$work/$name" \
		--ports "$work/$name.ports" --control "$work/$name.control" \
		--log "$work/$name.requests" "$@"
	launched "$name" "$work/$name.ports"
	read_ports "$name" "$work/$name.ports"
}

# start_link NAME TARGET RTT [MBIT]: a slow way to the server named TARGET.
start_link()
{
	rm -f "$work/$1.port"
	launch "$1" "$link" "${port[$2]}" "$3" "${4:-0}" "$work/$1.port" "$work/$1.control"
	launched "$1" "$work/$1.port"
	port[$1]=$(cat "$work/$1.port")
}

# tell NAME COMMAND [BODY]: to the control socket of a registry or a link: tell reg /faults '{...}'
tell()
{
	curl -sS --fail-with-body --unix-socket "$work/$1.control" --data-binary "${3:-}" \
		"http://control$2" >"$work/$1.told" || fail "$1 refuses $2: $(cat "$work/$1.told")"
}

# count NAME KEY...: from the statistics of a registry or a link; 0 where there is no such key.
count()
{
	local name=$1

	shift
	curl -sS --unix-socket "$work/$name.control" http://control/stats | "$python" -c 'import json, sys
at = json.load(sys.stdin)
for key in sys.argv[1:]:
	at = at.get(key, {})
print(at or 0)' "$@"
}

# start_docker NAME none|basic|token [SECONDS]: docker-registry, its storage in $work/NAME.  The user
# is `user`, the password `secret`; tokens live so long.
start_docker()
{
	local name=$1 auth=

	need docker-registry openssl
	echo user:secret >"$work/$name.users"
	case $2 in
	basic)
		need htpasswd
		htpasswd -nbB -C 4 user secret >"$work/$name.htpasswd"
		auth="auth: {htpasswd: {realm: test registry, path: $work/$name.htpasswd}}"
		;;
	token)
		openssl req -x509 -newkey rsa:2048 -nodes -subj "/CN=test tokens" -days 2 \
			-keyout "$work/$name.key" -out "$work/$name.pem" 2>/dev/null
		launch "$name-tokens" "$python" "$tests/token-server.py" --key "$work/$name.key" \
			--users "$work/$name.users" --seconds "${3:-300}" \
			--ports "$work/$name.ports" --log "$work/$name-tokens.requests"
		launched "$name-tokens" "$work/$name.ports"
		read_ports "$name-tokens" "$work/$name.ports"
		auth="auth: {token: {realm: 'http://127.0.0.1:${port[$name-tokens]}/token',
		  service: test registry, issuer: test tokens, rootcertbundle: $work/$name.pem}}"
		;;
	esac
	cat >"$work/$name.yml" <<-END
		version: 0.1
		storage: {filesystem: {rootdirectory: $work/$name}}
		http: {addr: '127.0.0.1:0'}
		$auth
	END
	launch "$name" docker-registry serve "$work/$name.yml"
	await 30 docker_is_settled "$name" || fail "docker-registry does not start"
	port[$name]=$(docker_port "$name")
	[ -n "${port[$name]}" ] || fail "docker-registry ended: $(cat "$work/$name.log")"
}

docker_port()
{
	sed -n 's/.*listening on 127\.0\.0\.1:\([0-9]*\).*/\1/p' "$work/$1.log"
}

docker_is_settled()
{
	[ -n "$(docker_port "$1")" ] || ! kill -0 "${servers[$1]}" 2>/dev/null
}

# make_ca: a CA in $work/ca.pem, and certificates of it for servers on 127.0.0.1 and for clients:
# $work/{server,client}.{pem,key}.
make_ca()
{
	local new=(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2
		-config "$work/openssl.conf")

	[ ! -e "$work/ca.pem" ] || return 0
	need openssl
	cat >"$work/openssl.conf" <<-END
		[req]
		distinguished_name = name
		prompt = no
		[name]
		CN = overlaybd test
		[ca]
		basicConstraints = critical, CA:TRUE
		[leaf]
		subjectAltName = IP:127.0.0.1, DNS:localhost
	END
	"${new[@]}" -extensions ca -subj "/CN=overlaybd test CA" \
		-keyout "$work/ca.key" -out "$work/ca.pem" 2>/dev/null
	for leaf in server client; do
		"${new[@]}" -extensions leaf -subj "/CN=$leaf" -CA "$work/ca.pem" \
			-CAkey "$work/ca.key" -keyout "$work/$leaf.key" -out "$work/$leaf.pem" \
			2>/dev/null
	done
}

# start_nginx NAME plain|tls|client-cert DIRECTIVES: of the server, see below for some.  TLS comes with
# HTTP/2 and the CA of make_ca.
start_nginx()
{
	local name=$1 listen='' folder=$work/$1.nginx

	# Debian's is where not every user's PATH leads to.
	PATH=$PATH:/usr/sbin need nginx
	if [ "$2" != plain ]; then
		make_ca
		listen="ssl http2; ssl_certificate $work/server.pem;
			ssl_certificate_key $work/server.key"
	fi
	if [ "$2" = client-cert ]; then
		listen+="; ssl_client_certificate $work/ca.pem; ssl_verify_client on"
	fi
	rm -rf "$folder"
	mkdir "$folder"
	cat >"$folder/conf" <<-END
		daemon off;
		master_process off;
		pid $folder/pid;
		error_log stderr notice;
		events { worker_connections 512; }
		http {
			access_log $work/$name.requests;
			client_body_temp_path $folder/body;
			proxy_temp_path $folder/proxy;
			fastcgi_temp_path $folder/fastcgi;
			uwsgi_temp_path $folder/uwsgi;
			scgi_temp_path $folder/scgi;
			proxy_cache_path $folder/cache keys_zone=cache:1m use_temp_path=off;
			client_max_body_size 0;
			sendfile on;
			tcp_nopush on;
			server {
				listen 127.0.0.1:@PORT@ $listen;
				$3
			}
		}
	END
	PATH=$PATH:/usr/sbin launch "$name" "$python" "$tests/hold-port.py" "$folder/conf" \
		nginx -e stderr -p "$folder" -c "$folder/conf"
	launched "$name" "$folder/pid"
	port[$name]=$(cat "$folder/conf.port")
}

# static_registry FOLDER: directives that serve a folder of registry-server.py's layout.
static_registry()
{
	cat <<-END
		location = /v2/ { return 200 '{}'; }
		location ~ ^/v2/.+/blobs/sha256:([0-9a-f]+)\$ {
			alias $1/blobs/sha256/\$1;
		}
		location ~ ^/v2/(.+)/manifests/([^/]+)\$ {
			alias $1/manifests/\$1/\$2;
			default_type application/vnd.oci.image.manifest.v1+json;
		}
	END
}

# mirror_of NAME: directives of a mirror of that server, which keeps blobs by slices of 1 MiB.
mirror_of()
{
	cat <<-END
		location / {
			proxy_pass http://127.0.0.1:${port[$1]};
			proxy_set_header Host \$http_host;
			location ~ /blobs/sha256: {
				proxy_pass http://127.0.0.1:${port[$1]};
				proxy_http_version 1.1;
				slice 1m;
				proxy_set_header Host \$http_host;
				proxy_set_header Range \$slice_range;
				proxy_cache cache;
				proxy_cache_key \$uri\$slice_range;
				proxy_cache_valid 200 206 1h;
			}
		}
	END
}

# log_in URL REPOSITORY CURL-OPTION...: lets push_options bear a token for that repository, which the
# registry's token service gives to a request with these options.
log_in()
{
	local url=$1 repository=$2 challenge realm service token

	shift 2
	challenge=$(curl -sS -D - -o /dev/null "$@" "$url/v2/")
	realm=$(sed -n 's/.*realm="\([^"]*\)".*/\1/p' <<<"$challenge")
	service=$(sed -n 's/.*service="\([^"]*\)".*/\1/p' <<<"$challenge")
	token=$(curl -sS --fail -G "$@" --data-urlencode "service=$service" \
		--data-urlencode "scope=repository:$repository:pull,push" "$realm" |
		"$python" -c 'import json, sys; print(json.load(sys.stdin)["token"])') ||
		fail "no token from $realm"
	echo "header = \"Authorization: Bearer $token\"" >"$work/token.curl"
	push_options=(-K "$work/token.curl")
}

# curl_ OPTION...: as who pushes.
curl_()
{
	curl -sS --fail-with-body "${push_options[@]}" "$@"
}

digests=sha256 # or sha512: what push_blob and push_image name blobs by

# digest_of FILE
digest_of()
{
	echo "$digests:$("${digests}sum" "$1" | cut -d' ' -f1)"
}

# push_blob URL REPOSITORY FILE: unless it is there.
push_blob()
{
	local base=$1/v2/$2/blobs digest place mark='?'

	digest=$(digest_of "$3")
	if curl_ --head -o /dev/null "$base/$digest" 2>/dev/null; then
		return
	fi
	place=$(curl_ -X POST -D - -o /dev/null "$base/uploads/" |
		sed -n 's/^location: *\([^\r]*\).*/\1/Ip') || fail "$base takes no upload"
	case $place in
	/*) place=$1$place ;;
	esac
	[[ $place != *\?* ]] || mark='&'
	curl_ -T "$3" "$place${mark}digest=$digest" >"$work/push.out" ||
		fail "push of $3: $(cat "$work/push.out")"
}

# push_image URL REPOSITORY TAG LAYER...: from the bottom up, as FORMAT 11 says.  Sets pushed to the
# manifest's digest.  Needs nothing but curl: our own push is not to test itself.
push_image()
{
	local url=$1 repository=$2 tag=$3 layer layers='' ids='' size digest arch
	local prefix=containerd.io/snapshot/overlaybd

	shift 3
	case $(uname -m) in
	x86_64) arch=amd64 ;;
	aarch64) arch=arm64 ;;
	*) arch=$(uname -m) ;;
	esac
	for layer; do
		push_blob "$url" "$repository" "$layer"
		size=$(stat -c %s "$layer")
		digest=$(digest_of "$layer")
		ids+="${ids:+,}\"$digest\""
		layers+="${layers:+,}{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",
			\"digest\":\"$digest\",\"size\":$size,\"annotations\":{
			\"$prefix/version\":\"0.1.0\",\"$prefix/blob-digest\":\"$digest\",
			\"$prefix/blob-size\":\"$size\"}}"
	done
	echo "{\"architecture\":\"$arch\",\"os\":\"linux\",
		\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[$ids]}}" >"$work/push.config"
	push_blob "$url" "$repository" "$work/push.config"
	echo "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",
		\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",
		\"digest\":\"$(digest_of "$work/push.config")\",
		\"size\":$(stat -c %s "$work/push.config")},\"layers\":[$layers]}" >"$work/push.manifest"
	curl_ -X PUT --data-binary "@$work/push.manifest" \
		-H "Content-Type: application/vnd.oci.image.manifest.v1+json" \
		"$url/v2/$repository/manifests/$tag" >"$work/push.out" ||
		fail "push of $repository:$tag: $(cat "$work/push.out")"
	# shellcheck disable=SC2034 # for the test
	pushed=sha256:$(sha256 "$work/push.manifest")
}

# make_image NAME SIZE [PIECES [SEED]]: in $work/NAME: three layers (1.obd lz4 in a tar, 2.obd zstd in a
# tar, 3.obd neither), image.yaml that stacks them, and flat.raw, the disk they make.  Each layer
# changes so many pieces of the disk (default: 40) of up to 300000 bytes.
make_image()
{
	local d=$work/$1 size=$2 pieces=${3:-40} seed=${4:-1} n

	mkdir "$d"
	config "$d/1.yaml" 1.obd
	config "$d/2.yaml" 1.obd 2.obd
	config "$d/image.yaml" 1.obd 2.obd 3.obd
	: >"$d/0.raw"
	for n in 1 2 3; do
		"$python" "$tests/tool-disks.py" $((seed + n)) "$size" "$d/$n.raw" \
			"$d/$((n - 1)).raw" "$pieces"
	done
	"$overlaybd" commit --raw "$d/1.raw" --tar -o "$d/1.obd"
	"$overlaybd" commit --raw "$d/2.raw" --base "$d/1.yaml" --tar --compress zstd -o "$d/2.obd"
	"$overlaybd" commit --raw "$d/3.raw" --base "$d/2.yaml" --compress none -o "$d/3.obd"
	mv "$d/3.raw" "$d/flat.raw"
	rm "$d"/[0-2].raw
} >"$work/make_image.out"

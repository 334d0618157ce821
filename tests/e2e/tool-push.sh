#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tool-push.sh - `overlaybd push` into docker-registry: layers and configs, what is there is not sent
# again, the image that comes out is served; logins; what it refuses.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit nbdcopy

export HOME=$work/home XDG_CACHE_HOME=$work/home/cache
mkdir "$work/home"
make_image img $((16 * 1024 * 1024)) 30
layers=("$work"/img/[123].obd)

# serves REFERENCE PARAMETER...: what nbdkit serves is the image's disk.
serves()
{
	local reference=$1

	shift
	serve pushed "$plugin" "image=$reference" "$@"
	rm -f "$work/copy"
	nbdcopy "$(uri pushed)" "$work/copy"
	stop pushed
	cmp "$work/copy" "$work/img/flat.raw" || fail "$reference is another disk"
}

start_docker docker none
url=localhost:${port[docker]}
exits 0 "$url/app/disk:obd" "$overlaybd" push "${layers[@]}" "$url/app/disk:obd"
digest=$(sed -n "s,^\(sha256:[0-9a-f]*\) $url/app/disk:obd\$,\1,p" "$work/out")
same "layers sent" "$(grep -c ' bytes)$' "$work/out")" 3
serves "$url/app/disk:obd"
serves "$url/app/disk@$digest"
say "ok: layers"

exits 0 "$digest $url/app/disk:again" "$overlaybd" push "$work/img/image.yaml" "$url/app/disk:again"
same "layers that were there" "$(grep -c ' bytes), was there$' "$work/out")" 3
serves "$url/app/disk:again"
say "ok: a config; the same layers make the same digest"

curl -sSf -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
	"http://$url/v2/app/disk/manifests/obd" >"$work/manifest"
"$python" - "$work/manifest" "${layers[@]}" <<'END'
import hashlib, json, sys
manifest = json.load(open(sys.argv[1]))
assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
assert len(manifest["layers"]) == 3
for layer, path in zip(manifest["layers"], sys.argv[2:]):
    data = open(path, "rb").read()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    prefix = "containerd.io/snapshot/overlaybd/"
    assert (layer["digest"], layer["size"]) == (digest, len(data))
    assert layer["annotations"][prefix + "blob-digest"] == digest
    assert layer["annotations"][prefix + "blob-size"] == str(len(data))
END
say "ok: the manifest"

printf 'image: %s/app/disk:obd\n' "$url" >"$work/remote.yaml"
exits 0 "$url/other/disk:copy" "$overlaybd" push "$work/remote.yaml" "$url/other/disk:copy"
serves "$url/other/disk:copy"
say "ok: from one repository to another"

# Traces of an image in a registry: of its layers' digests, wherever they are.
printf '0 8\n64 16 1.5\n' >"$work/reads"
"$overlaybd" trace import "$work/reads" "$url/app/disk:obd" -o "$work/trace" >/dev/null
"$overlaybd" trace show "$work/trace" "$work/remote.yaml" | grep -q '^reads: 2$' || fail "trace show"
"$overlaybd" trace plot "$work/trace" "$url/other/disk:copy" -o "$work/trace.svg"
grep -q '>Reads of disk:copy<' "$work/trace.svg" || fail "no picture of an image in a registry"
exits 1 "of another image" "$overlaybd" trace show "$work/trace" "$work/img/image.yaml"
say "ok: traces"

exits 0 "$url/app/disk:obd: 3 layers, " "$overlaybd" cache fill "$url/app/disk:obd" \
	--cache-dir "$work/filled"
exits 0 "sha256:$(sha256 "${layers[2]}")  -" "$overlaybd" cache ls --cache-dir "$work/filled"
same "whole blobs" "$(grep -c '^whole ' "$work/out")" 3
exits 0 "$work/remote.yaml: 3 layers, " "$overlaybd" cache fill "$work/remote.yaml"
complains 2 "cache: fill needs a config or a reference" cache fill
complains 2 "cache: ls takes no option '--cainfo'" cache ls --cainfo x
complains 1 "$url/app/disk:none: there is no such image" cache fill "$url/app/disk:none"
complains 1 "$url/app/disk:obd: layer 0 (sha256:$(sha256 "${layers[0]}")): there is no cache" \
	cache fill "$url/app/disk:obd" --cache-dir none
say "ok: fill"

start_docker basic basic
auth=$(printf user:secret | base64)
printf '{"auths": {"localhost:%s": {"auth": "%s"}}}' "${port[basic]}" "$auth" >"$work/auth.json"
exits 0 "localhost:${port[basic]}/a/b:c" "$overlaybd" push "${layers[@]}" \
	"localhost:${port[basic]}/a/b:c" --credentials "$work/auth.json"
serves "localhost:${port[basic]}/a/b:c" "credentials=$work/auth.json"
complains 1 "localhost:${port[basic]}/a/b:c: " push "${layers[@]}" "localhost:${port[basic]}/a/b:c"
start_docker token token 5
printf '{"auths": {"localhost:%s": {"auth": "%s"}}}' "${port[token]}" "$auth" >"$work/auth.json"
exits 0 "localhost:${port[token]}/a/b:c" "$overlaybd" push "${layers[@]}" \
	"localhost:${port[token]}/a/b:c" --credentials "$work/auth.json"
serves "localhost:${port[token]}/a/b:c" "credentials=$work/auth.json"
say "ok: logins"

complains 2 "push: CONFIG|LAYER... REF is missing" push "${layers[0]}"
complains 1 "$url/a/b@$digest: push to a tag" push "${layers[@]}" "$url/a/b@$digest"
complains 1 "$work/img/flat.raw: " push "$work/img/flat.raw" "${layers[0]}" "$url/a/b:c"
complains 1 "$work/no.obd: No such file" push "$work/no.obd" "$url/a/b:c"
end docker
serves "$url/app/disk@$digest" "cache-dir=$work/filled"
complains 1 "$url/a/b:c: " push "${layers[@]}" "$url/a/b:c"
say "ok: refusals"

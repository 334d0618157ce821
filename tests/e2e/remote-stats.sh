#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Statistics agree with what the registry itself has counted, as JSON and as Prometheus' text; they are
# replaced as a whole, every 10 s and at the end.
. "$(dirname "$0")/remote-lib.sh"
need nbdkit nbdcopy
need_python_nbd

client=$SOURCE/tests/e2e/client.py
export XDG_CACHE_HOME=$work/home HOME=$work/home
mkdir "$work/home" "$work/reg" "$work/told" "$work/dir"
make_image img $((4 * 1024 * 1024)) 20
flat=$work/img/flat.raw
start_registry reg
reg=127.0.0.1:${port[reg]}
push_image "http://$reg" app obd "$work"/img/[123].obd

# agree FILE IMAGES [SAME-BYTES]: the figures of a JSON file are consistent in themselves, of so many
# images, and sum up to the registry's; also the bytes, unless SAME-BYTES is no (bodies of errors do not
# count here).
agree()
{
	curl -sS --unix-socket "$work/reg.control" http://control/stats >"$work/counted"
	"$python" "$work/agree.py" "$1" "$work/counted" "$2" "${3:-yes}" || fail "$(cat "$1")"
}
cat >"$work/agree.py" <<'END'
import collections, json, sys

told, counted = (json.load(open(path)) for path in sys.argv[1:3])
images = told["images"]
if len(images) != int(sys.argv[3]):
    sys.exit(f"{len(images)} images, not {sys.argv[3]}")
statuses, fetched = collections.Counter(), 0
for image in images:
    of_image, layers = image["counters"], [layer["counters"] for layer in image["layers"]]
    statuses.update(image["requests"])
    fetched += of_image["fetched_bytes"]
    for key in "cache_hits", "cache_misses", "crc_drops", "cache_drops":
        if sum(layer[key] for layer in layers) != of_image[key]:
            sys.exit(f"{key}: {of_image[key]} of the image, other sums of its layers")
    if any(l["cache_hits"] + l["cache_misses"] != l["reads"] for l in layers):
        sys.exit("reads that are neither hits nor misses")
    for part in [image, *image["layers"]]:
        demand = part["demand_reads"]
        if demand["count"] != part["counters"]["cache_misses"]:
            sys.exit(f"{demand['count']} reads that waited, {part['counters']['cache_misses']} misses")
        if [b["count"] for b in demand["buckets"]] != sorted(b["count"] for b in demand["buckets"]):
            sys.exit("a histogram that falls")
wanted = collections.Counter()
for of_kind in counted["status"].values():
    wanted.update(of_kind)
if statuses != wanted:
    sys.exit(f"requests by status: {statuses}, but the registry has {wanted}")
if sys.argv[4] == "yes" and fetched != counted["bytes_sent"]:
    sys.exit(f"{fetched} bytes fetched, but the registry sent {counted['bytes_sent']}")
END

# figure FILE KEY: a counter of its only image.
figure()
{
	"$python" -c 'import json, sys
print(json.load(open(sys.argv[1]))["images"][0]["counters"][sys.argv[2]])' "$1" "$2"
}

# in_prometheus FILE SERIES: its value.
in_prometheus()
{
	sed -n "s/^$2 //p" "$1"
}

tell reg /reset
serve cold "$plugin" "image=$reg/app:obd" "cache-dir=$work/cache" "stats=$work/told/cold.json"
"$python" "$client" survive "$(uri cold)" "$flat" 1 >"$work/cold.out"
stop cold
agree "$work/told/cold.json" 1 no # it asks for a trace, and is told 404
same "bytes asked for" "$(figure "$work/told/cold.json" read_bytes)" "$(stat -c %s "$flat")"
same "reads" "$(figure "$work/told/cold.json" reads)" 64
same "retries" "$(figure "$work/told/cold.json" retries)" 0

tell reg /reset
serve warm "$plugin" "image=$reg/app:obd" "cache-dir=$work/cache" "stats=$work/told/warm.prom"
"$python" "$client" survive "$(uri warm)" "$flat" 1 >"$work/warm.out"
stop warm
label="{image=\"$(sed 's,/,\\/,g' <<<"$reg/app:obd")\""
same "misses of a warm cache" "$(in_prometheus "$work/told/warm.prom" "overlaybd_cache_misses_total$label}")" 0
same "bytes read" "$(in_prometheus "$work/told/warm.prom" "overlaybd_read_bytes_total$label}")" \
	"$(stat -c %s "$flat")"
for name in $(sed -n 's/^# TYPE overlaybd_\([a-z_]*\) .*/\1/p' "$work/told/warm.prom"); do
	[[ $name == layer_* ]] || grep -q "C<overlaybd_$name>" "$SOURCE/man/nbdkit-overlaybd-plugin.pod" ||
		fail "the page does not say what overlaybd_$name is"
done
same "answers 304" "$(in_prometheus "$work/told/warm.prom" "overlaybd_requests_total$label,status=\"304\"}")" 1
say "ok: cold and warm"

say "faults are counted, and redirects"
tell reg /reset
tell reg /settings '{"redirect": true}'
# The third layer has no checksums to find wrong bytes by.
checked="$(sha256 "$work/img/1.obd")|$(sha256 "$work/img/2.obd")"
tell reg /faults "[{\"kind\": \"503\", \"every\": 5},
	{\"kind\": \"corrupt\", \"every\": 4, \"on\": \"signed\", \"path\": \"$checked\"}]"
serve faulty "$plugin" "image=$reg/app:obd" cache-dir=none timeout=10 "stats=$work/told/faulty.json"
"$python" "$client" survive "$(uri faulty)" "$flat" 1 >"$work/faulty.out"
stop faulty "wrong CRC"
tell reg /faults
tell reg /settings '{"redirect": false}'
agree "$work/told/faulty.json" 1 no
[ "$(figure "$work/told/faulty.json" retries)" -ge "$(count reg faults 503)" ] || fail "too few retries"
[ "$(figure "$work/told/faulty.json" crc_drops)" -gt 0 ] || fail "no block was found wrong"
[ "$(count reg status blob 307)" -gt 0 ] || fail "no redirect"

say "to standard output, at the end"
tell reg /reset
serve out "$plugin" "image=$reg/app:obd" cache-dir=none stats=- >"$work/told/out.json"
"$python" "$client" survive "$(uri out)" "$flat" 1 >"$work/out.out"
same "statistics before the end" "$(cat "$work/told/out.json")" ""
stop out
same "lines of statistics" "$(wc -l <"$work/told/out.json")" 1
agree "$work/told/out.json" 1

say "a folder of images writes one file"
tell reg /reset
for name in a b; do
	echo "image: $reg/app:obd" >"$work/dir/$name.yaml"
done
serve folder "$plugin" "dir=$work/dir" cache-dir=none "stats=$work/told/folder.json"
# At SIGTERM they are written at once, though clients stay.
"$python" - "$(uri folder a)" "$(uri folder b)" "$work/connected" <<'END' &
import nbd, sys, time
handles = []
for uri in sys.argv[1:3]:
    h = nbd.NBD()
    h.connect_uri(uri)
    h.pread(1 << 20, 0)
    handles.append(h)
open(sys.argv[3], "w").close()
time.sleep(60)
END
servers[clients]=$!
await 20 test -e "$work/connected" || fail "the clients do not read"
kill "${servers[folder]}"
await 10 test -s "$work/told/folder.json" || fail "nothing is written while clients are there"
agree "$work/told/folder.json" 2
end clients
wait "${servers[folder]}" || fail "the server of a folder ends with $?"
unset "servers[folder]"

if [ "${FULL:-0}" = 1 ]; then
	say "every 10 s"
	serve slow "$plugin" "image=$reg/app:obd" "cache-dir=$work/cache" "stats=$work/told/slow.json"
	sleep 8
	[ ! -e "$work/told/slow.json" ] || fail "written too early"
	await 3 test -s "$work/told/slow.json" || fail "not written after 10 s"
	ln "$work/told/slow.json" "$work/first.json"
	stop slow
	[ ! "$work/told/slow.json" -ef "$work/first.json" ] || fail "the file is not replaced"
fi
same "files beside the statistics" "$(ls "$work/told" | grep -vc -e '\.json$' -e '\.prom$' || true)" 0

# SPDX-License-Identifier: Apache-2.0
"""faults.py - what a registry, and the network before it, can do wrong.

A rule is a JSON object:
  kind     one of KINDS, or "tls": the connection is closed when the client has said hello
  every    1 (all), else each k-th request that the rule is for
  skip, times  how many of these go unharmed first; how often it strikes at most
  on       kind of request (see registry-server.py) or "any".  Without it: GETs that are answered with
           bytes of a blob
  method, path, range  regular expressions that those of the request must match
and what the kind takes (all optional):
  latency        seconds (1)
  stall          after (bytes of the body: half of it; -1: before the head), seconds (for ever)
  reset          after: a RST
  truncate       after: a clean close
  content-range  wrong: start (the bytes are those of the label), end (less than asked, and says so),
                 total, missing
  corrupt        step: every 512th byte of the body is another
  whole          the whole blob for a range, status 200; after (cut there), length (false: none is
                 said, the body is chunked)
  page           a page of HTML with status 200: bytes (3000), length (as for whole)
  part           the range, but with status 200; length (as for whole), label (true: with its
                 Content-Range)
  tail           bytes of the body: after (half of it) right ones, then an error page, then a close
  trickle        ms (1000) between two bytes of the body from `after` on
  401 ... 503    retry_after (seconds), date (true: as a date)
  slow-headers   ms (20) between two bytes
  garbage        no HTTP
  loop           a redirect to itself
  gzip           Content-Encoding, though nobody asked for it
  close          no answer
  huge-headers   bytes (1 MiB)
  long-header    bytes (200,000) of one line
  chunked        no Content-Length; the bytes are right"""
import email.utils
import gzip
import json
import re
import threading
import time

from .store import failure
from .web import File

COMMON = {"kind", "every", "skip", "times", "on", "method", "path", "range"}


def middle(rule, answer):
    return rule.get("after", len(answer.body) // 2)


def latency(rule, request, answer):
    answer.delay = rule.get("seconds", 1)


def stall(rule, request, answer):
    after = middle(rule, answer)
    if after < 0:
        answer.delay = rule.get("seconds")
        answer.delay = 1e6 if answer.delay is None else answer.delay
    else:
        answer.cut, answer.end, answer.pause = after, "stall", rule.get("seconds")


def reset(rule, request, answer):
    answer.cut, answer.end = middle(rule, answer), "reset"


def truncate(rule, request, answer):
    answer.cut, answer.end = middle(rule, answer), "close"


def content_range(rule, request, answer):
    total = int(answer.headers["Content-Range"].rpartition("/")[2])
    body, wrong = answer.body, rule.get("wrong", "start")
    start, length = body.start, body.length
    if wrong == "missing":
        del answer.headers["Content-Range"]
        return
    if wrong == "start":
        step = max(1, length // 2)
        start += step if start + length + step <= total else -min(step, start)
        answer.body = File(body.path, start, length)
        start += start == body.start  # the whole blob: nothing to shift
    elif wrong == "end":
        length = max(1, length // 2)
        answer.body = File(body.path, start, length)
    elif wrong == "total":
        total += 1
    answer.headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{total}"


def read_body(answer):
    return answer.body.read() if isinstance(answer.body, File) else answer.body


def corrupt(rule, request, answer):
    data = bytearray(read_body(answer))
    step = rule.get("step", 512)
    for i in range(min(step, len(data)) // 2, len(data), step):
        data[i] ^= 0x55
    answer.body = bytes(data)


def whole(rule, request, answer):
    size = int(answer.headers.pop("Content-Range").rpartition("/")[2])
    answer.status, answer.body = 200, File(answer.body.path, 0, size)
    answer.chunked = not rule.get("length", True)
    if "after" in rule:
        answer.cut, answer.end = rule["after"], "close"


def page(rule, request, answer):
    text = b"<html><title>Log in</title>" + b"<p>Please log in to the network.</p>" * 100
    size = rule.get("bytes", 3000)
    answer.headers.pop("Content-Range", None)
    answer.headers["Content-Type"] = "text/html"
    answer.status, answer.body = 200, (text * (size // len(text) + 1))[:size]
    answer.chunked = not rule.get("length", True)


def part(rule, request, answer):
    if not rule.get("label", False):
        del answer.headers["Content-Range"]
    answer.status, answer.chunked = 200, not rule.get("length", True)


def tail(rule, request, answer):
    data = read_body(answer)
    after = min(middle(rule, answer), len(data))
    answer.headers["Content-Length"] = str(len(data))
    answer.body = (data[:after] + b"\n<b>Fatal error</b>: upstream is gone\n" * 8)[:len(data)]
    if len(answer.body) == len(data):  # not so long that all of it is there
        answer.body = answer.body[:-1]
    answer.end = "close"


def trickle(rule, request, answer):
    answer.cut, answer.end = rule.get("after", 0), "trickle"
    answer.pause = rule.get("ms", 1000) / 1000


def status(rule, request, answer):
    bad = failure(int(rule["kind"]), "TEST", "an injected fault")
    if "retry_after" in rule:
        seconds = rule["retry_after"]
        bad.headers["Retry-After"] = (email.utils.formatdate(time.time() + seconds, usegmt=True)
                                      if rule.get("date") else str(seconds))
    answer.status, answer.headers, answer.body = bad.status, bad.headers, bad.body


def slow_headers(rule, request, answer):
    answer.byte_seconds = rule.get("ms", 20) / 1000


def garbage(rule, request, answer):
    answer.raw = bytes(range(128, 256)) * 8 + b"\r\n\r\n"


def loop(rule, request, answer):
    answer.status, answer.body = 307, b""
    mark = "" if "loop" in request.query else "&loop" if "?" in request.target else "?loop"
    answer.headers = {"Location": request.target + mark}


def compress(rule, request, answer):
    answer.body = gzip.compress(read_body(answer), 1)
    answer.headers["Content-Encoding"] = "gzip"


def close(rule, request, answer):
    answer.raw = b""


def huge_headers(rule, request, answer):
    answer.headers["X-Filler"] = ["x" * 8000] * (1 + rule.get("bytes", 1 << 20) // 8000)


def long_header(rule, request, answer):
    answer.headers["X-Filler"] = "x" * rule.get("bytes", 200_000)


def chunked(rule, request, answer):
    answer.chunked = True


STATUSES = "401 403 404 416 429 500 502 503 504".split()
# kind: (what it does to an answer, what it takes)
KINDS = {
    "latency": (latency, {"seconds"}),
    "stall": (stall, {"after", "seconds"}),
    "reset": (reset, {"after"}),
    "truncate": (truncate, {"after"}),
    "content-range": (content_range, {"wrong"}),
    "corrupt": (corrupt, {"step"}),
    "whole": (whole, {"after", "length"}),
    "page": (page, {"bytes", "length"}),
    "part": (part, {"length", "label"}),
    "tail": (tail, {"after"}),
    "trickle": (trickle, {"after", "ms"}),
    "long-header": (long_header, {"bytes"}),
    "slow-headers": (slow_headers, {"ms"}),
    "garbage": (garbage, set()),
    "loop": (loop, set()),
    "gzip": (compress, set()),
    "close": (close, set()),
    "huge-headers": (huge_headers, {"bytes"}),
    "chunked": (chunked, set()),
    "tls": (None, set()),
    **{s: (status, {"retry_after", "date"}) for s in STATUSES},
}
OF_RANGES = {"content-range", "whole", "part"}


class Rule:
    def __init__(self, spec):
        self.kind = str(spec.get("kind"))
        if self.kind not in KINDS:
            raise ValueError(f"no such fault: {self.kind}")
        self.strike, takes = KINDS[self.kind]
        unknown = set(spec) - COMMON - takes
        if unknown:
            raise ValueError(f"{self.kind} does not take {', '.join(sorted(unknown))}")
        self.spec = spec | {"kind": self.kind}
        self.seen = self.struck = 0

    def is_for(self, request, answer):
        spec = self.spec
        on = spec.get("on")
        data = isinstance(answer.body, File) and answer.status in (200, 206)
        if self.kind == "tls" or on is None and not (data and request.method == "GET"):
            return False
        if on not in (None, "any", request.kind) or self.kind in OF_RANGES and answer.status != 206:
            return False
        values = {"method": request.method, "path": request.path,
                  "range": request.headers.get("range", "")}
        return all(re.search(spec[k], v) for k, v in values.items() if k in spec)

    def due(self):
        """Counts one that the rule is for."""
        self.seen += 1
        number = self.seen - self.spec.get("skip", 0)
        if (number < 1 or number % self.spec.get("every", 1)
                or self.struck >= self.spec.get("times", self.seen)):
            return False
        self.struck += 1
        return True


class Faults:
    """The first rule that is due strikes."""

    def __init__(self):
        self.lock = threading.Lock()
        self.rules = []

    def replace(self, text):
        specs = json.loads(text or "[]")
        rules = [Rule(s) for s in (specs if isinstance(specs, list) else [specs])]
        with self.lock:
            self.rules = rules

    def pick(self, is_for):
        with self.lock:
            return next((rule for rule in self.rules if is_for(rule) and rule.due()), None)

    def harm(self, request, answer):
        """The kind of what was done to the answer, or None."""
        if "loop" in request.query:
            loop({}, request, answer)
            return "loop"
        rule = self.pick(lambda rule: rule.is_for(request, answer))
        if rule:
            rule.strike(rule.spec, request, answer)
        return rule and rule.kind

    def harms_connection(self):
        return self.pick(lambda rule: rule.kind == "tls") is not None

    def state(self):
        with self.lock:
            return [rule.spec | {"seen": rule.seen, "struck": rule.struck} for rule in self.rules]

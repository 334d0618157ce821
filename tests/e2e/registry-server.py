#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A registry (OCI distribution) over a folder, for tests: it counts, it logs, and it goes wrong on demand.

The folder is described in registry/store.py, faults in registry/faults.py.  Kinds of requests:
  ping      /v2/                     token   /token
  manifest, blob, upload             signed  a blob at the second origin, by a signed URL
  other
Anything before /v2/ in a path is taken as the prefix of a peer-to-peer proxy and left out.

The control socket (HTTP, JSON):
  GET  /stats     requests and statuses by kind, requests by path, bytes by blob, ...
  POST /faults    the rules, one or a list; an empty list: no more faults
  POST /settings  changes redirect, target (URL of the second origin), url_seconds, auth, realm,
                  token_seconds, token_field
  POST /revoke    no token given so far is good any more
  POST /reset     counts from zero

An Authorization header that reaches the second origin is a leak: it is refused, counted as `leaks`, and
named in the log and on standard error.  No secret is ever written to either."""
import argparse
import hashlib
import hmac
import json
import secrets
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

sys.dont_write_bytecode = True

from registry.auth import Auth, read_users, scheme_of  # noqa: E402
from registry.faults import Faults  # noqa: E402
from registry.store import ROUTE, Store, failure  # noqa: E402
from registry.web import Answer, Server, tls_context, write_file  # noqa: E402

SETTLE_SECONDS = 0.5  # that /stats waits for answers on their way


class Stats:
    def __init__(self):
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.active = self.open = 0
        self.reset_locked()

    def reset_locked(self):
        self.requests, self.paths, self.bytes = Counter(), Counter(), Counter()
        self.faults, self.auth = Counter(), Counter()
        self.status = defaultdict(Counter)
        self.bytes_sent = self.connections = self.tokens = self.leaks = 0
        self.max_concurrent, self.max_connections = self.active, self.open

    def begin(self):
        with self.lock:
            self.active += 1
            self.max_concurrent = max(self.max_concurrent, self.active)

    def answered(self, request, answer, fault):
        with self.lock:
            self.requests[request.kind] += 1
            self.status[request.kind][str(answer.status)] += 1
            self.paths[request.path] += 1
            if fault:
                self.faults[fault] += 1
            self.auth[f"{request.origin} {scheme_of(request) or 'none'}"] += 1
            self.tokens += request.kind == "token" and answer.status == 200

    def end(self, digest, sent):
        with self.changed:
            self.active -= 1
            self.bytes_sent += sent
            if digest:
                self.bytes[digest] += sent
            self.changed.notify_all()

    def leaked(self):
        with self.lock:
            self.leaks += 1

    def connected(self, n):
        with self.lock:
            self.open += n
            self.connections += n > 0
            self.max_connections = max(self.max_connections, self.open)

    def report(self):
        with self.changed:
            self.changed.wait_for(lambda: self.active == 0, SETTLE_SECONDS)
            hidden = {"lock", "changed"}
            return {k: v for k, v in vars(self).items() if k not in hidden}

    def reset(self):
        with self.changed:
            self.changed.wait_for(lambda: self.active == 0, SETTLE_SECONDS)
            self.reset_locked()


class Registry:
    def __init__(self, args):
        self.store = Store(args.dir, args.referrers)
        self.settings = {"auth": args.auth, "realm": "", "token_seconds": args.token_seconds,
                         "token_field": "token", "redirect": args.redirect, "target": "",
                         "url_seconds": args.url_seconds}
        self.auth = Auth(self.settings, read_users(args.users))
        self.faults, self.stats = Faults(), Stats()
        self.key = secrets.token_bytes(32)
        self.log_lock = threading.Lock()
        self.log = open(args.log, "a", encoding="utf-8") if args.log else None

    # What web.Server calls.

    def opened(self, origin):
        if origin == "control":
            return True
        self.stats.connected(1)
        return not self.faults.harms_connection()

    def closed(self, origin):
        if origin != "control":
            self.stats.connected(-1)

    def answer(self, request):
        if request.origin == "control":
            return self.control(request)
        request.began = time.time()
        self.stats.begin()
        before, mark, after = request.path.partition("/v2/")
        route = ROUTE.match(mark + after)
        request.kind = self.kind(request, mark + after, route)
        request.digest = route and route["blob"]
        answer = self.refused_or_done(request, route)
        request.fault = self.faults.harm(request, answer)
        if request.fault == "401" and request.origin != "target":
            challenge = self.auth.challenge(request, route, "invalid_token")
            answer.headers["WWW-Authenticate"] = challenge.headers["WWW-Authenticate"]
        self.stats.answered(request, answer, request.fault)
        return answer

    def sent(self, request, answer, sent):
        if request.origin == "control":
            return
        self.write_log(t=round(request.began, 6), connection=request.connection.number,
                       origin=request.origin, kind=request.kind, method=request.method,
                       path=request.path, range=request.headers.get("range"),
                       status=answer.status, sent=sent, auth=scheme_of(request),
                       fault=request.fault, ms=round((time.time() - request.began) * 1000, 1))
        self.stats.end(request.digest, sent)

    def write_log(self, **fields):
        if self.log:
            with self.log_lock:
                self.log.write(json.dumps(fields) + "\n")
                self.log.flush()

    # The registry.

    @staticmethod
    def kind(request, path, route):
        if request.origin == "target":
            return "signed"
        if request.path == "/token":
            return "token"
        if not route:
            return "ping" if path == "/v2/" else "other"
        return next((kind for kind in ("blob", "manifest", "upload") if route[kind]), "other")

    def refused_or_done(self, request, route):
        if request.kind == "signed":
            return self.signed(request)
        if request.kind == "token":
            return self.auth.give_token(request)
        answer = self.auth.refusal(request, route)
        if not answer and request.kind == "ping":
            answer = Answer(200, {"Content-Type": "application/json"}, b"{}")
        elif not answer and not route:
            answer = failure(404, "NAME_UNKNOWN", "no such place")
        elif not answer:
            answer = self.store.answer(request, route)
            if self.settings["redirect"] and request.kind == "blob" and answer.status in (200, 206):
                answer = self.redirect(request.digest)
        answer.headers.setdefault("Docker-Distribution-Api-Version", "registry/2.0")
        return answer

    # The second origin.

    def sign(self, digest, expires):
        return hmac.new(self.key, f"{digest} {expires}".encode(), hashlib.sha256).hexdigest()

    def redirect(self, digest):
        expires = f"{time.time() + self.settings['url_seconds']:.3f}"
        return Answer(307, {"Location": f"{self.settings['target']}/data/{digest}?expires={expires}"
                                        f"&signature={self.sign(digest, expires)}"})

    def signed(self, request):
        if "authorization" in request.headers:
            self.stats.leaked()
            self.write_log(leak=scheme_of(request), path=request.path)
            print(f"LEAK: credentials sent to {request.path} of the redirect target",
                  file=sys.stderr, flush=True)
            return failure(400, "LEAK", "only one way to authenticate is allowed")
        digest = request.path.rpartition("/")[2]
        expires, signature = request.first("expires", "0"), request.first("signature")
        if not hmac.compare_digest(self.sign(digest, expires), signature):
            return failure(403, "DENIED", "the signature does not match")
        if float(expires) < time.time():
            return failure(403, "DENIED", "the request has expired")
        request.digest = digest
        return self.store.blob(request, digest)

    # Control.

    def control(self, request):
        done = {"done": True}
        try:
            if (request.method, request.path) == ("GET", "/stats"):
                done = self.stats.report() | {"rules": self.faults.state()}
            elif request.path == "/faults":
                self.faults.replace(request.body())
            elif request.path == "/settings":
                self.change_settings(json.loads(request.body()))
            elif request.path == "/revoke":
                self.auth.revoke()
            elif request.path == "/reset":
                self.stats.reset()
            else:
                raise ValueError(f"no such command: {request.method} {request.path}")
        except (ValueError, AttributeError) as e:
            return Answer(400, {}, f"{e}\n".encode())
        return Answer(200, {"Content-Type": "application/json"},
                      json.dumps(done, indent=1).encode() + b"\n")

    def change_settings(self, new):
        unknown = set(new) - set(self.settings)
        if unknown:
            raise ValueError(f"no such settings: {', '.join(sorted(unknown))}")
        self.settings.update(new)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", required=True, help="the folder that it serves")
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1 (default: any free one)")
    parser.add_argument("--ports", metavar="FILE", help="gets the ports in use, as JSON: registry,"
                        " target (the second origin), token")
    parser.add_argument("--unix", metavar="PATH", help="listen on this socket too")
    parser.add_argument("--control", metavar="PATH", help="the control socket")
    parser.add_argument("--log", metavar="FILE", help="a line of JSON for each request")
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
    parser.add_argument("--client-ca", metavar="FILE", help="clients need a certificate of this CA")
    parser.add_argument("--auth", choices=["none", "basic", "bearer"], default="none")
    parser.add_argument("--users", metavar="FILE", help="lines of NAME:PASSWORD")
    parser.add_argument("--token-seconds", type=float, default=300, metavar="N")
    parser.add_argument("--token-port", action="store_true",
                        help="tokens are given at a port of their own")
    parser.add_argument("--redirect", action="store_true",
                        help="GETs of blobs are sent to a second origin")
    parser.add_argument("--referrers", action="store_true",
                        help="it lists what refers to a manifest (OCI distribution 1.1)")
    parser.add_argument("--url-seconds", type=float, default=300, metavar="N",
                        help="that a signed URL is good for")
    return parser.parse_args()


def main():
    args = parse_arguments()
    registry = Registry(args)
    server = Server(registry)
    tls = tls_context(*args.tls, args.client_ca) if args.tls else None
    server.listen("registry", port=args.port, tls=tls)
    server.listen("target", port=0, tls=tls)
    server.listen("token", port=0, tls=tls)
    for origin, path in ("registry", args.unix), ("control", args.control):
        if path:
            Path(path).unlink(missing_ok=True)
            server.listen(origin, path=path)
    base = f"{'https' if tls else 'http'}://127.0.0.1"
    registry.settings["target"] = f"{base}:{server.ports['target']}"
    port = server.ports["token" if args.token_port else "registry"]
    registry.settings["realm"] = f"{base}:{port}/token"
    if args.ports:
        write_file(args.ports, json.dumps(server.ports) + "\n")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Event().wait()


main()

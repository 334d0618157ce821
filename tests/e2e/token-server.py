#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A token service for docker-registry: tokens are JWTs, signed with RS256 by the openssl program.

docker-registry takes a token for 60 more seconds after it ended: tokens that are to live for N seconds
end N - 60 seconds from now."""
import argparse
import base64
import hashlib
import json
import secrets
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True

from registry.auth import parse_scopes, read_users, token_user  # noqa: E402
from registry.store import failure  # noqa: E402
from registry.web import Answer, Server, write_file  # noqa: E402

LEEWAY = 60


def openssl(*arguments, data=b""):
    return subprocess.run(["openssl", *arguments], input=data, stdout=subprocess.PIPE,
                          check=True).stdout


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def key_id(key):
    """What docker's libtrust calls a key: 240 bits of a hash in base 32, in groups of four."""
    public = openssl("pkey", "-in", key, "-pubout", "-outform", "DER")
    text = base64.b32encode(hashlib.sha256(public).digest()[:30]).decode()
    return ":".join(text[i:i + 4] for i in range(0, len(text), 4))


class Tokens:
    def __init__(self, args):
        self.args, self.users = args, read_users(args.users)
        self.key_id = key_id(args.key)
        self.log = open(args.log, "a", encoding="utf-8") if args.log else None

    def opened(self, origin):
        return True

    def closed(self, origin):
        pass

    def sent(self, request, answer, sent):
        if self.log:
            line = {"t": time.time(), "path": request.path, "scope": request.query.get("scope"),
                    "status": answer.status}
            self.log.write(json.dumps(line) + "\n")
            self.log.flush()

    def sign(self, user, scopes):
        now = int(time.time())
        access = {}
        for repo, action in sorted(scopes):
            access.setdefault(repo, []).append(action)
        claims = {"iss": self.args.issuer, "sub": user, "aud": self.args.service,
                  "exp": now + self.args.seconds - LEEWAY, "nbf": now - LEEWAY, "iat": now,
                  "jti": secrets.token_hex(16),
                  "access": [{"type": "repository", "name": repo, "actions": actions}
                             for repo, actions in access.items()]}
        header = {"typ": "JWT", "alg": "RS256", "kid": self.key_id}
        text = b".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
        signature = openssl("dgst", "-sha256", "-sign", self.args.key, data=text)
        return (text + b"." + base64url(signature)).decode()

    def answer(self, request):
        user = token_user(request, self.users)
        if not user:
            return failure(401, "UNAUTHORIZED", "incorrect username or password",
                           WWW_Authenticate='Basic realm="test tokens"')
        token = self.sign(user, parse_scopes(request))
        return Answer(200, {"Content-Type": "application/json"}, json.dumps({
            "token": token, "access_token": token, "expires_in": self.args.seconds,
            "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}).encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--key", required=True, help="an RSA key; the registry has its certificate")
    parser.add_argument("--users", required=True, help="lines of NAME:PASSWORD")
    parser.add_argument("--seconds", type=int, default=300, help="that a token lives")
    parser.add_argument("--service", default="test registry")
    parser.add_argument("--issuer", default="test tokens")
    parser.add_argument("--ports", required=True, metavar="FILE", help="gets the port, as JSON")
    parser.add_argument("--log", metavar="FILE")
    args = parser.parse_args()
    server = Server(Tokens(args))
    server.listen("token", port=0)
    write_file(args.ports, json.dumps(server.ports) + "\n")
    threading.Event().wait()


main()

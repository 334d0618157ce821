# SPDX-License-Identifier: Apache-2.0
"""auth.py - who may come in: everybody, users with a password, or bearers of a token from us.

A file of users has a line NAME:PASSWORD each; the name `<token>`, as in docker's credential helpers,
stands for an identity token, which is traded for a token by POST."""
import base64
import json
import secrets
import threading
import time
import urllib.parse

from .store import failure
from .web import Answer


def read_users(path):
    if not path:
        return {}
    with open(path, encoding="utf-8") as f:
        return dict(line.rstrip("\n").split(":", 1) for line in f if ":" in line)


def scheme_of(request):
    """For logs: never what follows it."""
    return request.headers.get("authorization", "").split(" ")[0].lower() or None


def basic_user(request, users):
    """The user's name, "" without credentials, None when they are wrong."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        name, _, password = base64.b64decode(value).decode().partition(":")
    except ValueError:
        return None
    return name if users.get(name, ()) == password else None


def token_user(request, users):
    """The same for a request of a token: GET with Basic, or POST as OAuth2 says."""
    if request.method != "POST":
        return basic_user(request, users)
    form = {k: v[0] for k, v in urllib.parse.parse_qs(request.body().decode()).items()}
    request.query.setdefault("scope", form.get("scope", "").split())
    name = "<token>" if form.get("grant_type") == "refresh_token" else form.get("username", "")
    password = form.get("refresh_token", form.get("password"))
    return name if name in users and users[name] == password else None


def parse_scopes(request):
    """{(repository, action)} asked for."""
    out = set()
    for scope in " ".join(request.query.get("scope", [])).split():
        kind, _, rest = scope.partition(":")
        repo, _, actions = rest.rpartition(":")
        if kind == "repository":
            out |= {(repo, action) for action in actions.split(",")}
    return out


def needed(request, route):
    """(repository, action) that this request needs; an empty repository: any."""
    action = "pull" if request.method in ("GET", "HEAD") else "push"
    return (route["repo"] if route else "", action)


class Auth:
    """settings: "auth" none, basic or bearer; "realm"; "token_seconds"; "token_field"."""

    def __init__(self, settings, users):
        self.settings, self.users = settings, users
        self.lock = threading.Lock()
        self.tokens = {}  # token: (when it ends, scopes)

    def challenge(self, request, route, error=None):
        mode = self.settings["auth"]
        if mode != "bearer":
            header = 'Basic realm="test registry"'
        else:
            repo, action = needed(request, route)
            actions = "pull" if action == "pull" else "pull,push"
            header = f'Bearer realm="{self.settings["realm"]}",service="test registry"'
            header += f',scope="repository:{repo}:{actions}"' if repo else ""
            header += f',error="{error}"' if error else ""
        return failure(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=header)

    def refusal(self, request, route):
        """The answer to a request that may not come in, else None."""
        mode = self.settings["auth"]
        if mode == "none":
            return None
        if mode == "basic":
            return None if basic_user(request, self.users) else self.challenge(request, route)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return self.challenge(request, route)
        with self.lock:
            end, scopes = self.tokens.get(token, (0, ()))
        if time.monotonic() > end:
            return self.challenge(request, route, "invalid_token")
        if route and needed(request, route) not in scopes:
            return self.challenge(request, route, "insufficient_scope")
        return None

    def give_token(self, request):
        user = token_user(request, self.users)
        if user is None or self.users and not user:
            return failure(401, "UNAUTHORIZED", "incorrect username or password",
                           WWW_Authenticate='Basic realm="test tokens"')
        token, seconds = secrets.token_urlsafe(64), self.settings["token_seconds"]
        with self.lock:
            self.tokens[token] = (time.monotonic() + seconds, parse_scopes(request))
        return Answer(200, {"Content-Type": "application/json"}, json.dumps({
            self.settings["token_field"]: token, "expires_in": int(seconds),
            "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}).encode())

    def revoke(self):
        with self.lock:
            self.tokens.clear()

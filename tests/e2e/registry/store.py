# SPDX-License-Identifier: Apache-2.0
"""store.py - the folder behind the registry, and what the OCI distribution protocol says of it.

  blobs/sha256/HEX                the blobs of all repositories
  manifests/REPOSITORY/REFERENCE  a tag or sha256:HEX

Tests put files there directly: nothing is kept in memory.  A manifest that is there by its tag alone
is found by its digest too."""
import hashlib
import json
import os
import re
import secrets
from pathlib import Path

from .web import Answer, File

NAME = r"[a-z0-9]+(?:(?:[._-]+|/)[a-z0-9]+)*"
DIGEST = "(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})"
ROUTE = re.compile(rf"/v2/(?P<repo>{NAME})/(?:blobs/(?P<blob>{DIGEST})"
                   rf"|manifests/(?P<manifest>{DIGEST}|\w[\w.-]{{0,127}})"
                   rf"|referrers/(?P<subject>{DIGEST})"
                   r"|(?P<upload>blobs/uploads/(?P<id>[0-9a-f]*)))$")
RANGE = re.compile(r"bytes=(\d*)-(\d*)$")
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def failure(status, code, message, **headers):
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Answer(status, {"Content-Type": "application/json",
                           **{k.replace("_", "-"): v for k, v in headers.items()}}, body)


def digest_of(data, like="sha256:"):
    kind = like.partition(":")[0]
    return f"{kind}:{hashlib.new(kind, data).hexdigest()}"


def is_digest(text):
    return re.fullmatch(DIGEST, text) is not None


def parse_range(text, size):
    """(start, length), or None when it cannot be had: one segment only."""
    match = RANGE.match(text)
    first, last = match.groups() if match else ("", "")
    if first:
        start, end = int(first), min(int(last) + 1 if last else size, size)
    elif last:
        start, end = max(0, size - int(last)), size
    else:
        return None
    return (start, end - start) if start < end else None


class Store:
    def __init__(self, folder, referrers=False):
        """`referrers`: it lists what refers to a manifest."""
        self.referrers = referrers
        self.blobs = Path(folder, "blobs", "sha256")
        self.manifests = Path(folder, "manifests")
        self.uploads = Path(folder, "uploads")
        for path in self.blobs, self.manifests, self.uploads:
            path.mkdir(parents=True, exist_ok=True)

    def blob_path(self, digest):
        return self.blobs / digest.removeprefix("sha256:")  # of another kind: with its name

    def blob(self, request, digest):
        """GET or HEAD, a range or all."""
        path = self.blob_path(digest)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return failure(404, "BLOB_UNKNOWN", "blob unknown to registry")
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes",
                   "Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
        if request.headers.get("if-none-match") == f'"{digest}"':
            return Answer(304, headers)
        if request.method == "HEAD" or "range" not in request.headers:
            return Answer(200, headers, File(path, 0, size))
        found = parse_range(request.headers["range"], size)
        if not found:
            return failure(416, "RANGE_INVALID", "invalid range",
                           Content_Range=f"bytes */{size}")
        start, length = found
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
        return Answer(206, headers, File(path, start, length))

    def find_manifest(self, repo, reference):
        folder = self.manifests / repo
        try:
            return (folder / reference).read_bytes()
        except OSError:
            pass
        if is_digest(reference) and folder.is_dir():
            for path in folder.iterdir():
                if path.is_file() and digest_of(path.read_bytes(), reference) == reference:
                    return path.read_bytes()
        return None

    def manifest(self, request, repo, reference):
        data = self.find_manifest(repo, reference)
        if data is None:
            return failure(404, "MANIFEST_UNKNOWN", "manifest unknown")
        digest = reference if is_digest(reference) else digest_of(data)
        try:
            kind = json.loads(data).get("mediaType", OCI_MANIFEST)
        except (ValueError, AttributeError):
            kind = OCI_MANIFEST
        headers = {"Content-Type": kind, "Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
        if request.headers.get("if-none-match") == f'"{digest}"':
            return Answer(304, headers)
        return Answer(200, headers, data)

    def put_manifest(self, request, repo, reference):
        data = request.body()
        digest = digest_of(data, reference if is_digest(reference) else "sha256:")
        if is_digest(reference) and reference != digest:
            return failure(400, "DIGEST_INVALID", f"the manifest has digest {digest}")
        try:
            manifest = json.loads(data)
            parts = [manifest.get("config"), *manifest.get("layers", [])]
            missing = [p["digest"] for p in parts if p and not self.blob_path(p["digest"]).exists()]
        except (ValueError, TypeError, AttributeError, KeyError):
            return failure(400, "MANIFEST_INVALID", "not a manifest")
        if missing:
            return failure(400, "MANIFEST_BLOB_UNKNOWN", f"blob unknown: {missing[0]}")
        folder = self.manifests / repo
        folder.mkdir(parents=True, exist_ok=True)
        for name in {reference, digest}:
            part = self.uploads / secrets.token_hex(16)
            part.write_bytes(data)
            part.rename(folder / name)
        return Answer(201, {"Location": f"/v2/{repo}/manifests/{digest}",
                            "Docker-Content-Digest": digest})

    def list_referrers(self, repo, subject):
        found = []
        for path in sorted((self.manifests / repo).glob("sha256:*")):
            data = path.read_bytes()
            manifest = json.loads(data)
            if (manifest.get("subject") or {}).get("digest") == subject:
                found.append({"mediaType": OCI_MANIFEST, "digest": digest_of(data),
                              "size": len(data), "artifactType": manifest["artifactType"]})
        return Answer(200, {"Content-Type": OCI_INDEX},
                      json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX,
                                  "manifests": found}).encode())

    def start_upload(self, request, repo):
        """POST: all at once, a mount of what is there, or the place to send it to."""
        mount = request.first("mount")
        if is_digest(mount) and self.blob_path(mount).exists():
            return self.created(repo, mount)
        path = self.uploads / secrets.token_hex(16)
        path.touch()
        if "digest" in request.query:
            return self.finish_upload(request, repo, path)
        return self.upload_state(repo, path)

    def upload(self, request, repo, name):
        """PATCH and PUT."""
        path = self.uploads / name
        if not name or not path.exists():
            return failure(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown")
        if request.method == "PUT":
            return self.finish_upload(request, repo, path)
        start = request.headers.get("content-range", "").partition("-")[0]
        if start and start != str(path.stat().st_size):
            return failure(416, "RANGE_INVALID", f"{path.stat().st_size} bytes are here")
        self.append(request, path)
        return self.upload_state(repo, path)

    def finish_upload(self, request, repo, path):
        self.append(request, path)
        digest = request.first("digest")
        kind = digest.partition(":")[0] if is_digest(digest) else "sha256"
        with open(path, "rb") as f:
            found = f"{kind}:{hashlib.file_digest(f, kind).hexdigest()}"
        if digest != found:
            path.unlink()
            return failure(400, "DIGEST_INVALID", f"the blob has digest {found}")
        path.rename(self.blob_path(digest))
        return self.created(repo, digest)

    @staticmethod
    def append(request, path):
        with open(path, "ab") as f:
            for piece in request.pieces():
                f.write(piece)

    @staticmethod
    def created(repo, digest):
        return Answer(201, {"Location": f"/v2/{repo}/blobs/{digest}",
                            "Docker-Content-Digest": digest})

    @staticmethod
    def upload_state(repo, path):
        size = os.stat(path).st_size
        return Answer(202, {"Location": f"/v2/{repo}/blobs/uploads/{path.name}?_state=x",
                            "Range": f"0-{max(0, size - 1)}", "Docker-Upload-UUID": path.name})

    def answer(self, request, route):
        """To a request that route, a match of ROUTE, was made of."""
        repo, method = route["repo"], request.method
        reads = method in ("GET", "HEAD")
        if route["blob"] and reads:
            return self.blob(request, route["blob"])
        if route["manifest"] and reads:
            return self.manifest(request, repo, route["manifest"])
        if route["subject"] and reads and self.referrers:
            return self.list_referrers(repo, route["subject"])
        if route["subject"]:
            return failure(404, "NOT_FOUND", "no such place")
        if route["manifest"] and method == "PUT":
            return self.put_manifest(request, repo, route["manifest"])
        if route["upload"] and method == "POST" and not route["id"]:
            return self.start_upload(request, repo)
        if route["upload"] and method in ("PATCH", "PUT"):
            return self.upload(request, repo, route["id"])
        return failure(405, "UNSUPPORTED", "the operation is unsupported")

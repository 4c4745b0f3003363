"""A registry in memory that serves what it is given and takes what it is sent, right or wrong.

For content that no real registry accepts any more, and that old or careless ones still serve.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from crossdock.imagebuilder import OCI_MANIFEST, Content, ImageBuilder

_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|tags|referrers)/(?P<reference>[^/]+)/?")


class LenientRegistry(ThreadingHTTPServer):
    """Blobs are shared by all repositories; manifests are kept by repository and by tag or digest."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, closing: ExitStack) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}  # with the Content-Type
        self.refused: dict[str, int] = {}  # kind of path → status
        self.asked: list[tuple[str, str]] = []  # method and path of each request
        self.is_mixed = False  # serves blobs under /manifests/ as well, as distribution 2.8 does
        self.is_strict = False  # takes no manifest without what it lists
        self.reported: set[tuple[str, str]] = set()  # what HEAD finds though it is not there: kind, digest
        self.mounted: set[str] = set()  # blobs that it mounts though it has them not
        self.lost: set[str] = set()  # blobs that it takes and does not keep
        self.damaged: dict[str, bytes] = {}  # what it serves for blobs, whatever it is sent
        self.private: dict[tuple[str, str], bytes] = {}  # blobs of one repository alone
        thread = threading.Thread(target=self.serve_forever, daemon=True)
        thread.start()
        closing.callback(thread.join)
        closing.callback(self.server_close)
        closing.callback(self.shutdown)

    def hold(self, builder: ImageBuilder) -> None:
        """Serve all that the builder has: as blobs, and as manifests of repository ``app`` by digest."""
        for digest in builder.digests():
            data = builder.read(digest)
            self.blobs[digest] = data
            with suppress(ValueError):
                if data.startswith(b"{"):
                    media_type = json.loads(data).get("mediaType") or OCI_MANIFEST
                    self.manifests["app", digest] = media_type, data

    def name(self, tag: str, content: Content, *, served_as: str | None = None, name: str = "app") -> None:
        """Let `tag` mean what the builder gave to `hold`; `served_as` is another Content-Type for it."""
        media_type, data = self.manifests["app", content.digest]
        for reference in (tag, content.digest):
            self.manifests[name, reference] = served_as or media_type, data

    def document(self, name: str, reference: str) -> dict[str, Any]:
        """A manifest that it has, parsed."""
        found: dict[str, Any] = json.loads(self.manifests[name, reference][1])
        return found

    def find(self, name: str, reference: str) -> tuple[str, bytes]:
        """Content-Type and bytes of what it serves as a manifest; no bytes: nothing."""
        found = self.manifests.get((name, reference), ("", b""))
        if not found[1] and self.is_mixed and self.blobs.get(reference, b"").startswith(b"{"):
            data = self.blobs[reference]
            return json.loads(data).get("mediaType") or OCI_MANIFEST, data
        return found

    def missing(self, name: str, data: bytes) -> list[str]:
        """What the manifest lists and the registry has not."""
        document = json.loads(data)
        blobs = [*filter(None, [document.get("config")]), *document.get("layers", [])]
        lost = [each["digest"] for each in blobs if each["digest"] not in self.blobs]
        children = document.get("manifests", [])
        return lost + [each["digest"] for each in children if not self.find(name, each["digest"])[1]]

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may leave when they like."""


class _Handler(BaseHTTPRequestHandler):
    server: LenientRegistry
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path))
        path = urlsplit(self.path).path
        if path in ("/v2", "/v2/"):
            return self._answer(200, b"{}")
        found = _PATH.fullmatch(path)
        name, kind, reference = found.groups() if found else ("", "", "")
        if kind in self.server.refused:
            return self._answer(self.server.refused[kind])
        if kind == "manifests":
            media_type, data = self.server.find(name, reference)
            if data:
                digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
                return self._answer(200, data, {"Content-Type": media_type, "Docker-Content-Digest": digest})
            return self._refuse("MANIFEST_UNKNOWN")
        if self.command == "HEAD" and (kind, reference) in self.server.reported:
            return self._answer(200, length=None)
        if kind == "blobs":
            own = self.server.private.get((name, reference), self.server.blobs.get(reference))
            if own is not None:
                return self._answer(200, self.server.damaged.get(reference, own))
        if kind == "tags":
            mine = sorted(each for owner, each in self.server.manifests if owner == name)
            if mine:
                tags = [each for each in mine if ":" not in each]
                return self._answer(200, json.dumps({"name": name, "tags": tags}).encode())
            return self._refuse("NAME_UNKNOWN")
        return self._refuse("BLOB_UNKNOWN")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.server.asked.append((self.command, self.path))
        body = self._body()
        query = parse_qs(urlsplit(self.path).query)
        if query.get("mount", [""])[0] in self.server.mounted:
            return self._answer(201)
        if "digest" in query:
            self._keep(query["digest"][0], body)
            return self._answer(201)
        return self._answer(202, headers={"Location": f"{urlsplit(self.path).path}one"})

    def do_PUT(self) -> None:
        self.server.asked.append((self.command, self.path))
        split, body = urlsplit(self.path), self._body()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if "/blobs/uploads/" in split.path:
            self._keep(digest, body)
        elif found := _PATH.fullmatch(split.path):
            if self.server.is_strict and (missing := self.server.missing(found["name"], body)):
                return self._refuse("MANIFEST_BLOB_UNKNOWN", missing)
            kept = self.headers["Content-Type"] or "", body
            self.server.manifests[found["name"], found["reference"]] = kept
            self.server.manifests[found["name"], digest] = kept
        return self._answer(201, headers={"Docker-Content-Digest": digest})

    def _keep(self, digest: str, data: bytes) -> None:
        if digest not in self.server.lost:
            self.server.blobs[digest] = data

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def _refuse(self, code: str, detail: list[str] | None = None) -> None:
        errors = [{"code": code, "message": code.lower(), "detail": detail}]
        self._answer(404, json.dumps({"errors": errors}).encode())

    def _answer(
        self,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        length: int | None = -1,
    ) -> None:
        self.send_response(status)
        for each, value in (headers or {}).items():
            self.send_header(each, value)
        if length is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

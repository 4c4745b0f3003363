"""A registry in memory whose answers a test replaces: for servers that no real one in reach behaves like."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_JSON = {"Content-Type": "application/json"}
_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|referrers|blobs/uploads|blobs|tags)/(?P<rest>[^/]*)")


def digest_of(data: bytes) -> str:
    """The sha256 digest."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Reply:
    """What is sent, with a Content-Length."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, document: object, status: int = 200, **headers: str) -> Reply:
        """A JSON document."""
        return cls(status, json.dumps(document).encode(), {**_JSON, **headers})

    @classmethod
    def error(cls, status: int, code: str) -> Reply:
        """An error as the specification has it."""
        return cls.json({"errors": [{"code": code, "message": code.lower()}]}, status)


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes
    content_type: str

    def is_for(self, kind: str, *methods: str) -> bool:
        """Whether it is for manifests, blobs, …, with one of the methods (any without)."""
        return f"/{kind}/" in self.path and (not methods or self.method in methods)


Answer = Callable[[Asked], Reply | None]
Descriptor = dict[str, Any]


@dataclass
class MockRegistry:
    """Strict where distribution is: a manifest's blobs must be there. `answer` goes first; None: as usual."""

    answer: Answer = lambda asked: None
    has_referrers: bool = False
    resolves_digest_tags: bool = False  # as GitLab: the tag sha256-HEX is the manifest with that digest
    host: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    seen: list[Asked] = field(default_factory=list)
    _uploads: dict[str, bytes] = field(default_factory=dict)

    def put_blob(self, data: bytes, media_type: str = _LAYER) -> Descriptor:
        """Keep a blob; its descriptor."""
        self.blobs[digest_of(data)] = data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def put(self, name: str, document: object, media_type: str = MANIFEST, tag: str = "") -> Descriptor:
        """Keep a manifest under its digest and a tag; its descriptor."""
        data = json.dumps(document).encode()
        for reference in filter(None, (digest_of(data), tag)):
            self.manifests[name, reference] = media_type, data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def image(self, name: str, tag: str = "", seed: str = "1", **members: object) -> Descriptor:
        """An image of one layer."""
        config = {"os": "linux", "architecture": "amd64", "seed": seed}
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.put_blob(json.dumps(config).encode(), _CONFIG),
            "layers": [self.put_blob(b"layer " + seed.encode())],
            **members,
        }
        return self.put(name, document, MANIFEST, tag)

    def referrer(self, name: str, subject: Descriptor, seed: str = "signature", tag: str = "") -> Descriptor:
        """An artifact about `subject`."""
        found = self.image(name, tag, seed, subject=subject, artifactType="application/x-signature")
        return {**found, "artifactType": "application/x-signature"}

    def index(self, name: str, entries: list[Descriptor], tag: str = "") -> Descriptor:
        """An index of the entries."""
        return self.put(name, {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, INDEX, tag)

    def tags(self, name: str) -> list[str]:
        """The repository's tags."""
        return sorted(
            reference for other, reference in self.manifests if other == name and ":" not in reference
        )

    def has(self, name: str, reference: str, digest: str) -> bool:
        """Whether the reference leads to the manifest, and its blobs are there."""
        _, data = self.manifests.get((name, reference), ("", b""))
        if digest_of(data) != digest:
            return False
        document = json.loads(data)
        below = [*document.get("layers", ()), *filter(None, [document.get("config")])]
        return all(each["digest"] in self.blobs for each in below) and all(
            self.has(name, each["digest"], each["digest"]) for each in document.get("manifests", ())
        )

    def asked(self, kind: str, *methods: str) -> int:
        """How many such requests came."""
        return sum(each.is_for(kind, *methods) for each in self.seen)

    @contextmanager
    def serve(self) -> Iterator[MockRegistry]:
        """Serve it on loopback, in threads."""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            registry = self

            def log_message(self, *args: object) -> None:
                """Say nothing."""

            def any(self) -> None:
                url = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                query = dict(parse_qsl(url.query, keep_blank_values=True))
                kind = self.headers.get("Content-Type", "")
                asked = Asked(self.command, unquote(url.path), query, body, kind)
                self.registry.seen.append(asked)
                reply = self.registry.answer(asked) or self.registry.usual(asked)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = any

            def handle(self) -> None:
                with suppress(ConnectionError):
                    super().handle()

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.host = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def usual(self, asked: Asked) -> Reply:
        """As a registry answers."""
        if asked.path == "/v2/":
            return Reply.json({})
        if asked.path == "/v2/_catalog":
            return Reply.json({"repositories": sorted({name for name, _ in self.manifests})})
        parts = _PATH.fullmatch(asked.path)
        if parts is None:
            return Reply.error(404, "NAME_UNKNOWN")
        name, rest = parts["name"], parts["rest"]
        match parts["kind"]:
            case "tags":
                return Reply.json({"name": name, "tags": self.tags(name)})
            case "referrers":
                return self._referrers(name, rest)
            case "manifests":
                return self._put(name, rest, asked) if asked.method == "PUT" else self._get(name, rest)
            case "blobs":
                data = self.blobs.get(rest)
                return Reply.error(404, "BLOB_UNKNOWN") if data is None else Reply(200, data)
        return self._upload(name, rest, asked)

    def _get(self, name: str, reference: str) -> Reply:
        found = self.manifests.get((name, reference))
        if found is None and self.resolves_digest_tags:
            found = self.manifests.get((name, reference.replace("sha256-", "sha256:")))
        if found is None:
            return Reply.error(404, "MANIFEST_UNKNOWN")
        return Reply(200, found[1], {"Content-Type": found[0], "Docker-Content-Digest": digest_of(found[1])})

    def _put(self, name: str, reference: str, asked: Asked) -> Reply:
        document = json.loads(asked.body)
        for each in [*document.get("layers", ()), *filter(None, [document.get("config")])]:
            if each["digest"] not in self.blobs:
                return Reply.error(404, "MANIFEST_BLOB_UNKNOWN")
        for each in (reference, digest_of(asked.body)):
            self.manifests[name, each] = asked.content_type, asked.body
        headers = {"Docker-Content-Digest": digest_of(asked.body)}
        if self.has_referrers and "subject" in document:
            headers["OCI-Subject"] = document["subject"]["digest"]
        return Reply(201, b"", headers)

    def _referrers(self, name: str, digest: str) -> Reply:
        if not self.has_referrers:
            return Reply.error(404, "NOT_FOUND")
        found = []
        for (other, reference), (media_type, data) in list(self.manifests.items()):
            subject = json.loads(data).get("subject") or {}
            if other == name and ":" in reference and subject.get("digest") == digest:
                found.append({"mediaType": media_type, "digest": reference, "size": len(data)})
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": found}
        return Reply(200, json.dumps(document).encode(), {"Content-Type": INDEX})

    def _upload(self, name: str, session: str, asked: Asked) -> Reply:
        if asked.method == "POST":
            session = str(len(self.seen))
            self._uploads[session] = b""
        elif asked.method in ("PATCH", "PUT"):
            self._uploads[session] += asked.body
        held = self._uploads[session]
        if asked.method == "PUT":
            self.blobs[digest_of(held)] = held
            return Reply(201 if digest_of(held) == asked.query["digest"] else 400)
        where = {"Location": f"/v2/{name}/blobs/uploads/{session}", "Range": f"0-{max(0, len(held) - 1)}"}
        return Reply(202 if asked.method in ("POST", "PATCH") else 204, b"", where)

"""A scripted registry in memory, for behavior that no installed registry has.

It accepts and serves what it is given, right or wrong. `before` sees each request first and may reply in its
place; `after` may change the reply. Attributes switch on the ways of some registries.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote

from crossdock.imagebuilder import Content, ImageBuilder

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
_JSON = "application/json"
_PATH = re.compile(r"/v2/(.+)/(manifests|referrers|blobs/uploads|blobs|tags)/([^/]*)/?")
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_PIECE = 5000  # bytes of a chunk of HTTP/1.1

Descriptor = dict[str, Any]


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of `data`."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@dataclass
class Reply:
    """A response. Content-Length is added, unless it is there or the body is `chunked`."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False
    cut: int | None = None  # bytes of the body after which the connection ends

    @classmethod
    def json(cls, document: object, status: int = 200, **headers: str) -> Reply:
        """A JSON document."""
        return cls(status, json.dumps(document).encode(), {"Content-Type": _JSON, **headers})

    @classmethod
    def error(cls, status: int, code: str, message: str = "", detail: object = None) -> Reply:
        """An error as the specification has it."""
        problem = {"code": code, "message": message or code.lower(), "detail": detail}
        return cls.json({"errors": [problem]}, status)

    @classmethod
    def demand(cls, challenge: str, status: int = 401) -> Reply:
        """A challenge."""
        return cls(status, b"{}", {"WWW-Authenticate": challenge})


@dataclass(frozen=True)
class Request:
    """A request. `target` includes the query, `path` does not and is decoded."""

    method: str
    target: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes = field(repr=False)

    @property
    def path(self) -> str:
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")

    def is_for(self, kind: str, *methods: str) -> bool:
        """Whether it is for manifests, blobs, …, with one of `methods`, or any method without."""
        return f"/{kind}/" in self.path and (not methods or self.method in methods)


Before = Callable[[Request], Reply | None]
After = Callable[[Request, Reply], None]


def basic(user: str, password: str) -> str:
    """The ``Authorization`` header of Basic."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class ScriptedRegistry:
    """Listens on loopback until `closing` ends. Blobs are shared by all repositories."""

    def __init__(
        self,
        closing: ExitStack,
        before: Before | None = None,
        after: After | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        has_referrers: bool = False,
        resolves_digest_tags: bool = False,
        is_strict: bool = False,
        is_mixed: bool = False,
    ) -> None:
        self.before = before
        self.after = after
        self.has_referrers = has_referrers
        self.resolves_digest_tags = resolves_digest_tags  # as GitLab: tag sha256-HEX is the digest's manifest
        self.is_strict = is_strict  # rejects a manifest that lists content which is not here
        self.is_mixed = is_mixed  # serves blobs under /manifests/ as well, as distribution 2.8 does
        self.seen: list[Request] = []
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}  # with the Content-Type
        self.refused: dict[str, int] = {}  # kind of path → status
        self.reported: set[tuple[str, str]] = set()  # kind and digest that HEAD finds though it is not here
        self.mounted: set[str] = set()  # blobs that it mounts though it does not have them
        self.lost: set[str] = set()  # blobs that it accepts and does not keep
        self.damaged: dict[str, bytes] = {}  # bytes that it serves for a blob, whatever was pushed
        self.private: dict[tuple[str, str], bytes] = {}  # blobs of one repository alone
        self._uploads: dict[str, bytes] = {}
        self._lock = threading.Lock()
        server = _Server(("127.0.0.1", 0), _handler(self))
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self.port: int = server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        closing.callback(thread.join)
        closing.callback(server.server_close)
        closing.callback(server.shutdown)

    # -- content -------------------------------------------------------------------------------------

    def put_blob(self, data: bytes, media_type: str = LAYER) -> Descriptor:
        """Keep a blob; its descriptor."""
        self.blobs[digest_of(data)] = data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def put(self, name: str, document: object, media_type: str = MANIFEST, tag: str = "") -> Descriptor:
        """Keep a manifest under its digest and a tag; its descriptor."""
        data = json.dumps(document).encode()
        for reference in filter(None, (digest_of(data), tag)):
            self.manifests[name, reference] = media_type, data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def image(
        self,
        name: str,
        tag: str = "",
        seed: str = "1",
        *,
        layers: tuple[bytes, ...] = (),
        layer_type: str = LAYER,
        **members: object,
    ) -> Descriptor:
        """An image of `layers`, by default of one that `seed` makes."""
        config = {"os": "linux", "architecture": "amd64", "seed": seed}
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.put_blob(json.dumps(config).encode(), CONFIG),
            "layers": [self.put_blob(layer, layer_type) for layer in layers or [b"layer " + seed.encode()]],
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

    def hold(self, builder: ImageBuilder) -> None:
        """Serve all that the builder made: as blobs, and as manifests of repository ``app`` by digest."""
        for digest in builder.digests():
            data = builder.read(digest)
            self.blobs[digest] = data
            with suppress(ValueError):
                if data.startswith(b"{"):
                    self.manifests["app", digest] = json.loads(data).get("mediaType") or MANIFEST, data

    def name(self, tag: str, content: Content, *, served_as: str | None = None, name: str = "app") -> None:
        """Point `tag` to content that `hold` was given; `served_as` is another Content-Type for it."""
        media_type, data = self.manifests["app", content.digest]
        for reference in (tag, content.digest):
            self.manifests[name, reference] = served_as or media_type, data

    # -- look-ups -----------------------------------------------------------------------------------

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Method and target of each request."""
        return [(request.method, request.target) for request in self.seen]

    def count(self, kind: str, *methods: str) -> int:
        """How many requests `Request.is_for` matches."""
        return sum(each.is_for(kind, *methods) for each in self.seen)

    def tags(self, name: str) -> list[str]:
        """The repository's tags."""
        return sorted(each for other, each in self.manifests if other == name and ":" not in each)

    def document(self, name: str, reference: str) -> dict[str, Any]:
        """A manifest that it has, parsed."""
        found: dict[str, Any] = json.loads(self.manifests[name, reference][1])
        return found

    def find(self, name: str, reference: str) -> tuple[str, bytes]:
        """Content-Type and bytes of the manifest that it serves; no bytes: none."""
        found = self.manifests.get((name, reference), ("", b""))
        if not found[1] and self.resolves_digest_tags:
            found = self.manifests.get((name, reference.replace("sha256-", "sha256:")), found)
        if not found[1] and self.is_mixed and self.blobs.get(reference, b"").startswith(b"{"):
            data = self.blobs[reference]
            return json.loads(data).get("mediaType") or MANIFEST, data
        return found

    def has(self, name: str, reference: str, digest: str) -> bool:
        """Whether the reference leads to the manifest, and all content below it is here."""
        _, data = self.manifests.get((name, reference), ("", b""))
        if digest_of(data) != digest:
            return False
        children = json.loads(data).get("manifests", ())
        return not self.missing(name, data) and all(
            self.has(name, each["digest"], each["digest"]) for each in children
        )

    def missing(self, name: str, data: bytes) -> list[str]:
        """The digests that the manifest lists and the registry does not have."""
        document = json.loads(data)
        blobs = [*filter(None, [document.get("config")]), *document.get("layers", [])]
        lost = [each["digest"] for each in blobs if each["digest"] not in self.blobs]
        children = document.get("manifests", [])
        return lost + [each["digest"] for each in children if not self.find(name, each["digest"])[1]]

    # -- replies -------------------------------------------------------------------------------------

    def reply(self, request: Request) -> Reply:
        """The reply to a request."""
        self.seen.append(request)
        reply = self.before(request) if self.before is not None else None
        if reply is None:
            with self._lock:
                reply = self.usual(request)
        if self.after is not None:
            self.after(request, reply)
        return reply

    def usual(self, request: Request) -> Reply:
        """The reply of an ordinary registry."""
        if request.path in ("/v2", "/v2/"):
            return Reply.json({})
        if request.path == "/v2/_catalog":
            return Reply.json({"repositories": sorted({name for name, _ in self.manifests})})
        parts = _PATH.fullmatch(request.path)
        if parts is None:
            return Reply.error(404, "NAME_UNKNOWN")
        name, kind, rest = parts.groups()
        if kind in self.refused:
            return Reply(self.refused[kind])
        match kind:
            case "tags" if any(other == name for other, _ in self.manifests):
                return Reply.json({"name": name, "tags": self.tags(name)})
            case "tags":
                return Reply.error(404, "NAME_UNKNOWN")
            case "referrers":
                return self._referrers(name, rest)
            case "manifests" if request.method == "PUT":
                return self._put(name, rest, request)
            case "manifests":
                return self._get(name, rest)
            case "blobs":
                return self._blob(name, rest, request)
        return self._upload(name, rest, request)

    def _get(self, name: str, reference: str) -> Reply:
        media_type, data = self.find(name, reference)
        if not data:
            return Reply.error(404, "MANIFEST_UNKNOWN")
        return Reply(200, data, {"Content-Type": media_type, "Docker-Content-Digest": digest_of(data)})

    def _put(self, name: str, reference: str, request: Request) -> Reply:
        if self.is_strict and (missing := self.missing(name, request.body)):
            return Reply.error(404, "MANIFEST_BLOB_UNKNOWN", detail=missing)
        digest = digest_of(request.body)
        for each in (reference, digest):
            self.manifests[name, each] = request.headers.get("content-type", ""), request.body
        headers = {"Docker-Content-Digest": digest, "Location": f"/v2/{name}/manifests/{digest}"}
        subject = json.loads(request.body).get("subject") if self.has_referrers else None
        if subject:
            headers["OCI-Subject"] = subject["digest"]
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

    def _blob(self, name: str, digest: str, request: Request) -> Reply:
        if request.method == "HEAD" and ("blobs", digest) in self.reported:
            return Reply(200)
        data = self.private.get((name, digest), self.blobs.get(digest))
        if data is None:
            return Reply.error(404, "BLOB_UNKNOWN")
        data = self.damaged.get(digest, data)
        wanted = _RANGE.fullmatch(request.headers.get("range", ""))
        if wanted is None:
            return Reply(200, data)
        first, last = int(wanted[1]), int(wanted[2])
        return Reply(206, data[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(data)}"})

    def _upload(self, name: str, session: str, request: Request) -> Reply:
        if request.method == "POST":
            if request.query.get("mount") in self.mounted:
                return Reply(201)
            session = str(len(self.seen))
            self._uploads[session] = b""
        elif session not in self._uploads:
            return Reply.error(404, "BLOB_UPLOAD_UNKNOWN")
        elif request.method == "DELETE":
            del self._uploads[session]
            return Reply(204)
        else:
            self._uploads[session] += request.body
        if request.method == "PUT":
            return self._keep(name, request.query["digest"], self._uploads.pop(session))
        held = f"0-{max(0, len(self._uploads[session]) - 1)}"
        headers = {"Location": f"/v2/{name}/blobs/uploads/{session}", "Range": held}
        return Reply(202 if request.method in ("POST", "PATCH") else 204, b"", headers)

    def _keep(self, name: str, digest: str, data: bytes) -> Reply:
        if digest_of(data, digest.partition(":")[0]) != digest:
            return Reply.error(400, "DIGEST_INVALID")
        if digest not in self.lost:
            self.blobs[digest] = data
        headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}
        return Reply(201, b"", headers)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Clients may disconnect at any time."""


def _handler(registry: ScriptedRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            """Silent."""

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:
                self.close_connection = True

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = registry.reply(Request(self.command, self.path, headers, body))
            self.wfile.write(_encoded(reply, self.command))
            self.close_connection = self.close_connection or reply.cut is not None

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = serve

    return Handler


def _encoded(reply: Reply, method: str) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} Scripted"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    body = reply.body
    if reply.chunked:
        lines.append("Transfer-Encoding: chunked")
        pieces = [body[start : start + _PIECE] for start in range(0, len(body), _PIECE)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    elif reply.status not in (204, 304) and "content-length" not in {name.lower() for name in reply.headers}:
        lines.append(f"Content-Length: {len(body)}")
    if method == "HEAD" or reply.status in (204, 304):
        body = b""
    body = body[: reply.cut]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body

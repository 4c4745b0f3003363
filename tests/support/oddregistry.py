"""A registry in memory that a test bends: its `before` answers instead, its `after` changes answers."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import socketserver
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Odd:
    """An answer, sent as it stands. Content-Length is added, unless it is there or the body is `chunked`."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    chunked: bool = False

    def set(self, name: str, value: str) -> None:
        """Replace a header."""
        self.headers = [(key, old) for key, old in self.headers if key.lower() != name.lower()]
        self.headers.append((name, value))

    def get(self, name: str) -> str:
        """A header, or an empty string."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


@dataclass
class Asked:
    """A request. `target` has the query, `path` has not."""

    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        return {key: values[0] for key, values in parse_qs(self.target.partition("?")[2]).items()}


Before = Callable[[Asked], "Odd | None"]
After = Callable[[Asked, Odd], None]


class OddRegistry:
    """Listens on loopback until `close`."""

    def __init__(
        self, before: Before | None = None, after: After | None = None, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.before = before
        self.after = after
        self.asked: list[Asked] = []
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self._uploads: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port: int = self._server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def image(self, *layers: bytes, tag: str = "v1", layer_type: str = LAYER) -> str:
        """Put an image of these layers here; its digest."""
        config = json.dumps({"architecture": "amd64", "os": "linux", "is": tag}).encode()
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._keep(config, CONFIG),
            "layers": [self._keep(layer, layer_type) for layer in layers],
        }
        return self._tag(tag, json.dumps(document).encode(), MANIFEST)

    def has(self, tag: str, digest: str) -> bool:
        """Whether the tag means this manifest, with all of its blobs."""
        _, data = self.manifests.get(tag, ("", b""))
        if digest_of(data) != digest:
            return False
        document = json.loads(data)
        return all(entry["digest"] in self.blobs for entry in [document["config"], *document["layers"]])

    def answer(self, asked: Asked) -> Odd:
        """What is said to a request."""
        with self._lock:
            self.asked.append(asked)
            odd = (self.before and self.before(asked)) or self._answer(asked)
            if self.after is not None:
                self.after(asked, odd)
            return odd

    def _keep(self, data: bytes, media_type: str) -> dict[str, Any]:
        digest = digest_of(data)
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def _tag(self, tag: str, data: bytes, media_type: str) -> str:
        digest = digest_of(data)
        self.manifests[tag] = self.manifests[digest] = (media_type, data)
        return digest

    def _answer(self, asked: Asked) -> Odd:
        path = asked.path
        if path == "/v2/":
            return Odd()
        if match := re.fullmatch(r"/v2/a/b/manifests/(.+)", path):
            return self._manifest(asked, unquote(match[1]))
        if path == "/v2/a/b/blobs/uploads/" and asked.method == "POST":
            session = f"/v2/a/b/blobs/uploads/{len(self.asked)}"
            self._uploads[session] = b""
            return Odd(202, [("Location", session), ("Range", "0-0")])
        if path in self._uploads:
            return self._upload(asked)
        if (match := re.fullmatch(r"/v2/a/b/blobs/(sha256:.+)", path)) and match[1] in self.blobs:
            return self._blob(asked, self.blobs[match[1]])
        return Odd(404, body=b'{"errors": [{"code": "NOT_FOUND"}]}')

    def _manifest(self, asked: Asked, reference: str) -> Odd:
        if asked.method == "PUT":
            digest = self._tag(reference, asked.body, asked.headers["content-type"])
            return Odd(201, [("Docker-Content-Digest", digest), ("Location", f"/v2/a/b/manifests/{digest}")])
        if reference not in self.manifests:
            return Odd(404, body=b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')
        media_type, data = self.manifests[reference]
        return Odd(200, [("Content-Type", media_type), ("Docker-Content-Digest", digest_of(data))], data)

    def _upload(self, asked: Asked) -> Odd:
        if asked.method == "DELETE":
            del self._uploads[asked.path]
            return Odd(204)
        self._uploads[asked.path] += asked.body
        if asked.method != "PUT":
            held = f"0-{max(0, len(self._uploads[asked.path]) - 1)}"
            return Odd(202 if asked.method == "PATCH" else 204, [("Location", asked.path), ("Range", held)])
        data = self._uploads.pop(asked.path)
        if digest_of(data) != asked.query.get("digest"):
            return Odd(400, body=b'{"errors": [{"code": "DIGEST_INVALID"}]}')
        self.blobs[digest_of(data)] = data
        return Odd(201, [("Location", f"/v2/a/b/blobs/{digest_of(data)}")])

    def _blob(self, asked: Asked, data: bytes) -> Odd:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.headers.get("range", ""))
        if match is None:
            return Odd(200, [], data)
        first, last = int(match[1]), int(match[2])
        return Odd(206, [("Content-Range", f"bytes {first}-{last}/{len(data)}")], data[first : last + 1])


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are none of a test's business."""


def _handler(registry: OddRegistry) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:
                self.close_connection = True

        def serve(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            odd = registry.answer(Asked(self.command, self.path, headers, self.rfile.read(size)))
            lines = [f"HTTP/1.1 {odd.status} Odd", *(f"{name}: {value}" for name, value in odd.headers)]
            body = b"" if self.command == "HEAD" or odd.status in (204, 304) else odd.body
            if odd.chunked:
                lines.append("Transfer-Encoding: chunked")
                pieces = [odd.body[start : start + 5000] for start in range(0, len(odd.body), 5000)]
                body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
                body = b"" if self.command == "HEAD" else body
            elif odd.status not in (204, 304) and not odd.get("Content-Length"):
                lines.append(f"Content-Length: {len(odd.body)}")
            self.wfile.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = serve

    return Handler

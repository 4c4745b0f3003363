"""A source and a sink for layers of a hundred gigabytes, which store nothing.

    python -m benchmarks.giant PORT --layer DIGEST:SIZE [--layer …] [--hash]

Every layer is zeros: the source answers ranges of it from memory. The sink takes uploads in chunks, keeps
sessions however often their clients die, and counts bytes; with ``--hash`` it hashes them, and refuses a
wrong digest. ``GET /state`` gives what it counted: ``received``, the bytes of bodies, and for each session
``offset`` and ``first``: the offset of each chunk, and when its first byte came, in seconds of the monotonic
clock, which is the same for all processes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

PIECE = 1 << 20
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = b"{}"
TLS = 0x16
"""The first byte of a TLS handshake. Without an answer a client would wait a second before it tries HTTP."""


def sha256(data: bytes) -> str:
    """The digest of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def manifest_of(layers: list[tuple[str, int]]) -> bytes:
    """The manifest with these layers."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/vnd.example.model",
            "config": {
                "mediaType": "application/vnd.oci.empty.v1+json",
                "digest": sha256(CONFIG),
                "size": len(CONFIG),
            },
            "layers": [{"mediaType": LAYER, "digest": digest, "size": size} for digest, size in layers],
        }
    ).encode()


class Session:
    """An upload."""

    def __init__(self, hashes: bool) -> None:
        self.offset = 0
        self.first: list[tuple[int, float]] = []
        self.digest = hashlib.sha256() if hashes else None


class Giant(socketserver.ThreadingTCPServer):
    """The source and the sink; both have the repository of every name."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, layers: list[tuple[str, int]], *, hashes: bool) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        self.layers = dict(layers)
        self.manifest = manifest_of(layers)
        self.hashes = hashes
        self.sessions: dict[str, Session] = {}
        self.blobs: set[str] = set()
        self.manifests: dict[str, bytes] = {}
        self.received = 0
        self.guard = threading.Lock()

    def state(self) -> dict[str, Any]:
        """What was counted."""
        sessions = {name: {"offset": s.offset, "first": s.first} for name, s in self.sessions.items()}
        return {"received": self.received, "sessions": sessions, "manifests": list(self.manifests)}


class _Connection(socketserver.BaseRequestHandler):
    """Requests, one after the other. ``/v2/source/…`` is the source, ``/v2/sink/…`` the sink."""

    server: Giant
    request: socket.socket

    def setup(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def handle(self) -> None:
        scratch = bytearray(PIECE)
        try:
            while (head := self._head()) is not None:
                line, _, fields = head.partition("\r\n")
                method, target, _ = line.split(" ", 2)
                headers = {
                    name.strip().lower(): value.strip()
                    for name, _, value in (each.partition(":") for each in fields.split("\r\n"))
                }
                self._answer(method, target, headers, scratch)
        except (ConnectionError, ValueError):
            pass

    def _head(self) -> str | None:
        while b"\r\n\r\n" not in self.rest:
            piece = self.request.recv(65536)
            if not piece or piece[0] == TLS:
                return None
            self.rest += piece
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        return head.decode("latin-1")

    def _body(self, headers: dict[str, str], scratch: bytearray) -> Iterator[memoryview]:
        """The pieces of the request's body, in `scratch`. Raises ConnectionError when it is cut."""
        left = int(headers.get("content-length", "0"))
        view = memoryview(scratch)
        if left and self.rest:
            taken, self.rest = self.rest[:left], self.rest[left:]
            left -= len(taken)
            yield memoryview(taken)
        while left:
            count = self.request.recv_into(view[: min(left, PIECE)])
            if not count:
                raise ConnectionError
            left -= count
            yield view[:count]

    def _send(self, status: int, body: bytes = b"", *fields: str, method: str = "") -> None:
        head = "".join(f"{each}\r\n" for each in (*fields, f"Content-Length: {len(body)}"))
        self.request.sendall(
            f"HTTP/1.1 {status} .\r\n{head}\r\n".encode() + (b"" if method == "HEAD" else body)
        )

    def _answer(self, method: str, target: str, headers: dict[str, str], scratch: bytearray) -> None:
        url = urlsplit(target)
        is_sink, name = url.path.startswith("/v2/sink/"), url.path.rpartition("/")[2]
        if url.path == "/state":
            self._send(200, json.dumps(self.server.state()).encode())
        elif url.path in ("/v2", "/v2/"):
            self._send(200, b"{}")
        elif "/blobs/uploads" in url.path:
            self._upload(method, url.path, parse_qs(url.query), headers, scratch)
        elif "/manifests/" in url.path:
            self._manifest(method, is_sink, name, headers, scratch)
        elif "/blobs/" in url.path:
            self._blob(method, is_sink, name, headers)
        elif url.path.endswith("/tags/list") and not is_sink:
            self._send(200, b'{"name":"source/model","tags":["v1"]}')
        else:
            self._send(404, b'{"errors":[{"code":"NAME_UNKNOWN"}]}')

    def _manifest(
        self, method: str, is_sink: bool, reference: str, headers: dict[str, str], scratch: bytearray
    ) -> None:
        server = self.server
        if method == "PUT":
            data = b"".join(map(bytes, self._body(headers, scratch)))
            server.manifests |= {reference: data, sha256(data): data}
            self._send(201, b"", f"Docker-Content-Digest: {sha256(data)}", f"Location: /v2/{reference}")
            return
        found = server.manifests.get(reference) if is_sink else server.manifest
        if found is None:
            self._send(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}', method=method)
            return
        fields = f"Content-Type: {MANIFEST}", f"Docker-Content-Digest: {sha256(found)}"
        self._send(200, found, *fields, method=method)

    def _blob(self, method: str, is_sink: bool, digest: str, headers: dict[str, str]) -> None:
        size = len(CONFIG) if digest == sha256(CONFIG) else self.server.layers.get(digest)
        if size is None or (is_sink and digest not in self.server.blobs):
            self._send(404, b'{"errors":[{"code":"BLOB_UNKNOWN"}]}', method=method)
            return
        first, last, status = 0, size - 1, 200
        if "range" in headers:
            begin, _, end = headers["range"].removeprefix("bytes=").partition("-")
            first, last, status = int(begin), min(int(end or size - 1), size - 1), 206
        fields = f"Content-Length: {last + 1 - first}\r\nDocker-Content-Digest: {digest}\r\n"
        if status == 206:
            fields += f"Content-Range: bytes {first}-{last}/{size}\r\n"
        self.request.sendall(f"HTTP/1.1 {status} .\r\nAccept-Ranges: bytes\r\n{fields}\r\n".encode())
        if method == "GET" and digest == sha256(CONFIG):
            self.request.sendall(CONFIG[first : last + 1])
            return
        zeros, left = memoryview(bytes(PIECE)), last + 1 - first if method == "GET" else 0
        while left:
            self.request.sendall(zeros[: min(left, PIECE)])
            left -= min(left, PIECE)

    def _upload(
        self,
        method: str,
        path: str,
        query: dict[str, list[str]],
        headers: dict[str, str],
        scratch: bytearray,
    ) -> None:
        server = self.server
        name = path.rpartition("/")[2]
        if method == "POST":
            for _ in self._body(headers, scratch):
                pass
            (mount,) = query.get("mount", [""])
            if mount in server.blobs:
                self._send(201, b"", f"Docker-Content-Digest: {mount}", f"Location: /v2/sink/blobs/{mount}")
                return
            with server.guard:
                name = f"session{len(server.sessions)}"
                server.sessions[name] = Session(server.hashes)
            self._send(202, b"", f"Location: {path.rstrip('/')}/{name}", "Range: 0-0")
            return
        session = server.sessions.get(name)
        if session is None:
            self._send(404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
            return
        begin = headers.get("content-range", "").partition("-")[0]
        if begin and int(begin) != session.offset:
            self._send(416, b"", f"Location: {path}", f"Range: 0-{max(0, session.offset - 1)}")
            return
        if method in ("PATCH", "PUT"):
            offset = session.offset
            for piece in self._body(headers, scratch):
                if offset == session.offset:
                    session.first.append((offset, time.monotonic()))
                if session.digest is not None:
                    session.digest.update(piece)
                session.offset += len(piece)
                with server.guard:
                    server.received += len(piece)
        if method == "DELETE":
            del server.sessions[name]
            self._send(204)
        elif method == "PUT":
            (digest,) = query["digest"]
            if session.digest is not None and digest != f"sha256:{session.digest.hexdigest()}":
                self._send(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
                return
            server.blobs.add(digest)
            self._send(201, b"", f"Docker-Content-Digest: {digest}", f"Location: {path}")
        else:
            status = 202 if method == "PATCH" else 204
            self._send(status, b"", f"Location: {path}", f"Range: 0-{max(0, session.offset - 1)}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.giant")
    parser.add_argument("port", type=int)
    parser.add_argument("--layer", action="append", default=[], metavar="DIGEST:SIZE")
    parser.add_argument("--hash", action="store_true")
    given = parser.parse_args()
    layers = [(each.rpartition(":")[0], int(each.rpartition(":")[2])) for each in given.layer]
    with Giant(given.port, layers, hashes=given.hash) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()

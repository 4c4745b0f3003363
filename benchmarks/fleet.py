"""A light registry with a hundred thousand made-up tags, so that a benchmark measures its client.

    python -m benchmarks.fleet PORT --repositories 2000 --tags 50 [--half] [--plain]

It answers the catalog, lists of tags, Azure's lists of manifests (not with ``--plain``), and manifests and
blobs by GET and HEAD. Every tag is an image of its own: a config, a layer of its own and two layers that a
hundred repositories share. With ``--half`` it has every other tag. Nothing can be written. ``GET /requests``
gives the number of requests until then, by kind.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from collections import Counter
from urllib.parse import parse_qs, urlsplit

import uvloop

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
FAMILIES = 20  # of repositories with the same base layers
BASE_SIZES = (30_000_000, 5_000_000)
OWN_SIZE, CONFIG_SIZE = 4_000_000, 1500
_NOT_FOUND = b'{"errors":[{"code":"NAME_UNKNOWN"}]}'
_TIME = "2026-11-01T00:00:00Z"


def sha256(data: bytes) -> str:
    """The digest of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def name_of(repository: int) -> str:
    """The name of a repository; in the order of their numbers."""
    return f"group{repository // 100:02d}/app{repository:06d}"


def manifest_of(repository: int, tag: int) -> bytes:
    """The manifest of a tag."""
    family = repository % FAMILIES
    layers = [
        {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": sha256(seed), "size": size}
        for seed, size in (
            *((f"base {family} {number}".encode(), size) for number, size in enumerate(BASE_SIZES)),
            (f"layer {repository} {tag}".encode(), OWN_SIZE),
        )
    ]
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": sha256(f"config {repository} {tag}".encode()),
        "size": CONFIG_SIZE,
    }
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
    return json.dumps(document).encode()


class Fleet:
    """What the registry has."""

    def __init__(self, repositories: int, tags: int, *, half: bool, lists: bool) -> None:
        self.repositories = repositories
        self.tags = range(0, tags, 2 if half else 1)
        self.lists = lists
        self.digests = [
            [sha256(manifest_of(repository, tag)) for tag in range(tags)]
            for repository in range(repositories)
        ]
        self.found = {
            digest: (repository, tag)
            for repository, digests in enumerate(self.digests)
            for tag, digest in enumerate(digests)
        }
        self.shared = {
            sha256(f"base {family} {number}".encode()): size
            for family in range(FAMILIES)
            for number, size in enumerate(BASE_SIZES)
        }
        self.requests: Counter[str] = Counter()

    def answer(self, method: str, target: str) -> tuple[int, str, bytes, str]:
        """Status, content type, body and more headers."""
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/requests":
            return 200, "application/json", json.dumps(self.requests).encode(), ""
        if url.path in ("/v2/", "/v2"):
            return self._json("ping", {})
        if url.path == "/v2/_catalog":
            return self._catalog(query)
        if url.path.startswith("/acr/v1/"):
            return self._manifests(url.path.removeprefix("/acr/v1/").removesuffix("/_manifests"), query)
        name, _, rest = url.path.removeprefix("/v2/").rpartition("/")
        name, _, kind = name.rpartition("/")
        number = self._number(name)
        if number is None:
            return self._missing(kind)
        if kind == "manifests":
            return self._manifest(method, number, rest)
        if kind == "blobs":
            self.requests[f"{method} blob"] += 1
            size = self.shared.get(rest)
            headers = f"Docker-Content-Digest: {rest}\r\nContent-Length: {size}\r\n"
            return (404, "", b"", "") if size is None else (200, "application/octet-stream", b"", headers)
        if kind != "tags":
            return self._missing(kind)
        return self._json("tags", {"name": name, "tags": [f"v{tag}" for tag in self.tags]})

    def _number(self, name: str) -> int | None:
        text = name.rpartition("/app")[2]
        return int(text) if text.isdigit() and int(text) < self.repositories else None

    def _catalog(self, query: dict[str, str]) -> tuple[int, str, bytes, str]:
        first = (self._number(query["last"]) or 0) + 1 if "last" in query else 0
        stop = min(first + int(query.get("n", "100")), self.repositories)
        names = [name_of(number) for number in range(first, stop)]
        link = f'Link: </v2/_catalog?n={stop - first}&last={names[-1]}>; rel="next"\r\n' if names else ""
        return self._json("catalog", {"repositories": names}, link if stop < self.repositories else "")

    def _manifests(self, name: str, query: dict[str, str]) -> tuple[int, str, bytes, str]:
        number = self._number(name)
        if not self.lists or number is None:
            return 404, "text/plain", b"404 page not found\n", ""
        digests = self.digests[number]
        places = sorted((digests[tag], tag) for tag in self.tags)
        rest = [each for each in places if each[0] > query.get("last", "")]
        page = rest[: int(query.get("n", "100"))]
        entries = [
            {
                "digest": digest,
                "imageSize": 0,
                "createdTime": _TIME,
                "lastUpdateTime": _TIME,
                "mediaType": MANIFEST,
                "tags": [f"v{tag}"],
                "changeableAttributes": {"deleteEnabled": True, "writeEnabled": True},
            }
            for digest, tag in page
        ]
        link = (
            f'Link: </acr/v1/{name}/_manifests?n={len(page)}&last={page[-1][0]}>; rel="next"\r\n'
            if page
            else ""
        )
        return self._json("list", {"manifests": entries}, link if len(page) < len(rest) else "")

    def _manifest(self, method: str, number: int, reference: str) -> tuple[int, str, bytes, str]:
        self.requests[f"{method} manifest"] += 1
        if reference.startswith("v"):
            tag = int(reference[1:])
        else:
            found = self.found.get(reference)
            if found is None or found[0] != number:
                return 404, "application/json", _NOT_FOUND, ""
            tag = found[1]
        if tag not in self.tags:
            return 404, "application/json", _NOT_FOUND, ""
        headers = f"Docker-Content-Digest: {self.digests[number][tag]}\r\n"
        return 200, MANIFEST, manifest_of(number, tag), headers

    def _missing(self, kind: str) -> tuple[int, str, bytes, str]:
        self.requests[f"missing {kind}"] += 1
        return 404, "application/json", _NOT_FOUND, ""

    def _json(self, kind: str, document: object, headers: str = "") -> tuple[int, str, bytes, str]:
        self.requests[kind] += 1
        return 200, "application/json", json.dumps(document).encode(), headers


class _Connection(asyncio.Protocol):
    """Requests without bodies, one after the other."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's are of no class of asyncio

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            line = self._received[: self._received.find(b"\r\n")].decode("latin-1")
            self._received = self._received[end + 4 :]
            method, target, _ = line.split(" ", 2)
            self._respond(method, *self._fleet.answer(method, target))

    def _respond(self, method: str, status: int, kind: str, body: bytes, headers: str) -> None:
        assert self._transport is not None
        head = f"HTTP/1.1 {status} .\r\nContent-Type: {kind}\r\n{headers}"
        if "Content-Length" not in headers:
            head += f"Content-Length: {len(body)}\r\n"
        self._transport.write(f"{head}\r\n".encode() + (b"" if method == "HEAD" else body))


async def serve(port: int, fleet: Fleet) -> None:
    """Serve on loopback until it is cancelled."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(fleet), "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet")
    parser.add_argument("port", type=int)
    parser.add_argument("--repositories", type=int, default=2000)
    parser.add_argument("--tags", type=int, default=50)
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--plain", action="store_true")
    given = parser.parse_args()
    fleet = Fleet(given.repositories, given.tags, half=given.half, lists=not given.plain)
    uvloop.run(serve(given.port, fleet))


if __name__ == "__main__":
    main()

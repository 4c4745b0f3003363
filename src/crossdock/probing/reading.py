"""A registry as a reader sees it: its kind, its login, how it serves blobs and how fast. # network

Nothing is written. Ranges and rates are those of the largest blob that is found in a repository.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crossdock.errors import CrossdockError, NotFound, TransportError
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.manifest import parse_manifest
from crossdock.oci.mediatype import is_foreign_layer
from crossdock.protocol import endpoints
from crossdock.protocol.byterange import parse_content_range, range_header
from crossdock.protocol.challenge import parse_challenges
from crossdock.registry.blobs.blob import RegistryBlob
from crossdock.registry.client import NONE, RegistryClient
from crossdock.registry.http.headers import HeaderView
from crossdock.registry.kinds import Ranges
from crossdock.registry.repository import RegistryRepository
from crossdock.url import Url

MOST_READ = 256 << 20  # bytes of blobs in all
LEVELS = (1, 2, 4, 8, 16)  # connections
LEVEL_S = 4.0  # seconds for one of them
GROWS = 1.1  # times the best rate so far, without which more connections are not tried
ROUND_TRIPS = 5
MOST_TAGS = 8  # in which the largest blob is looked for
MOST_CHILDREN = 4  # of an index
_PART = 4 << 20  # bytes of one request, as a copy has them
_LEAST_PART = 64 << 10
_PIECE = 64 << 10  # bytes that tell whether a range is right
_HEADERS = ("x-jfrog-version", "gitlab-container-registry-version", "server")  # that name the software
_PROXIES = (
    "nginx",
    "cloudflare",
    "openresty",
    "envoy",
    "istio-envoy",
    "awselb",
    "haproxy",
    "caddy",
    "apache",
)


@dataclass
class Blobs:
    """How blobs are served; None: not measured."""

    ranges: Ranges | None = None
    redirects: str | None = None  # host[:port]
    bytes_per_second: dict[str, int] | None = None  # by connections
    best_connections: int | None = None
    bytes_read: int = 0


@dataclass
class Shown:
    """The registry's statements about itself."""

    software: str | None
    login: str
    round_trip_ms: float


async def look_at(client: RegistryClient, repository: RegistryRepository | None) -> Shown:
    """Its login, and how long a small request takes. The responses show the client its kind.

    Raises `Unauthorized` and `Denied` for a login that is refused, `TransportError`, and as requests do.
    """
    base = Url.of((await client.base_url()).origin, endpoints.base())
    reply = await client.ask("GET", base)
    if reply.status == 404:
        raise client.error_from(reply.status, reply.headers, reply.body, "GET", base)
    login, software = _login(reply.headers), _software(reply.headers)
    if login != "none":
        scope = repository.scope if repository is not None else NONE
        own = await client.request("GET", endpoints.base(), scope=scope, ok=(200, 401))
        if own.status == 401 and client.auth.has_shown_credentials:
            raise client.error_from(own.status, own.headers, own.body, "GET", base)
        software = software or _software(own.headers)
    seconds = []
    for _ in range(ROUND_TRIPS):
        started = time.perf_counter()
        await client.ask("GET", base)
        seconds.append(time.perf_counter() - started)
    return Shown(software, login, round(statistics.median(seconds) * 1000, 3))


async def largest_blob(repository: RegistryRepository) -> Descriptor | None:
    """The largest blob of some of its images; None without one. Raises `NotFound` for no such repository."""
    tags = await repository.tags()
    found: list[Descriptor] = []
    for tag in [*tags[-MOST_TAGS // 2 :], *tags[: MOST_TAGS // 2]][:MOST_TAGS]:
        try:
            named = await repository.resolve(tag)
            found += await _blobs_of(repository, named, MOST_CHILDREN)
        except (NotFound, ValueError):  # deleted meanwhile, or no manifest that is understood
            continue
    return max(found, key=lambda each: each.size, default=None)


async def _blobs_of(repository: RegistryRepository, named: Descriptor, children: int) -> list[Descriptor]:
    manifest = parse_manifest(await repository.fetch_manifest(named), named.media_type)
    found = [each for each in manifest.layers if not is_foreign_layer(each.media_type)]
    for child in manifest.manifests[:children]:
        found += await _blobs_of(repository, child, 0)
    return found


async def read_blob(repository: RegistryRepository, blob: Descriptor) -> Blobs:
    """How the blob is served, and at which rates."""
    found = Blobs()
    found.ranges, found.redirects, found.bytes_read = await _try_ranges(repository, blob)
    found.bytes_per_second = {}
    best = 0.0
    ranged = found.ranges == "honoured"
    for level in LEVELS if ranged else LEVELS[:1]:
        most = (MOST_READ - found.bytes_read) // (len(LEVELS) - LEVELS.index(level))
        rate, count = await _rate(repository, blob, level, most, ranged=ranged)
        found.bytes_read += count
        found.bytes_per_second[str(level)] = round(rate)
        if rate > best:
            found.best_connections = level
        if best and rate < best * GROWS:
            break
        best = max(best, rate)
    return found


async def _try_ranges(repository: RegistryRepository, blob: Descriptor) -> tuple[Ranges, str | None, int]:
    """The responses to requests for ranges, the hosts that gave them, and how many bytes were read."""
    size = min(_PIECE, blob.size // 3)
    if not size:
        return "honoured", None, 0
    first = (blob.size - size) // 2
    pieces: list[bytes] = []
    redirects: str | None = None
    verdict: Ranges = "honoured"
    for start in (first, first + size // 2):
        stop = start + size
        path = endpoints.blob(repository.path, blob.digest)
        headers = (("Accept-Encoding", "identity"), ("Range", range_header(start, stop)))
        stream = await repository.client.open(path, scope=repository.scope, headers=headers)
        try:
            if stream.url.origin != repository.client.origin:
                redirects = stream.url.origin.authority
            if stream.status == 200:
                return "ignored", redirects, size * len(pieces)
            given = parse_content_range(stream.headers.get("Content-Range", ""))
            if stream.status != 206 or given is None or (given.start, given.stop) != (start, stop):
                return "wrong", redirects, size * len(pieces)
            pieces.append(await stream.exchange.read(size))
        except (CrossdockError, ValueError):
            verdict = "wrong"
        finally:
            stream.exchange.close()
    half = size // 2
    if verdict == "honoured" and pieces[0][half:] != pieces[1][: size - half]:
        verdict = "wrong"
    return verdict, redirects, size * len(pieces)


class _Counter:
    """A `content.ByteSink` that keeps nothing, for several readers, and ends them after `most` bytes."""

    def __init__(self, most: int) -> None:
        self._room = memoryview(bytearray(256 << 10))
        self._most = most
        self.count = 0
        self.tasks: Sequence[asyncio.Task[None]] = ()

    def get_buffer(self) -> memoryview | None:
        left = self._most - self.count
        return self._room[:left] if left > 0 else None

    def received(self, count: int) -> None:
        self.count += count
        if self.count >= self._most:
            for task in self.tasks:
                task.cancel()


async def _rate(
    repository: RegistryRepository, blob: Descriptor, connections: int, most: int, *, ranged: bool
) -> tuple[float, int]:
    """Bytes a second over so many connections, and the bytes read: `most`, but no longer than `LEVEL_S`.

    Without `ranged` the whole blob is requested, whatever its size, and its first bytes are read.
    """
    stop = min(blob.size, most)
    part = max(_LEAST_PART, min(_PART, -(-stop // (2 * connections))))
    starts = iter(range(0, stop, part))
    source, counter = RegistryBlob(repository, blob), _Counter(most)
    started = time.perf_counter()

    async def work(starts: Iterable[int]) -> None:
        for start in starts:
            if not ranged:
                body = await source.open(0, blob.size)
            else:
                body = await source.open(start, min(start + part, stop))
            try:
                await body.receive(counter)
            finally:
                body.close()
            if body.stop - body.start > part:  # it came whole
                return

    counter.tasks = tasks = [asyncio.ensure_future(work(starts)) for _ in range(connections)]
    _, late = await asyncio.wait(tasks, timeout=LEVEL_S)
    for task in late:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    seconds = time.perf_counter() - started
    for result in results:
        if isinstance(result, CrossdockError) and not isinstance(result, TransportError):
            raise result
    return counter.count / max(seconds, 1e-9), counter.count


def _login(headers: HeaderView) -> str:
    schemes = {each.scheme for each in parse_challenges(headers.getall("WWW-Authenticate"))}
    return next((each for each in ("bearer", "basic") if each in schemes), "none")


def _software(headers: HeaderView) -> str | None:
    for name in _HEADERS:
        value = str(headers.get(name, "")).strip()[:100]
        if value and not value.lower().startswith(_PROXIES):
            return f"GitLab container registry {value}" if name.startswith("gitlab") else value
    return None

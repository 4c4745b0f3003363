"""Facts about kinds of registries, as data: a row for each, with its hosts.

A row says how uploads go (rules U1-U5 and U11), and which limits are published. An entry of the inventory
chooses one for its registry by name, and limits of its own (``upload:``). Other hosts are known by their
names, or have the standard.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from crossdock.errors import InvalidOption
from crossdock.options import ChunkLimits, MiB
from crossdock.protocol.acrtoken import AZURE_DOMAINS

ANY_SIZE = 1 << 62  # bytes


class Dialect(Struct, frozen=True, kw_only=True):
    """How one kind of registry is recognised, how it takes uploads, and the limits that are published."""

    hosts: tuple[str, ...] = ()  # names in lower case, in which * stands for any text
    may_chunk: bool = True
    chunks: ChunkLimits = ChunkLimits()  # sizes of the requests of a chunked upload
    single_put: int | None = None  # bytes of the largest blob for one PUT; None: `chunks.most`
    most_chunks: int | None = None  # of one blob; a larger chunk is the smaller evil
    trust_range: bool = True  # False: `Range` of a 2xx does not say what was stored
    last_in_put: bool = False  # the last bytes go with the closing PUT
    lists: str | None = None  # the API that lists its manifests (`listings`); empty: none; None: not known
    largest_blob: int | None = None  # bytes
    requests_per_minute: float | None = None
    pulls_per_minute: float | None = None  # of manifests by GET, where only those count


DIALECTS: dict[str, Dialect] = {
    "standard": Dialect(),
    # U4: GHCR answers 416 to a PATCH over 4 MiB, GAR and GCR to any.
    "no-chunks": Dialect(may_chunk=False),
    # GitHub states 10 GB a layer (aquaproj/aqua#4018).
    "ghcr": Dialect(hosts=("ghcr.io",), may_chunk=False, lists="", largest_blob=10_000_000_000),
    # Google's quotas: a project and region.
    "google": Dialect(
        hosts=("gcr.io", "*.gcr.io", "*.pkg.dev"),
        may_chunk=False,
        lists="google",
        requests_per_minute=60_000,
    ),
    # A free account's pulls; without a login it is a tenth (docker/hub-feedback#2511).
    "docker-hub": Dialect(hosts=("docker.io", "registry-1.docker.io"), lists="", pulls_per_minute=100 / 60),
    # ACR answered 413 to requests of more than 20 MB (goharbor/harbor#23015, #23016). Microsoft's limits for
    # the tiers Basic and Standard; Premium has twice as many requests.
    "acr": Dialect(
        hosts=tuple(f"*{domain}" for domain in AZURE_DOMAINS),
        single_put=20_000_000,
        chunks=ChunkLimits(most=16 * MiB),
        lists="azure",
        largest_blob=200 << 30,
        requests_per_minute=5_000,
    ),
    # ECR documents parts of 5 to 10 MiB and at most 4200 of them, and takes a PUT of any size. Its endpoints
    # for IPv6 are below on.aws, as ACCOUNT.dkr-ecr.REGION.on.aws.
    "ecr": Dialect(
        hosts=(
            "*.dkr.ecr*.amazonaws.com",
            "*.dkr.ecr*.amazonaws.com.cn",
            "*.dkr-ecr*.on.aws",
        ),
        single_put=ANY_SIZE,
        chunks=ChunkLimits(least=5 * MiB, most=10 * MiB),
        most_chunks=4200,
        trust_range=False,
        last_in_put=True,
        lists="ecr",
        largest_blob=52_000 * MiB,
    ),
}
DIALECTS["ecr-public"] = replace(
    DIALECTS["ecr"], hosts=("public.ecr.aws",), lists="", largest_blob=10_000 * MiB
)


def dialect_of(
    host: str, name: str = "", chunks: ChunkLimits | None = None, dialects: Mapping[str, Dialect] = DIALECTS
) -> Dialect:
    """The dialect of ``host[:port]``: that called `name`, or by the host. `chunks` replaces its limits.

    The first of `dialects` stands for hosts that none of them names. Raises `InvalidOption` for an unknown
    name.
    """
    if name and name not in dialects:
        raise InvalidOption(f"there is no upload dialect {name!r}; known are {', '.join(dialects)}")
    dialect = dialects[name] if name else _by_host(host.partition(":")[0].lower().rstrip("."), dialects)
    if chunks is None:
        return dialect
    single_put = dialect.single_put if chunks.most is None else chunks.most
    return replace(dialect, chunks=chunks, single_put=single_put, may_chunk=True)


def _by_host(host: str, dialects: Mapping[str, Dialect]) -> Dialect:
    for dialect in dialects.values():
        if any(_matches(host, pattern) for pattern in dialect.hosts):
            return dialect
    return next(iter(dialects.values()))


def _matches(host: str, pattern: str) -> bool:
    """As `fnmatch`, which would compile each pattern, without its other wild cards."""
    first, *others = pattern.split("*")
    if not others:
        return host == pattern
    if not host.startswith(first):
        return False
    at = len(first)
    for text in others[:-1]:
        found = host.find(text, at)
        if found < 0:
            return False
        at = found + len(text)
    return host.endswith(others[-1], at)

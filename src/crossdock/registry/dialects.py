"""What is known of kinds of registries, as data: a row for each, and the hosts that it is for.

A row says how uploads go (rules U1-U5 and U11). An entry of the inventory chooses one for its registry by
name, and limits of its own (``upload:``). Other hosts are known by their names, or have the standard.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from crossdock.errors import InvalidOption
from crossdock.options import ChunkLimits, MiB
from crossdock.protocol.acrtoken import is_azure_host

ANY_SIZE = 1 << 62  # bytes


class Dialect(Struct, frozen=True, kw_only=True):
    """How one kind of registry takes uploads."""

    may_chunk: bool = True
    chunks: ChunkLimits = ChunkLimits()  # sizes of the requests of a chunked upload
    single_put: int | None = None  # bytes of the largest blob for one PUT; None: `chunks.most`
    most_chunks: int | None = None  # of one blob; a larger chunk is the smaller evil
    trust_range: bool = True  # False: `Range` of a 2xx does not say what was stored
    last_in_put: bool = False  # the last bytes go with the closing PUT


DIALECTS: Mapping[str, Dialect] = {
    "standard": Dialect(),
    # U4: GHCR answers 416 to a PATCH over 4 MiB, GAR and GCR to any.
    "no-chunks": Dialect(may_chunk=False),
    # ACR answered 413 to requests of more than 20 MB (goharbor/harbor#23015, #23016).
    "acr": Dialect(single_put=20_000_000, chunks=ChunkLimits(most=16 * MiB)),
    # ECR documents parts of 5 to 10 MiB and at most 4200 of them, and takes a PUT of any size.
    "ecr": Dialect(
        single_put=ANY_SIZE,
        chunks=ChunkLimits(least=5 * MiB, most=10 * MiB),
        most_chunks=4200,
        trust_range=False,
        last_in_put=True,
    ),
}

_HOSTS = {"ghcr.io": "no-chunks", "gcr.io": "no-chunks", "public.ecr.aws": "ecr"}
_DOMAINS = {".gcr.io": "no-chunks", ".pkg.dev": "no-chunks"}
_ECR_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".on.aws")


def dialect_of(host: str, name: str = "", chunks: ChunkLimits | None = None) -> Dialect:
    """The dialect of ``host[:port]``: that called `name`, or by the host. `chunks` replaces its limits.

    Raises `InvalidOption` for an unknown name.
    """
    name = name or _name_of(host.partition(":")[0].lower().rstrip("."))
    if name not in DIALECTS:
        raise InvalidOption(f"there is no upload dialect {name!r}; known are {', '.join(DIALECTS)}")
    dialect = DIALECTS[name]
    if chunks is None:
        return dialect
    single_put = dialect.single_put if chunks.most is None else chunks.most
    return replace(dialect, chunks=chunks, single_put=single_put, may_chunk=True)


def _name_of(host: str) -> str:
    if host in _HOSTS:
        return _HOSTS[host]
    if is_azure_host(host):
        return "acr"
    if ".dkr.ecr" in host and host.endswith(_ECR_DOMAINS):
        return "ecr"
    return next((name for domain, name in _DOMAINS.items() if host.endswith(domain)), "standard")

"""One registry looked at and, if wanted, written to. # network"""

from __future__ import annotations

from dataclasses import dataclass

from crossdock.errors import InvalidReference
from crossdock.oci.reference import Reference
from crossdock.options import CopyOptions
from crossdock.probing.reading import Blobs, Shown, largest_blob, look_at, read_blob
from crossdock.probing.writing import Writer, Written
from crossdock.registry.kinds import Kind
from crossdock.registry.repository import RegistryRepository
from crossdock.runs.places import Places


@dataclass
class Probed:
    """The findings. ``written`` is None unless writing was tried."""

    registry: str  # host[:port] of references
    kind: Kind
    is_plain: bool  # it speaks plain HTTP
    token_seconds: float | None  # how long a token lasts, as `Authenticator.token_seconds`
    shown: Shown
    blobs: Blobs
    written: Written | None


def place_of(text: str) -> tuple[Reference, bool]:
    """Its reference, and whether ``HOST[/REPOSITORY]`` names a repository. Raises `InvalidReference`."""
    host, _, path = text.removeprefix("docker://").partition("/")
    if not host:
        raise InvalidReference(f"{text!r} does not begin with a registry's host")
    location = Reference.parse(f"{host}/{path or 'x'}", default_tag=None)
    if (location.tag or location.digest) and path:
        message = f"{text} names one image, and a registry or a repository is probed"
        raise InvalidReference(message, operation="parse", reference=text)
    if host.lower() not in (location.registry, location.api_host):
        message = f"{text} does not begin with a registry's host"
        raise InvalidReference(message, operation="parse", reference=text)
    return location, bool(path)


async def probe(text: str, options: CopyOptions, *, writes: bool) -> Probed:
    """Look at ``HOST[/REPOSITORY]``, with the options' source side; `writes`: try what it takes as well.

    Raises `InvalidReference`, `NotFound` for a repository that does not exist, and as requests do.
    """
    location, has_repository = place_of(text)
    async with Places(options) as places:
        client = places.client(location, "source")
        repository = RegistryRepository(client, location, writes=writes) if has_repository else None
        shown = await look_at(client, repository)
        blobs, written = Blobs(), None
        if repository is not None:
            blob = await largest_blob(repository)
            if blob is not None:
                blobs = await read_blob(repository, blob)
            if writes:
                written = await Writer(repository).run()
        # The kind, and the life of a token, may show in any of the responses.
        is_plain = client.origin.scheme == "http"
        return Probed(
            location.registry, client.kind, is_plain, client.auth.token_seconds, shown, blobs, written
        )

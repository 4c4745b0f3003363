"""From a name to the manifest that it means at the source."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from crossdock.content import Source
from crossdock.errors import (
    Advice,
    CopyError,
    DigestMismatch,
    NotFound,
    root_cause,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.steps import during


async def resolve(
    source: Source, reference: str, name: str, digest: str | None, doing: str = "copy"
) -> Descriptor:
    """The manifest that `name`, a tag or digest, means at the source; a given `digest` must agree. # network

    Errors call it `reference`. Raises `DigestMismatch` when tag and digest do not agree.
    """
    with during("resolve", "source", reference):
        named = await source.resolve(name)  # network
        if digest is not None and named.digest != digest:
            raise DigestMismatch(
                f"{name} is {named.digest}, not {digest}",
                advice=Advice(
                    "omit-digest",
                    f"the tag has moved: drop it to {doing} the digest, or the digest to {doing} the tag",
                ),
                expected=digest,
                actual=named.digest,
            )
        return named


async def fetch_named(
    fetch: Callable[[Descriptor], Awaitable[bytes]],
    named: Descriptor,
    resolve_again: Callable[[], Awaitable[Descriptor]],
) -> tuple[Descriptor, bytes]:
    """The manifest of `named`; if it is gone, the one that its name means by now. # network

    The tag may have moved since, or a stale HEAD may have named a manifest that is gone.
    """
    try:
        return named, await fetch(named)
    except (CopyError, NotFound) as error:
        if not isinstance(root_cause(error), NotFound):
            raise
        other = await resolve_again()
        if other.digest == named.digest:
            raise
    return other, await fetch(other)

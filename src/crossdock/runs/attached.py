"""Tags of digests (cosign's ``sha256-HEX.sig``) that a copy would change at its targets.

They are copied with the image and written before its tags. A caller that may change nothing there compares
both sides beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from crossdock.content import Source, Target
from crossdock.errors import CopyError, CrossdockError, NotFound, was_refused
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.reference import Reference
from crossdock.reading import read_manifest
from crossdock.steps import during
from crossdock.tasks import run_together
from crossdock.transfer.attachedtags import compare_aside
from crossdock.transfer.referrers import DEPTH
from crossdock.transfer.sides import find_attached


class Taken(Struct, frozen=True):
    """A tag of a digest under which a target has other content than the source."""

    reference: Reference
    before: Digest
    after: Digest  # the source's


async def taken_tags(
    source: Source, root: Descriptor, data: bytes | None, targets: Iterable[tuple[Reference, Target]]
) -> list[Taken]:
    """The conflicts among everything attached to `root` and to manifests below it, recursively. # network

    `data`: the root's bytes if the source does not have them. If the source cannot be queried, the copy will
    report it. Raises `CopyError`.
    """
    places = list(targets)
    taken: list[Taken | None] = []
    seen: set[Digest] = set()
    level = await _graph(source, root, data)
    for _ in range(DEPTH):
        level = [each for each in {each.digest: each for each in level}.values() if each.digest not in seen]
        seen |= {each.digest for each in level}
        found = await run_together([_attached(source, each) for each in level])
        level = [referrer for referrers, _ in found for referrer in referrers]
        for tag in dict.fromkeys(tag for _, tags in found for tag in tags):
            named = await _named(source, tag)
            if named is not None:
                level.append(named)
                taken += await run_together([_taken(source, named, tag, *place) for place in places])
    return [each for each in taken if each is not None]


async def _graph(source: Source, root: Descriptor, data: bytes | None) -> list[Descriptor]:
    """The root and the manifests below it."""
    found: dict[Digest, Descriptor] = {}
    waiting = [(root, data)]
    while waiting:
        manifest, known = waiting.pop()
        if manifest.digest in found:
            continue
        found[manifest.digest] = manifest
        if manifest.is_index:
            with during("fetch manifest from", "source", f"{source.name}@{manifest.digest}"):
                document = known or await source.fetch_manifest(manifest)  # network
                below = (await read_manifest(document, manifest.media_type)).manifests
            waiting += [(each, None) for each in below]
    return list(found.values())


async def _attached(source: Source, subject: Descriptor) -> tuple[list[Descriptor], list[str]]:
    try:
        return await find_attached(source, subject.digest)  # network
    except CrossdockError:
        return [], []


async def _named(source: Source, tag: str) -> Descriptor | None:
    with during("resolve", "source", f"{source.name}:{tag}"):
        try:
            return await source.resolve(tag)  # network
        except NotFound:  # deleted since it was listed
            return None


async def _taken(
    source: Source, named: Descriptor, tag: str, place: Reference, target: Target
) -> Taken | None:
    reference = Reference(place.registry, place.repository, tag)
    try:
        with during("resolve", "target", str(reference)):
            there = await target.find_manifest(tag)  # network
    except CopyError as error:
        if not was_refused(error):
            raise
        return None  # a login that may only push: the copy replaces nothing that it cannot see
    if there is None or (before := Digest.of(there, named.digest.algorithm)) == named.digest:
        return None
    with during("fetch manifest from", "source", f"{source.name}@{named.digest}"):
        compared = await compare_aside(await source.fetch_manifest(named), there)  # network
    return Taken(reference, before, named.digest) if compared.means != "target" or compared.own else None

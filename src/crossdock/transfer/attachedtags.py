"""Tags by which clients attach content to a manifest, where source and target have different manifests there.

cosign makes ``sha256-HEX.sig``, ``.att`` and ``.sbom`` of a digest, and clients of registries without the
referrers API keep lists under ``sha256-HEX``. Signing at the target adds to its tag, so
the target's content there may be nowhere else: it is never replaced by less.

1. The source has everything that the target has: its manifest takes the place of the target's, unchanged.
   The other way round nothing is to be done.
2. Signatures and attestations are layers, and `cosign sign` appends layers. So those that the target lacks
   are appended to its manifest. Its config stays as it is: cosign reads the layers that the manifest lists.
3. Everything else stays what it is at the target.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from msgspec import Struct

from crossdock.oci import mediatype
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.reading import aside, read_manifest
from crossdock.steps import during
from crossdock.tally import Tally

_APPENDED = frozenset(
    {"application/vnd.dev.cosign.simplesigning.v1+json", "application/vnd.dsse.envelope.v1+json"}
)


class Settled(Struct, frozen=True):
    """The tag's manifest after the copy: the ``source``'s, the ``target``'s, or a ``merged`` one."""

    means: Literal["source", "target", "merged"]
    data: bytes = b""
    added: int = 0  # layers of the source
    own: int = 0  # layers, or entries, that only the target has; those of an unknown kind count as one


async def settle(
    found: Descriptor, data: bytes, there: bytes, shown: str, tally: Tally
) -> tuple[Descriptor, bytes]:
    """The manifest that is to be under the tag `shown`, which is `data` at the source, `there` at the target.

    Tells when something of the target's stays. Raises `CopyError` when the target's cannot be read.
    """
    result = await compare_aside(data, there)
    if result.means == "source":
        return found, data
    if result.means == "merged":
        tally.warn(
            f"{shown} has {result.own} of the target's own, which stay; {result.added} of the source's were "
            "added, so its digest is new"
        )
    elif result.own:
        tally.warn(
            f"{shown} is not replaced: the target has other content there than the source; "
            "delete that tag to get the source's"
        )
    kept = result.data or there
    with during("read manifest of", "target", shown):
        media_type = (await read_manifest(kept)).media_type
    return Descriptor(media_type, Digest.of(kept, found.digest.algorithm), len(kept)), kept


async def compare_aside(source: bytes, target: bytes) -> Settled:
    """`compare`, in a thread for large documents."""
    return await aside(lambda both: compare(*both), (source, target), size=len(source) + len(target))


def compare(source: bytes, target: bytes) -> Settled:
    """The new meaning of a tag that means the manifest `source` there and another one, `target`, here."""
    theirs = _parts(target)
    ours = _parts(source)
    if ours is None or theirs is None or ours.name != theirs.name:
        return Settled("target", own=1)
    missing = [part for key, part in ours.parts.items() if key not in theirs.parts]
    own = len(theirs.parts.keys() - ours.parts.keys())
    if not own:
        return Settled("source")
    if not missing:
        return Settled("target")
    if theirs.name != "layers":
        return Settled("target", own=own)
    document = {**theirs.document, "layers": [*theirs.document["layers"], *missing]}
    data = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return Settled("merged", data, added=len(missing), own=own)


class _Parts(Struct, frozen=True):
    document: dict[str, Any]
    name: Literal["layers", "manifests"]
    parts: dict[str, Any]  # the descriptors, by what tells them apart


def _parts(data: bytes) -> _Parts | None:
    """The list in a manifest that can be compared part by part; None: it has none."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or ("layers" in document) == ("manifests" in document):
        return None
    name: Literal["layers", "manifests"] = "layers" if "layers" in document else "manifests"
    parts = document[name]
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        return None
    if name == "manifests":
        return _Parts(document, name, {str(part.get("digest")): part for part in parts})
    if any(mediatype.bare(str(part.get("mediaType"))) not in _APPENDED for part in parts):
        return None
    # Two signatures of one digest may have the same payload: the signature itself is an annotation.
    return _Parts(document, name, {json.dumps(part, sort_keys=True): part for part in parts})

"""What both sides of a mirror have, repository by repository: the values that a survey yields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from crossdock.content import ManifestRow
from crossdock.oci.digest import Digest
from crossdock.oci.reference import LayoutReference, Reference

ProblemKind = Literal["too_large", "name", "collision", "existing", "denied", "unsupported"]


class Problem(Struct, frozen=True):
    """Something of a mirror that cannot be done, or is left as it is. `reference` is what it is about."""

    kind: ProblemKind
    reference: str
    detail: str


class TargetView(Struct, frozen=True, kw_only=True):
    """One repository of a target: what the chosen tags mean there, and every tag if it was listed.

    `listed` is None when the target was only asked about the chosen tags. `error`: it could not be asked.
    """

    repository: Reference
    tags: Mapping[str, Digest]
    digests: frozenset[Digest] = frozenset()  # of manifests that a bulk list shows there
    listed: frozenset[str] | None = None
    exists: bool = True
    error: Exception | None = None


class RepositoryView(Struct, frozen=True, kw_only=True):
    """One repository of the source, and the same at each target.

    `tags` are the chosen ones with what they mean at the source, `untagged` the manifests without a tag if
    they are wanted, `listed` every tag that the source has there, `rows` what a bulk list says of manifests.
    `error`: the repository could not be listed or resolved as a whole; then it has no tags.
    """

    name: str  # below the source's prefix
    source: Reference | LayoutReference
    targets: tuple[TargetView, ...]
    tags: Mapping[str, Digest] = {}
    untagged: tuple[Digest, ...] = ()
    listed: frozenset[str] = frozenset()
    rows: Mapping[Digest, ManifestRow] = {}
    errors: Mapping[str, Exception] = {}  # of single tags, such as one that is not there any more
    error: Exception | None = None

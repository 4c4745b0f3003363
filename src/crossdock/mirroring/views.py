"""The content of both sides of a mirror, repository by repository: the values that a survey yields."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Literal

from msgspec import Struct

from crossdock.content import ManifestRow
from crossdock.oci.attachedtag import STEM
from crossdock.oci.digest import Digest
from crossdock.oci.reference import LayoutReference, Reference

ProblemKind = Literal["too_large", "name", "collision", "existing", "denied", "unsupported"]


def is_digest(name: str) -> bool:
    """Whether a name in a view is that of a manifest without a tag. Tags of layouts may have colons too."""
    return name.startswith(("sha256:", "sha512:"))


def place_of(repository: Reference | LayoutReference) -> str:
    """A repository or layout, as people write it."""
    return repository.locator if isinstance(repository, Reference) else str(repository)


def shown(repository: str, name: str) -> str:
    """A name in the repository, as people write it; "" is the repository itself."""
    return f"{repository}{'@' if is_digest(name) else ':'}{name}" if name else repository


class Problem(Struct, frozen=True):
    """Something of a mirror that cannot be done, or is left as it is. `reference` is what it is about."""

    kind: ProblemKind
    reference: str
    detail: str


class TargetView(Struct, frozen=True, kw_only=True):
    """One repository of a target: what tags mean there, and every tag if it was listed.

    `tags` has the chosen ones that exist there, and all others that a bulk list shows. `digests` are
    manifests that are there: all of a bulk list, else those of the chosen untagged ones. `listed` is None
    when the target was only asked about the chosen tags. `settled` are the names (tags, or digests without
    one) that are done there, about which nothing was asked.

    `error`: the target could not be asked, or refused (`errors.was_refused`), so that what it has is not
    known or not known in full; a copy may still succeed. `repository` is None, and `error` an
    `InvalidReference`, when the name is not valid at the target.
    """

    name: str  # as people write it: host/repository
    repository: Reference | None
    tags: Mapping[str, Digest] = {}
    digests: frozenset[Digest] = frozenset()
    listed: frozenset[str] | None = None
    settled: frozenset[str] = frozenset()
    exists: bool = True
    error: Exception | None = None


class RepositoryView(Struct, frozen=True, kw_only=True, dict=True):
    """One repository of the source, and the same at each target, in the entry's order.

    `tags` are the chosen ones with what they mean at the source, lists of referrers (`listed_subject`) first;
    `untagged` are the manifests without a tag, if they are wanted. Neither has what is settled at all
    targets. `listed` is every tag that the source has there (None: it was not asked), `rows` what a bulk list
    says of manifests; `has_all_rows`: of those without a tag too. `media_types` are those that were told.

    `error`: the repository could not be listed; then it has no tags.
    """

    name: str  # below the source's prefix; empty for a layout
    source: Reference | LayoutReference
    targets: tuple[TargetView, ...]
    tags: Mapping[str, Digest] = {}
    untagged: tuple[Digest, ...] = ()
    listed: frozenset[str] | None = None
    rows: Mapping[Digest, ManifestRow] = {}
    has_all_rows: bool = False
    media_types: Mapping[Digest, str] = {}
    errors: Mapping[str, Exception] = {}  # of single names, such as a tag that is not there any more
    error: Exception | None = None

    @property
    def names(self) -> frozenset[str]:
        """The names in the view, also those that the source does not resolve."""
        return frozenset((*self.tags, *self.untagged, *self.errors))

    @cached_property
    def digest_tags(self) -> frozenset[str]:
        """All tags of the repository that are made of digests."""
        return frozenset(tag for tag in self.listed or () if tag.startswith(STEM))

    @cached_property
    def without_tag(self) -> frozenset[Digest]:
        """The manifests in `rows` that have no tag."""
        return frozenset(row.digest for row in self.rows.values() if not row.tags)

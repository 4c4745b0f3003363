"""The names that are copied: their form in displays, and the receiver of each outcome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct, field

from crossdock.events import TagOutcome, tag_outcome
from crossdock.mirroring.views import is_digest, place_of, shown
from crossdock.oci.digest import Digest
from crossdock.oci.reference import LayoutReference, Reference
from crossdock.runs.one import CopyResult
from crossdock.runs.results import PairResult
from crossdock.runs.totals import Totals

_NOT_YET = ("…", "…")


class Place(Struct, frozen=True):
    """One repository of an entry at one of its targets. `name` is that below the source's prefix."""

    entry: int
    target: int
    name: str
    source: Reference | LayoutReference
    repository: str  # host/repository of the target, as people write it


class Names(Struct, frozen=True, eq=False):
    """Names of one manifest at one target, and the index of the copy that each is.

    A name is a tag, a digest of a manifest without one, or "" for a whole repository, which has failed then.
    `digest` is empty where it is not known, `media_type` likewise. `there` is as of a `group.Share`.
    """

    place: Place
    indices: Mapping[str, int]
    digest: str
    media_type: str = ""
    there: Mapping[str, Digest | None] = field(default_factory=dict)

    def pair(self, name: str) -> tuple[str, str]:
        """Source and target of one of the names, as people write them."""
        return _pair(self.place, name)

    def tag(self, name: str, result: CopyResult | None = None) -> tuple[TagOutcome | None, str | None]:
        """Whether the tag `name` is new, was moved or is unchanged, and its digest before.

        `result`: of the copy of the first name. Both are None for a manifest without a tag, and if it is not
        known what the target had.
        """
        if result is not None and result.target == self.pair(name)[1]:
            return result.tag, result.previous_digest
        if is_digest(name) or name not in self.there:
            return None, None
        return tag_outcome(self.there[name], result.digest if result is not None else self.digest)


class Sink(Protocol):
    """The receiver of the outcome of every name. May not block for long."""

    def unchanged(self, names: Names) -> None:
        """The target has these already."""

    def expected(self, names: Names) -> None:
        """These are to be copied."""

    def ended(self, names: Names, result: PairResult) -> None:
        """These were copied together, or failed together. `result` is of the first."""

    def completed(self, place: Place) -> None:
        """Nothing of the repository failed, and nothing is left."""


class Window:
    """The copies that are listed and not done, as displays name them. Its length counts all listed."""

    def __init__(self, totals: Totals) -> None:
        self._open: dict[int, tuple[Place | str, str]] = {}
        self._totals = totals
        self._count = 0

    def __len__(self) -> int:
        return self._totals.images_found

    def __getitem__(self, index: int) -> tuple[str, str]:
        first, second = self._open.get(index, _NOT_YET)
        return _pair(first, second) if isinstance(first, Place) else (first, second)

    def add(self, pair: tuple[Place | str, str], images: int = 1) -> int:
        """The index of one more copy, named by place and name, or source and target.

        Without `images` it is not counted.
        """
        index = self._count
        self._count += 1
        self._open[index] = pair
        self._totals.images_found += images
        return index

    def pairs(self) -> list[tuple[str, str]]:
        """Source and target of those that are not done."""
        return [self[index] for index in self._open]

    def end(self, index: int) -> None:
        """The copy is done."""
        self._open.pop(index, None)


def _pair(place: Place, name: str) -> tuple[str, str]:
    """Source and target of the name, as people write them."""
    return shown(place_of(place.source), name), shown(place.repository, name)

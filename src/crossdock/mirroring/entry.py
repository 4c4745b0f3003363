"""One mirror of a migration file: which part of a source goes where, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from msgspec import Struct

from crossdock.errors import Advice, InvalidInput
from crossdock.mirroring.choice import TagChoice
from crossdock.mirroring.names import Namespace, check, full_name
from crossdock.mirroring.patterns import Patterns
from crossdock.mirroring.rename import Naming
from crossdock.oci.attachedtag import is_attached_tag
from crossdock.oci.digest import Digest
from crossdock.oci.reference import LayoutReference, Reference
from crossdock.oci.text import quote
from crossdock.options import Existing

DeleteMode = Literal["off", "report", "delete"]

ReferrersMode = Literal["warn", "off", "required"]
"""``warn``: referrers are copied, one that cannot be copied is a warning; ``required``: it is a failure."""


class Deletes(Struct, frozen=True, kw_only=True):
    """The treatment of the target's tags that the source no longer has.

    If there are more than `max_tags` of a target, or more than `max_percent` of its tags in the repositories
    that the source still lists, nothing is deleted, which is a failure. `grace` is in seconds from the first
    run that saw the tag missing.
    """

    mode: DeleteMode = "off"
    max_tags: int = 100
    max_percent: float = 5.0
    grace: float = 7 * 86400.0


def parse_source(text: str, folder_of: Callable[[str], str] = str) -> Namespace | LayoutReference:
    """A mirror's source: a part of a registry, or ``oci:DIR``, of which `folder_of` makes the whole path.

    Raises `InvalidInput`.
    """
    if not text.startswith("oci:"):
        return Namespace.parse(text)
    layout = LayoutReference.parse(text)
    if layout.tag is not None or layout.digest is not None:
        raise InvalidInput(f"{quote(text)} names one image; oci:DIR is the folder, and tags are chosen in it")
    return LayoutReference(folder_of(layout.path))


class Entry(Struct, frozen=True, kw_only=True):
    """A mirror: a source, its targets, what is chosen and how it is named there.

    `place` is ``FILE:LINE`` for messages, empty for the command line. For a layout the repository is the
    target's prefix itself.
    """

    name: str
    source: Namespace | LayoutReference
    targets: tuple[Namespace, ...]
    repositories: Patterns = Patterns()
    tags: TagChoice = TagChoice()
    untagged: bool = False
    platforms: tuple[str, ...] = ()
    referrers: ReferrersMode = "warn"
    naming: Naming = Naming()
    existing: Existing = "overwrite"
    deletes: Deletes = Deletes()
    place: str = ""

    def check(self) -> None:
        """Raise `InvalidInput` for invalid patterns, ranges and names, for a source and targets that overlap,
        and for options that a layout cannot have.
        """
        source = self.source if isinstance(self.source, Namespace) else None
        check(source, self.targets)
        self.repositories.check()
        self.tags.check()
        self.naming.check()
        if source is not None:
            for name in self.named or ():
                source.reference(name)
            return
        if not all(each.prefix for each in self.targets):
            raise InvalidInput("a layout is copied to HOST[:PORT]/REPOSITORY, this is a host alone")
        if self.repositories != Patterns() or self.naming != Naming():
            raise InvalidInput("a layout is one repository, named by the target")
        if self.tags.needs_times:
            raise InvalidInput("a layout has no push times", advice=Advice("omit-times", side="source"))

    @property
    def named(self) -> list[str] | None:
        """The repositories, where all are named without patterns; None: the catalog is needed."""
        names = self.repositories.names
        if names is None or isinstance(self.source, LayoutReference):
            return None
        full = dict.fromkeys(full_name(self.source, each) for each in names)
        left_out = Patterns((), self.repositories.exclude)
        return [name for name in full if left_out.wants(name)]

    def choose(self, pushed: Mapping[str, float | None], now: float) -> list[str]:
        """As `TagChoice.choose`. Without referrers, tags made of digests have to be asked for."""
        chosen = self.tags.choose(pushed, now)
        if self.referrers != "off":
            return chosen
        return [tag for tag in chosen if not is_attached_tag(tag) or self.tags.asks_for(tag)]

    def target_name(self, name: str) -> str:
        """The name below a target's prefix of the source's repository `name`; empty for a layout."""
        return "" if isinstance(self.source, LayoutReference) else self.naming.target_name(name)

    def source_reference(
        self, name: str, tag: str | None = None, digest: Digest | None = None
    ) -> Reference | LayoutReference:
        """Content of the source's repository `name`, below the prefix."""
        if isinstance(self.source, LayoutReference):
            return replace(self.source, tag=tag, digest=digest)
        return self.source.reference(name, tag, digest)

    def target_reference(
        self, target: Namespace, name: str, tag: str | None = None, digest: Digest | None = None
    ) -> Reference:
        """Content of the source's repository `name` (below the prefix) as it is called at `target`.

        Raises `InvalidInput` for a name that is not valid there.
        """
        below = self.target_name(name)
        if below or target.prefix == "":
            return target.reference(below, tag, digest)
        return Reference(target.registry, target.prefix, tag, digest)

"""The choice of content to mirror: a place in a registry, and patterns of names there."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from crossdock.errors import (
    Advice,
    InvalidInput,
)
from crossdock.oci.digest import Digest
from crossdock.oci.reference import Reference
from crossdock.oci.registryname import DOCKER_HUB, registry_key
from crossdock.oci.text import quote

_LAYOUTS = ("oci:", "oci-archive:", "docker-archive:", "dir:", "docker-daemon:")


class Namespace(Struct, frozen=True):
    """``HOST[:PORT][/PREFIX]``: the repositories of a registry, or those below a prefix."""

    registry: str
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> Namespace:
        """The namespace that `text` names. Raises `InvalidInput`."""
        if text.startswith(_LAYOUTS):
            raise InvalidInput(
                f"{quote(text)} is no registry",
                advice=Advice("correct-name", "only registries can be mirrored to or from by name"),
            )
        host, _, prefix = text.removeprefix("docker://").removesuffix("/").partition("/")
        if not ("." in host or ":" in host or host.lower() != host or host == "localhost"):
            raise InvalidInput(
                f"{quote(text)} names no registry",
                advice=Advice(
                    "correct-name",
                    "a registry is HOST[:PORT], with /PREFIX for a part of it, or a name of the inventory",
                ),
            )
        try:
            registry = Reference.parse(f"{host}/any/repository").registry
        except InvalidInput:
            shown = "leave the scheme out" if prefix.startswith("/") else "a registry is HOST[:PORT]"
            raise InvalidInput(
                f"{quote(text)} does not begin with a registry's host[:port]",
                advice=Advice("correct-name", shown),
            ) from None
        found = cls(registry, prefix)
        found.reference("repository")
        return found

    def reference(self, name: str, tag: str | None = None, digest: Digest | None = None) -> Reference:
        """Content of the repository `name` below the prefix. Raises `InvalidInput` for an invalid name."""
        repository = f"{self.prefix}/{name}" if self.prefix else name
        return Reference(self.registry, repository, tag, digest)

    def name_of(self, repository: str) -> str | None:
        """The repository's name below the prefix; None when it is elsewhere."""
        if not self.prefix:
            return repository
        start = f"{self.prefix}/"
        return (
            repository[len(start) :]
            if len(repository) > len(start) and repository.startswith(start)
            else None
        )

    def overlaps(self, other: Namespace) -> bool:
        """Whether a repository can be in both."""
        if registry_key(self.registry) != registry_key(other.registry):
            return False
        mine, theirs = (f"{each.prefix}/" if each.prefix else "" for each in (self, other))
        return mine.startswith(theirs) or theirs.startswith(mine)

    def __str__(self) -> str:
        return f"{self.registry}/{self.prefix}" if self.prefix else self.registry


def check(source: Namespace | None, targets: Iterable[Namespace]) -> None:
    """Raise `InvalidInput` for places that hold a part of each other, and for no target.

    A source that is no registry overlaps nothing.
    """
    targets = tuple(targets)
    if not targets:
        raise InvalidInput("there is no target")
    places = [source] if source is not None else []
    for target in targets:
        for other in places:
            if target.overlaps(other):
                raise InvalidInput(
                    f"{target} and {other} hold the same repositories",
                    advice=Advice(
                        "use-another-target",
                        "mirror to another registry, or beside it: HOST/one to HOST/other",
                    ),
                )
        places.append(target)


def full_name(source: Namespace, name: str) -> str:
    """The repository's name below the prefix: Docker Hub's official images are below ``library/``."""
    is_official = source.registry == DOCKER_HUB and not source.prefix and "/" not in name
    return f"library/{name}" if is_official else name

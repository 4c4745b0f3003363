"""The tags of an import with several targets: all of them, or as few as can be.

Registries write one tag at a time. So tags that exist go first, for what they replace can be put back, and a
registry that protects tags refuses there. When one fails, those that were written are undone: an older tag
gets its manifest again, a new one is deleted, by its name alone (specification 1.1, end-9), which leaves
manifests alone. Distribution 2 and others refuse that; then the tag stays and the error says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from crossdock.errors import (
    Advice,
    CrossdockError,
    TransportError,
    root_cause,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.reference import Reference
from crossdock.runs.places import Places
from crossdock.transfer.steps import during
from crossdock.transfer.tally import Tally

if TYPE_CHECKING:
    from crossdock.registry.repository import RegistryRepository


class TargetState(Struct, frozen=True):
    """One target, and what its tag meant before the import; None: there was no such tag, or there is none.

    ``is_known``: it was looked at. The login may have the right to push alone.
    """

    reference: Reference
    found: Descriptor | None
    is_known: bool = True

    @property
    def before(self) -> str:
        """The digest that the tag had, or an empty string."""
        return self.found.digest if self.found else ""


async def write_tags(
    targets: Sequence[TargetState], root: Descriptor, data: bytes, places: Places, tally: Tally
) -> None:
    """Let every tag of `targets` mean `root`, whose content is in all their repositories. # network

    Raises `CopyError`; its advice says which tags are not what they were.
    """
    waiting = [each for each in targets if each.reference.tag and each.before != root.digest]
    waiting.sort(key=lambda each: each.found is None)
    written: list[TargetState] = []
    try:
        for each in waiting:
            target = await _open(each, places, tally)
            with during("push manifest to", "target", str(each.reference)):
                await target.push_manifest(root, data, each.reference.tag)  # network
            written.append(each)
    except BaseException as error:
        left = await _undo(written, places, tally)
        if left:
            names = ", ".join(f"{each.reference.repository}:{each.reference.tag}" for each in left)
            tally.warn(f"{names}: tagged before the import failed, and could not be undone")
        if not isinstance(error, CrossdockError):
            raise
        text = f"tagged before, and still there: {names}" if left else "no tag was changed"
        raise error.replace(advice=Advice("check-tags", text)) from error.__cause__


async def _undo(written: list[TargetState], places: Places, tally: Tally) -> list[TargetState]:
    """Make the tags what they were, the last one first; those for which that did not work. # network"""
    left = list(written)
    for each in reversed([each for each in written if each.is_known]):
        target = await _open(each, places, tally)
        try:
            if each.found is None:
                await target.delete_tag(cast("str", each.reference.tag))  # network
            else:
                old = await target.fetch_manifest(each.found)  # network
                await target.push_manifest(each.found, old, each.reference.tag)  # network
        except CrossdockError as error:
            if isinstance(root_cause(error), TransportError):
                break  # nobody is there; every further tag would wait as long to find that out
        else:
            left.remove(each)
    return left


async def _open(state: TargetState, places: Places, tally: Tally) -> RegistryRepository:
    return cast("RegistryRepository", await places.open(state.reference, "target", tally.retried))

"""The tags of an import with several targets: all of them, or as few as possible.

Registries write one tag at a time. So existing tags go first: they can be restored, and a registry that
protects tags refuses them before a new tag exists. When one fails, those already written are undone: an
existing tag gets its old manifest back, a new one is deleted by name (specification 1.1, end-9), which keeps
its manifest. Distribution 2 and others refuse such a delete; then the tag stays and the error says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from msgspec import Struct

from crossdock.errors import Advice, CrossdockError, TransportError, root_cause
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.reference import Reference
from crossdock.runs.places import Places
from crossdock.steps import during
from crossdock.tally import Tally


class TargetState(Struct, frozen=True):
    """One target, and its tag's descriptor before the import; None for a new tag, or a target without one.

    ``is_known``: it could be resolved; a login may be permitted only to push.
    """

    reference: Reference
    found: Descriptor | None
    is_known: bool = True

    @property
    def before(self) -> str:
        """The tag's digest before the import, or an empty string."""
        return self.found.digest if self.found else ""


async def write_tags(
    targets: Sequence[TargetState], root: Descriptor, data: bytes, places: Places, tally: Tally
) -> None:
    """Set every tag of `targets` to `root`, whose content is in all their repositories. # network

    Raises `CopyError`; its advice says which tags are not what they were.
    """
    waiting = [each for each in targets if each.reference.tag and each.before != root.digest]
    waiting.sort(key=lambda each: each.found is None)
    written: list[TargetState] = []
    try:
        for each in waiting:
            target = await places.open(each.reference, "target", tally.retried)
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
    """Restore the tags, the last one first; returns those that could not be restored. # network"""
    left = list(written)
    for each in reversed([each for each in written if each.is_known]):
        target = await places.open(each.reference, "target", tally.retried)
        try:
            if each.found is None:
                await target.delete_tag(cast("str", each.reference.tag))  # network
            else:
                old = await target.fetch_manifest(each.found)  # network
                await target.push_manifest(each.found, old, each.reference.tag)  # network
        except CrossdockError as error:
            if isinstance(root_cause(error), TransportError):
                break  # unreachable: every further tag would wait as long
        else:
            left.remove(each)
    return left

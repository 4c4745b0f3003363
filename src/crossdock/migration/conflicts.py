"""Tags that two entries of a file would write, which only the sources' lists show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from crossdock.errors import Advice, CopyError, InvalidInput
from crossdock.mirroring.entry import Entry
from crossdock.mirroring.survey import LISTED_AT_ONCE, Survey
from crossdock.oci.attachedtag import is_attached_tag
from crossdock.oci.reference import LayoutReference
from crossdock.tasks import run_each

Names = Mapping[int, Sequence[str]]
"""The repositories of entries, by the entry's number."""

Writer = tuple[int, str]
"""An entry's number, and the repository of its source."""


def writers(entries: Sequence[Entry], names: Names) -> dict[str, list[Writer]]:
    """The repositories of targets that several entries write, and who does."""
    found: dict[str, list[Writer]] = {}
    for number, repositories in names.items():
        for target in entries[number].targets:
            for name in repositories:
                with suppress(InvalidInput):  # a name that is not valid there is no conflict
                    written = entries[number].target_reference(target, name).locator
                    found.setdefault(written, []).append((number, name))
    return {written: each for written, each in found.items() if len({number for number, _ in each}) > 1}


async def check_tags(
    entries: Sequence[Entry], written: Mapping[str, Sequence[Writer]], survey_of: Callable[[int], Survey]
) -> None:
    """Raise `InvalidInput` for a tag that two entries would write to one repository. # network

    Lists of what is chosen are asked for, of the repositories in `written` alone. One that cannot be listed
    is no conflict. Tags made of digests may be written by several: what they attach is put together.
    """
    surveys = {number: survey_of(number) for each in written.values() for number, _ in each}

    async def check(place: str) -> None:
        taken: dict[str, Writer] = {}
        for writer in written[place]:
            number, name = writer
            try:
                chosen = await surveys[number].chosen(name)
            except CopyError:
                continue
            for tag in chosen:
                if ":" in tag or is_attached_tag(tag):
                    continue
                first = taken.setdefault(tag, writer)
                if first[0] != number:
                    both = " and ".join(_shown(entries, each, tag) for each in (first, writer))
                    raise InvalidInput(
                        f"{both} are both copied to {place}:{tag}",
                        advice=Advice(
                            "correct-file", "choose other repositories, tags or targets in one mirror"
                        ),
                    )

    await run_each(written, check, LISTED_AT_ONCE)


def _shown(entries: Sequence[Entry], writer: Writer, tag: str) -> str:
    entry = entries[writer[0]]
    source = entry.source
    name = str(source) if isinstance(source, LayoutReference) else source.reference(writer[1]).locator
    return f"{name}:{tag} ({entry.place or entry.name})"

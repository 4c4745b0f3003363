"""Grouping repositories, or lines of a list, into jobs: those that share a repository stay together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from crossdock.mirroring.entry import Entry
from crossdock.mirroring.names import Namespace
from crossdock.oci.reference import Reference
from crossdock.runs.places import Place, Shared

JOBS_PER_SLOT = 8  # few enough that repositories of a job share connections, many enough to end together


class Item(Struct, frozen=True):
    """Something that one worker does. No two workers may work on one of its `places` at once."""

    key: Any
    places: frozenset[str]
    size: int = 0
    """Bytes to be moved, as far as they are known."""


def items_of(
    number: int, entry: Entry, names: Iterable[str], sizes: Mapping[str, int] | None = None
) -> Iterator[Item]:
    """Repositories of the entry with this number, by number and name. `sizes` are the bytes of some."""
    for name in names:
        there = [entry.target_reference(each, name).locator for each in entry.targets]
        source = entry.source_reference(name)
        places = frozenset((*there, source.locator if isinstance(source, Reference) else there[0]))
        yield Item((number, name), places, (sizes or {}).get(name, 0))


def grouped(items: Iterable[Item]) -> list[list[Item]]:
    """The items in groups: those that share a place are in one group."""
    group_of: dict[str, list[Item]] = {}
    groups: dict[int, list[Item]] = {}
    for item in items:
        group = [item]
        groups[id(group)] = group
        for place in item.places:
            other = group_of.get(place)
            if other is not None and other is not group:
                large, small = (other, group) if len(other) > len(group) else (group, other)
                large += small
                del groups[id(small)]
                for each in small:
                    group_of.update(dict.fromkeys(each.places & group_of.keys(), large))
                group = large
            group_of[place] = group
    return list(groups.values())


def balanced(groups: list[list[Item]], slots: int) -> list[list[Item]]:
    """The groups in jobs of about the same bytes, the largest first, for so many workers at once."""
    if not groups:
        return []
    parts: list[list[Item]] = [[] for _ in range(min(slots * JOBS_PER_SLOT, len(groups)))]
    loads = [(0, 0)] * len(parts)
    for group in sorted(groups, key=_load, reverse=True):
        least = min(range(len(parts)), key=loads.__getitem__)
        parts[least] += group
        size, number = _load(group)
        loads[least] = loads[least][0] + size, loads[least][1] + number
    return sorted(parts, key=_load, reverse=True)


def limited_hosts(ends: Iterable[Place | Namespace], shared: Shared) -> frozenset[str]:
    """The registries among these ends whose connections are limited."""
    limits = shared.places.limits
    if limits is None:
        return frozenset()
    registries = {end.registry for end in ends if isinstance(end, Reference | Namespace)}
    return frozenset(each for each in registries if limits.connections(each) is not None)


def _load(items: list[Item]) -> tuple[int, int]:
    return sum(each.size for each in items), len(items)

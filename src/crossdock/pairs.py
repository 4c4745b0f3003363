"""What a run of many copies is to do: pairs of source and target whose order plays no part.

Copies of one run go on at the same time. So a tag is the target of one pair only, and no pair reads a tag
that another one writes; a pair that is given twice is copied once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import overload

from crossdock.errors import InvalidInput
from crossdock.oci.reference import LayoutReference, Location, as_location
from crossdock.oci.registryname import registry_key

Pair = tuple[Location, Location]
_Tag = tuple[str, str, str]  # registry or "oci:", repository or folder, tag


class Pairs(Sequence[Pair]):
    """Pairs in the order given. `add` all of them, then `check`; `place` + number names one in an error."""

    def __init__(self, place: str = "pair ") -> None:
        self._place = place
        self._pairs: list[Pair] = []
        self._numbers: list[int] = []
        self._known: set[Pair] = set()
        self._writers: dict[_Tag, int] = {}  # tag → index of the pair that writes it

    def add(self, source: str | Location, target: str | Location, number: int) -> None:
        """Take one pair, unless it is known.

        Raises `InvalidInput`, naming the place, for what is no reference and for a tag that another pair
        writes.
        """
        pair = (self._parsed(source, "source", number), self._parsed(target, "target", number))
        if pair in self._known:
            return
        tag = _tag_of(pair[1])
        if tag is not None and self._writers.setdefault(tag, len(self._pairs)) != len(self._pairs):
            raise InvalidInput(
                f"{self._place}{number}: {pair[1]} is written by {self._place}{self._number_of(tag)} too",
                hint="which of the two stays would depend on their order; name one source for each target",
            )
        self._known.add(pair)
        self._pairs.append(pair)
        self._numbers.append(number)

    def check(self) -> None:
        """Raises `InvalidInput` when one pair reads what another one writes."""
        for index, (source, _) in enumerate(self._pairs):
            tag = _tag_of(source)
            if tag is not None and self._writers.get(tag, index) != index:
                raise InvalidInput(
                    f"{self._place}{self._numbers[index]}: {source} is written by "
                    f"{self._place}{self._number_of(tag)}",
                    hint="what is read would depend on their order; copy one list after the other",
                )

    def _number_of(self, tag: _Tag) -> int:
        return self._numbers[self._writers[tag]]

    def _parsed(self, text: str | Location, side: str, number: int) -> Location:
        try:
            return as_location(text)
        except InvalidInput as error:
            raise InvalidInput(f"{self._place}{number}: {side}: {error}", hint=error.hint) from None

    def __len__(self) -> int:
        return len(self._pairs)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | Sequence[Pair]:
        return self._pairs[index]


def _tag_of(location: Location) -> _Tag | None:
    """What is written when `location` is a target; None when that takes nothing from anybody."""
    if location.tag is None:
        return None
    if isinstance(location, LayoutReference):
        return "oci:", os.path.abspath(location.path), location.tag
    return registry_key(location.registry), location.repository, location.tag

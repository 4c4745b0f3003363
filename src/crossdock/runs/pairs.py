"""Pairs of source and target for a run of many copies, whose order plays no part.

Copies of one run are made at the same time. So a tag is the target of one pair only, and no pair reads a tag
that another one writes; a pair that is given twice is copied once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from crossdock.errors import (
    Advice,
    InvalidInput,
)
from crossdock.runs.places import AnySource, AnyTarget, Place, as_places

Pair = tuple[Place, Place]
_Tag = tuple[str, str, str]  # its `Location.place`, and the tag


class Pairs(Sequence[Pair]):
    """Pairs in the order given. `add` all of them, then `check`; `place` + number names one in an error."""

    def __init__(self, place: str = "pair ") -> None:
        self._place = place
        self._pairs: list[Pair] = []
        self._numbers: list[int] = []
        self._known: set[Pair] = set()
        self._writers: dict[_Tag, int] = {}  # tag → index of the pair that writes it

    def add(self, source: AnySource, target: AnyTarget, number: int) -> None:
        """Take one pair, unless it is known.

        Raises `InvalidInput`, naming the place, for an invalid reference and for a tag that another pair
        writes.
        """
        try:
            pair = as_places(source, target)
        except InvalidInput as error:
            raise error.replace(f"{self._place}{number}: {error}") from None
        if pair in self._known:
            return
        tag = _tag_of(pair[1])
        if tag is not None and self._writers.setdefault(tag, len(self._pairs)) != len(self._pairs):
            raise InvalidInput(
                f"{self._place}{number}: {pair[1]} is written by {self._place}{self._number_of(tag)} too",
                advice=Advice(
                    "correct-list",
                    "which of the two stays would depend on their order; name one source for each target",
                ),
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
                    advice=Advice(
                        "split-list",
                        "what is read would depend on their order; copy one list after the other",
                    ),
                )

    def lines(self) -> Iterator[range]:
        """The indices of the pairs that were added with the same number, one after the other."""
        start = 0
        for index, number in enumerate(self._numbers):
            if number != self._numbers[start]:
                yield range(start, index)
                start = index
        if self._numbers:
            yield range(start, len(self._numbers))

    def _number_of(self, tag: _Tag) -> int:
        return self._numbers[self._writers[tag]]

    def __len__(self) -> int:
        return len(self._pairs)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | Sequence[Pair]:
        return self._pairs[index]


def listed(pairs: Iterable[tuple[AnySource, AnyTarget]]) -> Pairs:
    """The pairs, checked. Raises `InvalidInput`."""
    checked = Pairs()
    for number, (source, target) in enumerate(pairs, 1):
        checked.add(source, target, number)
    checked.check()
    return checked


def _tag_of(place: Place) -> _Tag | None:
    """The tag that is written when `place` is a target; None when no other pair can read or write it."""
    return None if place.tag is None else (*place.place, place.tag)

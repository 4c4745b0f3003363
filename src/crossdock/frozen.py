"""Shared code of frozen dataclasses.

`dataclass` compiles comparison, hash and repr for each class anew, 0.25 ms of every start. Classes that a
copy loads inherit them from `Frozen` instead::

    @dataclass(frozen=True, slots=True, eq=False, repr=False)
    class Point(Frozen):
"""

from __future__ import annotations

from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import Field
    from typing import Any, ClassVar


class Frozen:
    """Base of frozen dataclasses: compares, hashes and shows the fields that say so, as `dataclass` does."""

    __slots__ = ()

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return bool(_compared(self) == _compared(other))

    def __hash__(self) -> int:
        return hash(_compared(self))

    def __repr__(self) -> str:
        shown = [field.name for field in self.__dataclass_fields__.values() if field.repr]
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{self.__class__.__qualname__}({values})"


_getters: dict[type, Callable[[Any], Any]] = {}  # by class: of the fields that count


def _compared(value: Any) -> Any:
    getter = _getters.get(value.__class__)
    if getter is None:
        names = (field.name for field in value.__dataclass_fields__.values() if field.compare)
        getter = _getters[value.__class__] = attrgetter(*names)
    return getter(value)

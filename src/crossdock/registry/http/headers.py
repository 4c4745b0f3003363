"""The headers of a response, by name in any case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class HeaderView(Mapping[str, str]):
    """A mapping that ignores case. Of a repeated header it gives the first, and all by `getall`."""

    __slots__ = ("_first", "_pairs")

    def __init__(self, pairs: Sequence[tuple[str, str]], by_name: Mapping[str, str] | None = None) -> None:
        """`pairs` have their names in lower case, as `transport.base.ResponseHead` gives them.

        So has `by_name`, which is used unless a header is repeated.
        """
        self._pairs = pairs
        if by_name is None or len(by_name) != len(pairs):
            by_name = dict(reversed(pairs))
        self._first = by_name

    @property
    def pairs(self) -> Sequence[tuple[str, str]]:
        """All of them, in order."""
        return self._pairs

    def __repr__(self) -> str:
        return f"<HeaderView {', '.join(name for name, _ in self._pairs)}>"  # values may be secret

    def __getitem__(self, name: str) -> str:
        return self._first[name.lower()]

    def get(self, name: str, default: Any = None) -> Any:
        """The header's first value, or `default`."""
        return self._first.get(name.lower(), default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def __len__(self) -> int:
        return len(self._first)

    def getall(self, name: str) -> list[str]:
        """Every value of the header, in order."""
        name = name.lower()
        return [value for other, value in self._pairs if other == name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._first


AnyHeaders = Mapping[str, str] | Sequence[tuple[str, str]]


def case_insensitive(headers: AnyHeaders) -> HeaderView:
    """Headers of any kind as a view."""
    if isinstance(headers, HeaderView):
        return headers
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return HeaderView([(name.lower(), value) for name, value in pairs])

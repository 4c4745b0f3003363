"""The result of a copy in one line of text, which fits into a terminal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol, TextIO

from crossdock.cli.failure import fold, is_terminal, window_of
from crossdock.units import format_duration, format_size

if TYPE_CHECKING:
    from crossdock.events import TagOutcome

_NARROWEST = 80  # columns; on fewer a line wraps, rather than losing the names
_READABLE = 32  # characters of a name; a digest is not worth making it shorter
_SHORTEST = 16


class Ended(Protocol):
    """A copy that has ended: a `CopyDone` or a `CopyResult`. Sizes in bytes."""

    @property
    def digest(self) -> str:
        """Of the target's content."""

    @property
    def tag(self) -> TagOutcome | None:
        """What became of its tag."""

    @property
    def previous_digest(self) -> str | None:
        """The tag's digest before the copy."""

    @property
    def bytes_moved(self) -> int:
        """Sent to the target."""

    @property
    def seconds(self) -> float:
        """From the first request to the written tag."""

    @property
    def changed(self) -> bool:
        """Whether anything was copied."""


def result_width(stream: TextIO) -> int | None:
    """The most characters of a line on `stream`; None: no limit. ``COLUMNS`` decides if it is set."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal():
        return max(_NARROWEST, int(columns))
    return max(_NARROWEST, window_of(stream).columns) if is_terminal(stream) else None


def result_line(
    source: str, target: str, ended: Ended, width: int | None, *, counts: str = "", note: str = ""
) -> str:
    """``copied A -> B  moved from sha256:0123456789ab  sha256:…  4.2 MiB in 1.3 s``.

    ``unchanged A -> B …`` when nothing was copied. With `width` it has at most so many characters: the
    digest is shortened, then size and digest are left out, and names that are too long even then lose their
    middle. Without, `counts` replace size and time. `note` names anything unusual about the copy; with
    `width` it must be short.
    """
    verb = "copied" if ended.changed else "unchanged"
    source, target = fold(source), fold(target)
    became = _became(ended)
    moved = f"{format_size(ended.bytes_moved)} in {format_duration(ended.seconds)}" if ended.changed else ""
    if width is None:
        return _joined(verb, f"{source} -> {target}", became, ended.digest, counts or moved) + note
    digest = short(ended.digest)
    for parts in ([became, digest, moved, note], [became, digest, note], [became, note]):
        line = _joined(verb, f"{source} -> {target}", *parts)
        if len(line) <= width:
            return line
    for least, parts in ((_READABLE, [became, digest, note]), (_SHORTEST, [became, note]), (0, [became])):
        room = width - len(_joined(verb, " -> ", *parts))
        if room >= 2 * least:
            break
    target = shortened_name(target, max(_SHORTEST, room - max(len(source), _SHORTEST), room // 2))
    source = shortened_name(source, max(_SHORTEST, room - len(target)))
    return _joined(verb, f"{source} -> {target}", *parts)


def short(digest: str) -> str:
    """The digest in short: algorithm and twelve digits."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm}:{encoded[:12]}"


def shortened_name(name: str, most: int) -> str:
    """`name` in at most `most` characters, without its middle: a reference differs most at its end."""
    if len(name) <= most:
        return name
    tail = (most - 1) * 2 // 3
    return f"{name[: most - 1 - tail]}…{name[len(name) - tail :]}"


def _became(ended: Ended) -> str:
    if ended.tag == "moved" and ended.previous_digest is not None:
        return f"moved from {short(ended.previous_digest)}"
    return ended.tag if ended.tag is not None and ended.changed else ""


def _joined(verb: str, names: str, *parts: str) -> str:
    return "  ".join(each for each in (f"{verb} {names}", *parts) if each)

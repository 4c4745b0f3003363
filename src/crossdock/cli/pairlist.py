"""The list of ``--from-file``: a line is ``SOURCE TARGET [TARGET …]``, or a source alone with ``--to``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from crossdock.cli.exits import UsageError
from crossdock.cli.values import location
from crossdock.errors import Advice, InvalidInput
from crossdock.runs.pairs import Pairs

if TYPE_CHECKING:
    from crossdock.mirroring.names import Namespace

MOST_LINES = 1_000_000  # a pair takes about 1 KB of memory
_MAX_LINE = 64 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_pairs(path: str, to: Namespace | None = None) -> Pairs:
    """The pairs of the list in file `path` (``-``: stdin), completely read and checked.

    White space separates source and targets; a source without one goes below `to`, where the path below its
    host is kept. A ``#`` at the start of a word begins a comment; empty lines are skipped. Raises
    `UsageError` with file and line. Lines that are not a pair are never quoted: they may hold passwords.
    """
    place = "stdin" if path == "-" else path
    pairs = Pairs(f"{place}:")
    try:
        with _open(path) as file:
            for number, line in _lines(file, place):
                words = _words(line, f"{place}:{number}")
                if words is None:
                    continue
                source, *targets = words
                for target in targets or [_target(source, to, f"{place}:{number}")]:
                    pairs.add(location(source), location(target), number)
        pairs.check()
    except InvalidInput as error:
        raise UsageError(str(error), advice=error.advice, command="crossdock copy") from None
    except OSError as error:
        raise UsageError(
            f"--from-file: cannot read {path!r}: {error.strerror}", command="crossdock copy"
        ) from None
    return pairs


@contextmanager
def _open(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
    else:
        with open(path, "rb") as file:
            yield file


def _lines(file: BinaryIO, place: str) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(_MAX_LINE):
        number += 1
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if len(line) == _MAX_LINE:
            raise InvalidInput(f"{place}:{number}: the line is longer than {_MAX_LINE} bytes")
        if number > MOST_LINES:
            raise InvalidInput(
                f"{place}: more than {MOST_LINES} lines", advice=Advice("split-list", "split the list")
            )
        yield number, line


def _words(line: bytes, place: str) -> list[str] | None:
    """Source and targets, if there are any; None for a line without words."""
    try:
        words = [word.decode() for word in line.split()]  # splits bytes, that is at ASCII white space only
    except UnicodeDecodeError:
        raise InvalidInput(f"{place}: the line is not UTF-8") from None
    for index, word in enumerate(words):
        if word.startswith("#"):
            del words[index:]
            break
    return words or None


def _target(source: str, to: Namespace | None, place: str) -> str:
    """The target below `to` of a source that stands alone on its line."""
    if to is None:
        raise InvalidInput(f"{place}: a line is SOURCE TARGET, this one has 1 word")
    from crossdock.oci.reference import Reference, parse_location

    try:
        found = parse_location(source)
        if not isinstance(found, Reference):
            raise InvalidInput("a layout has no path below a host: name its target")
        return str(to.reference(found.repository, found.tag, found.digest))
    except InvalidInput as error:
        raise error.replace(f"{place}: {error}") from None

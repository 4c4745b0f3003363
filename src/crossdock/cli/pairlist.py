"""The list of ``--from-file``: one ``SOURCE TARGET`` pair per line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from crossdock.cli.exits import UsageError
from crossdock.cli.values import location
from crossdock.errors import Advice, InvalidInput
from crossdock.runs.pairs import Pairs

MOST_LINES = 1_000_000  # a pair takes about 1 KB of memory
_MAX_LINE = 64 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_pairs(path: str) -> Pairs:
    """The pairs of the list in file `path` (``-``: stdin), completely read and checked.

    White space separates source and target. A ``#`` at the start of a word begins a comment; empty lines are
    skipped. Raises `UsageError` with file and line. Lines that are not a pair are never quoted: they may hold
    passwords.
    """
    place = "stdin" if path == "-" else path
    pairs = Pairs(f"{place}:")
    try:
        with _open(path) as file:
            for number, line in _lines(file, place):
                words = _words(line, f"{place}:{number}")
                if words is not None:
                    source, target = words
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


def _words(line: bytes, place: str) -> tuple[str, str] | None:
    """Source and target; None for a line without words."""
    try:
        words = [word.decode() for word in line.split()]  # splits bytes, that is at ASCII white space only
    except UnicodeDecodeError:
        raise InvalidInput(f"{place}: the line is not UTF-8") from None
    for index, word in enumerate(words):
        if word.startswith("#"):
            del words[index:]
            break
    if not words:
        return None
    if len(words) != 2:
        raise InvalidInput(
            f"{place}: a line is SOURCE TARGET, this one has {len(words)} word{'s' if len(words) > 1 else ''}"
        )
    return words[0], words[1]

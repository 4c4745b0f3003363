"""An archive in parts: ``FILE.001``, ``FILE.002`` … are its bytes, cut. Blocking.

The last member of the archive, in the last part alone, lists size and SHA-256 of each part; of the last one
up to that member. The member's name holds the SHA-256 of the list. So a part that is lost or damaged is known
by its number, and ``cat FILE.*`` makes an archive that other tools read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tarfile
import threading
from bisect import bisect_right
from pathlib import Path

import msgspec

from crossdock.errors import Advice, ContentError
from crossdock.store.filebody import FileBody
from crossdock.store.files import explained, refuse_abandoned

BLOCK = tarfile.BLOCKSIZE
MOST_PARTS = 999
LIST_NAME = "crossdock/parts-{}.json"
_LIST_NAME = re.compile(r"crossdock/parts-([0-9a-f]{64})\.json")
_LIST_LIMIT = 128 << 10  # bytes; the list is looked for from the end of the last part
_PIECE = 4 << 20


_AGAIN = "copy that part again from where it was written"


class PartRow(msgspec.Struct, forbid_unknown_fields=True):
    """A part in the list."""

    size: int
    sha256: str


class PartList(msgspec.Struct, forbid_unknown_fields=True):
    """The content of the member that lists the parts."""

    parts: list[PartRow]


def part_path(path: Path, number: int) -> Path:
    """The file of a part, from 1."""
    return path.with_name(f"{path.name}.{number:03}")


def first_of_parts(path: str) -> Path | None:
    """The archive that `path`, FILE or ``FILE.001``, is a part of; None: it is not in parts."""
    found = Path(path)
    if path.endswith(".001"):
        base = found.with_name(found.name.removesuffix(".001"))
        return base if base.name and _numbers(base) else None
    return found if not found.exists() and _numbers(found) else None


def _numbers(path: Path) -> list[int]:
    """The numbers of the parts of `path` that are there."""
    pattern = re.compile(re.escape(path.name) + r"\.([0-9]{3})")
    with contextlib.suppress(OSError):
        found = (pattern.fullmatch(name) for name in os.listdir(path.parent))
        return sorted(int(each[1]) for each in found if each is not None and int(each[1]))
    return []


class _Part(msgspec.Struct):
    """A part that is open: where it begins in the archive, and its bytes."""

    path: Path
    descriptor: int
    begin: int
    size: int
    row: PartRow | None = None
    is_checked: bool = False
    mutex: threading.Lock = msgspec.field(default_factory=threading.Lock)


class PartsBytes:
    """The bytes of an archive in parts (`tarbytes.AnyBytes`)."""

    def __init__(self, path: Path) -> None:
        """Open the parts of the archive `path`. Raises `ContentError` for lost ones, `StoreError`."""
        self.path = path
        self._parts: list[_Part] = []
        try:
            self._open(_numbers(path))
            self._read_list()
        except BaseException:
            self.close()
            raise

    def pread(self, size: int, offset: int) -> bytes:
        """As `PlainBytes.pread`."""
        found = bytearray()
        while len(found) < size:
            at = offset + len(found)
            part = self._part_at(at)
            if part is None:
                break
            with explained("cannot read", part.path):
                piece = os.pread(part.descriptor, size - len(found), at - part.begin)
            if not piece:
                raise _damaged(part.path, f"it ended at byte {at - part.begin}")
            found += piece
        return bytes(found)

    def end(self) -> int:
        """As `PlainBytes.end`."""
        return self._parts[-1].begin + self._parts[-1].size

    def body(self, start: int, stop: int, base: int) -> PartsBody:
        """As `PlainBytes.body`."""
        first, last = base + start, base + stop
        with explained("cannot read", self.path):
            files = [
                (part.begin, part.begin + part.size, os.dup(part.descriptor))
                for part in self._parts
                if part.begin < last and first < part.begin + part.size
            ]
        return PartsBody(files, self.path, start, stop, base)

    def numbers(self) -> range:
        """The numbers of the parts, for `check_part`."""
        return range(len(self._parts))

    def check_range(self, first: int, last: int) -> None:
        """As `check_part`, of the parts with these bytes, unless it is not known how they were written."""
        for number, part in enumerate(self._parts):
            if part.row is not None and part.begin < last and first < part.begin + part.size:
                self.check_part(number)

    def check_part(self, number: int) -> None:
        """Read a part, the first time, and compare its SHA-256.

        Raises `ContentError`, which names it, and `StoreError`.
        """
        part = self._parts[number]
        if part.row is None:
            raise self._unlisted()
        with part.mutex:
            if not part.is_checked:
                self._compare(part, part.row)
                part.is_checked = True

    def _compare(self, part: _Part, row: PartRow) -> None:
        hasher, at = hashlib.sha256(), 0
        while at < row.size:
            with explained("cannot read", part.path):
                refuse_abandoned()
                piece = os.pread(part.descriptor, min(_PIECE, row.size - at), at)
            if not piece:
                break
            hasher.update(piece)
            at += len(piece)
        if hasher.hexdigest() != row.sha256:
            raise _damaged(part.path, f"its SHA-256 is not {row.sha256}, as it was written")

    def check(self) -> None:
        """As `check_part`, of all."""
        for number in self.numbers():
            self.check_part(number)

    def close(self) -> None:
        """As `PlainBytes.close`."""
        for part in self._parts:
            with contextlib.suppress(OSError):
                os.close(part.descriptor)
            part.descriptor = -1

    def _part_at(self, offset: int) -> _Part | None:
        number = bisect_right(self._parts, offset, key=lambda each: each.begin) - 1
        part = self._parts[number]
        return part if part.begin <= offset < part.begin + part.size else None

    def _open(self, numbers: list[int]) -> None:
        begin = 0
        for number in range(1, numbers[-1] + 1):
            path = part_path(self.path, number)
            if number not in numbers:
                raise self._lost(number)
            with explained("cannot read", path):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self._parts.append(_Part(path, descriptor, begin, os.fstat(descriptor).st_size))
            begin += self._parts[-1].size

    def _read_list(self) -> None:
        """Give every part what the list says of it, where the last one holds the list."""
        rows = self._find_list()
        if rows is None:
            return
        for number, part in enumerate(self._parts):
            if number >= len(rows):
                raise ContentError(
                    f"{part.path} is not one of the {len(rows)} parts of {self.path}",
                    advice=Advice("copy-part", "remove it, or copy the last part again"),
                )
            part.row = rows[number]
            is_last = number == len(rows) - 1
            if part.size < part.row.size if is_last else part.size != part.row.size:
                raise _damaged(part.path, f"it has {part.size} bytes, and {part.row.size} were written")
        if len(rows) > len(self._parts):
            raise self._lost(len(self._parts) + 1)

    def _find_list(self) -> list[PartRow] | None:
        """The list at the end of the last part; None: there is none."""
        last = self._parts[-1]
        with explained("cannot read", last.path):
            data = os.pread(last.descriptor, _LIST_LIMIT, max(0, last.size - _LIST_LIMIT) // BLOCK * BLOCK)
        for at in range(len(data) // BLOCK * BLOCK - BLOCK, -1, -BLOCK):
            if not data.startswith(b"crossdock/parts-", at):
                continue
            try:
                header = tarfile.TarInfo.frombuf(data[at : at + BLOCK], "utf-8", "surrogateescape")
            except tarfile.HeaderError:
                continue
            listed = data[at + BLOCK : at + BLOCK + header.size]
            name = _LIST_NAME.fullmatch(header.name)
            if name is None:
                continue
            try:
                rest = data[at + BLOCK + header.size :]
                is_whole = rest == bytes(-header.size % BLOCK + 2 * BLOCK)
                if is_whole and hashlib.sha256(listed).hexdigest() == name[1]:
                    return msgspec.json.decode(listed, type=PartList).parts
            except msgspec.MsgspecError:
                pass
            raise _damaged(last.path, "its end, with the list of parts, is not as it was written")
        return None

    def _unlisted(self) -> ContentError:
        """The error for parts without their list, which the last one holds."""
        last = self._parts[-1]
        following = part_path(self.path, len(self._parts) + 1)
        if len(self._parts) > 1 and last.size == self._parts[0].size:
            return self._lost(len(self._parts) + 1)
        return ContentError(
            f"{last.path} is cut or damaged, or {following} is missing", advice=Advice("copy-part", _AGAIN)
        )

    def _lost(self, number: int) -> ContentError:
        """The error for a part that is not there."""
        return ContentError(
            f"{part_path(self.path, number)} is missing, a part of {self.path}",
            advice=Advice("copy-part", _AGAIN),
        )


def _damaged(path: Path, reason: str) -> ContentError:
    """The error for a part that is not as it was written."""
    return ContentError(f"{path} is damaged: {reason}", advice=Advice("copy-part", _AGAIN))


class PartsBody(FileBody):
    """A range that lies in one part or in several that follow each other."""

    def __init__(
        self, files: list[tuple[int, int, int]], path: Path, start: int, stop: int, base: int
    ) -> None:
        """`files`: where each begins and ends in the archive, and its descriptor."""
        super().__init__(-1, path, start, stop, base=base)
        self._files = files

    def _pread(self, buffer: memoryview, offset: int) -> int:
        for begin, end, descriptor in self._files:
            if begin <= offset < end:
                return os.preadv(descriptor, [buffer[: end - offset]], offset - begin)
        return 0

    def _close_file(self) -> None:
        while self._files:
            os.close(self._files.pop()[2])

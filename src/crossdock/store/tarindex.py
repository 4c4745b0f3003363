"""The members of a tar file by name: an index, so that each is read at its position and nothing is unpacked.

The file may come from anyone. Its names are only compared, never opened. A path or link that leads out of the
archive is an error, and so is a member that the file does not hold whole. Blocking.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from crossdock.errors import ContentError, LimitExceeded, NotFound
from crossdock.oci.text import quote
from crossdock.store.files import RECREATE, damaged
from crossdock.store.parts import BLOCK
from crossdock.store.tarbytes import AnyBytes, open_bytes

MOST_HEADERS = 400_000  # a layout of as many blobs; the index then takes some 100 MiB
LONGEST_HEADER = 1 << 20  # bytes of a long name or of a pax header
MOST_LINKS = 40

_LONG_NAME, _LONG_LINK = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


class Member(Struct, frozen=True):
    """A file in the archive: `size` bytes from `start` on."""

    start: int
    size: int


class TarIndex:
    """The files and links of an archive. A name that occurs twice means its last member, as for tar."""

    def __init__(self, data: AnyBytes) -> None:
        """Read all headers. Raises `ContentError`, `LimitExceeded`, `StoreError`."""
        self.data = data
        self.has_end = False  # the mark that ends an archive was found
        self._found: dict[str, Member | str] = {}
        try:
            self._read()
        except ContentError:
            data.check()  # a part that is damaged is named
            raise

    def names(self) -> Iterator[str]:
        """The names of all files and links."""
        return iter(self._found)

    def find(self, name: str) -> Member | None:
        """The file `name`, links followed. Raises `ContentError` for links that run in a circle."""
        for _ in range(MOST_LINKS):
            found = self._found.get(name)
            if not isinstance(found, str):
                return found
            name = found
        raise damaged(self.data.path, f"its links to {quote(name)} run in a circle")

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of a small file. Raises `NotFound`, `LimitExceeded`, `StoreError`, `ContentError`."""
        member = self.find(name)
        if member is None:
            raise NotFound(f"{name} is not in {self.data.path}{self.cut_short}")
        if member.size > limit:
            raise LimitExceeded(
                f"{name} in {self.data.path} has {member.size} bytes, more than the limit of {limit}"
            )
        return self.data.pread(member.size, member.start)

    @property
    def cut_short(self) -> str:
        """A supplement to messages about something missing: whether the archive seems to be cut."""
        return "" if self.has_end else " (it has no end mark: it was probably cut)"

    # -- headers -----------------------------------------------------------------------------------------

    def _read(self) -> None:
        at, path, link, size = 0, "", "", -1  # from the headers that precede a member and overrule it
        headers = 0
        while (header := self._header(at)) is not None:
            at += BLOCK
            headers += 1
            if headers > MOST_HEADERS:
                raise LimitExceeded(f"{self.data.path} has more than {MOST_HEADERS} members", advice=RECREATE)
            stop = at + (header.size if header.type not in _WITHOUT_DATA else 0)
            if header.type in (_LONG_NAME, _LONG_LINK, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                text = self._extension(header, at)
                if header.type == _LONG_NAME:
                    path = _text(text.partition(b"\0")[0])
                elif header.type == _LONG_LINK:
                    link = _text(text.partition(b"\0")[0])
                else:
                    records = self._records(text)
                    path, link = records.get("path", path), records.get("linkpath", link)
                    size = self._number(records.get("size")) if "size" in records else size
                    if any(key.startswith("GNU.sparse.") for key in records):
                        raise damaged(self.data.path, "it has a sparse file, which is not supported")
            elif header.type == tarfile.XGLTYPE:
                self._extension(header, at)
            else:
                if size >= 0 and header.type not in _WITHOUT_DATA:
                    stop = at + size
                self._check_end(path or header.name, at, stop)
                self._add(header, path or header.name, link or header.linkname, Member(at, stop - at))
                path, link, size = "", "", -1
            at += -(-(stop - at) // BLOCK) * BLOCK

    def _header(self, at: int) -> tarfile.TarInfo | None:
        block = self.data.pread(BLOCK, at)
        if not block:
            return None
        if len(block) < BLOCK:
            raise damaged(self.data.path, f"it was cut at byte {at + len(block)}, within a header")
        if block == bytes(BLOCK):
            self.has_end = True
            return None
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            if at == 0:
                raise damaged(self.data.path, "it is not a tar file") from None
            raise damaged(self.data.path, f"the header at byte {at} is wrong ({error})") from None

    def _extension(self, header: tarfile.TarInfo, at: int) -> bytes:
        """The data of a header that describes the next member."""
        if not 0 <= header.size <= LONGEST_HEADER:
            raise LimitExceeded(
                f"a header in {self.data.path} has {header.size} bytes, more than {LONGEST_HEADER}",
                advice=RECREATE,
            )
        self._check_end("a header", at, at + header.size)
        return self.data.pread(header.size, at)

    def _records(self, data: bytes) -> dict[str, str]:
        """The records of a pax header: ``LENGTH KEY=VALUE\\n``."""
        records = {}
        while data and data[:1] != b"\0":
            length, _, _ = data[:20].partition(b" ")
            stop = int(length) if length.isdigit() else 0
            record = data[len(length) + 1 : stop]
            if not record.endswith(b"\n") or stop > len(data):
                raise damaged(self.data.path, "a pax header is wrong")
            key, _, value = record[:-1].partition(b"=")
            records[_text(key)] = _text(value)
            data = data[stop:]
        return records

    def _number(self, text: str | None) -> int:
        if text is None or not text.isascii() or not text.isdigit() or len(text) > 19:
            raise damaged(self.data.path, "a pax header states a wrong size")
        return int(text)

    def _check_end(self, name: str, start: int, stop: int) -> None:
        """Raise `ContentError` unless the file holds the bytes up to `stop`."""
        end = self.data.end()
        if stop < start:
            raise damaged(self.data.path, f"the size of {quote(name)} is negative")
        held = stop <= end if end is not None else stop == start or bool(self.data.pread(1, stop - 1))
        if not held:
            where = f" it has {end}" if end is not None else " they are not there"
            raise damaged(self.data.path, f"{quote(name)} is cut: it ends at byte {stop},{where}")

    def _add(self, header: tarfile.TarInfo, path: str, link: str, member: Member) -> None:
        name = self._inside(path, path)
        found: Member | str
        if header.type in _FILES and not path.endswith("/"):
            found = member
        elif header.type == tarfile.SYMTYPE:
            found = self._inside(path, posixpath.join(posixpath.dirname(path), link))
        elif header.type == tarfile.LNKTYPE:
            found = self._inside(path, link)
        elif header.type == tarfile.GNUTYPE_SPARSE:
            raise damaged(self.data.path, f"{quote(path)} is a sparse file, which is not supported")
        else:
            return  # folders and devices hold nothing
        self._found[name] = found

    def _inside(self, member: str, path: str) -> str:
        """`path` in the form that names are looked up in. Raises `ContentError` if it leads out."""
        plain = posixpath.normpath(path)
        if plain.startswith(("/", "../")) or plain == "..":
            what = "the path" if path == member else f"the link {quote(member)}"
            raise ContentError(
                f"{self.data.path} cannot be read: {what} {'to ' if path != member else ''}{quote(path)} "
                "leads out of the archive",
                advice=RECREATE,
            )
        return plain


@contextmanager
def opened_tar(path: str) -> Iterator[TarIndex]:
    """The archive at `path`, or stdin. It is closed if the block raises.

    Raises as `open_bytes` and `TarIndex`.
    """
    data = open_bytes(path)
    try:
        yield TarIndex(data)
    except BaseException:
        data.close()
        raise


_WITHOUT_DATA = (
    *(tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE),
    *(tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE),
)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")

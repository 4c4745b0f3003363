"""One blob's file: blocks of its bytes, each with a mark that shows whether it is intact.

The layout, all numbers little-endian, 64 bits::

    0        magic, size of the blob, size of the part of it that the file has room for
    4096     one mark for each block: XXH3 of the block, seeded with its number; 0: the block is not there
    data     the blob's bytes at their offsets

Data is written before its mark, and both survive SIGKILL from the moment the call returned. A block that a
power loss, a torn write or a bad disk has damaged does not fit its mark, and is not returned. A mark protects
against damage, not against forgery: the digest of the whole blob is the proof, here as everywhere.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array

import xxhash

BLOCK = 64 * 1024  # the smallest slot of the arena holds two
MAGIC = b"xdspool1"
TABLE_AT = 4096
_HEADER = struct.Struct("<8sQQ")


def file_size(room: int) -> int:
    """Bytes of a file with room for `room` bytes of a blob."""
    return _data_at(room) + room


def room_in(file_bytes: int, size: int) -> int:
    """How many bytes of a blob of `size` bytes a file of at most `file_bytes` has room for: whole blocks."""
    if file_size(size) <= file_bytes:
        return size
    room = max(0, file_bytes - 2 * TABLE_AT) // (BLOCK + 8) * BLOCK
    while room < size and file_size(room + BLOCK) <= file_bytes:  # the table's last page is not full
        room += BLOCK
    return min(room, size)


def _data_at(room: int) -> int:
    table = -(-room // BLOCK) * 8
    return TABLE_AT + -(-table // TABLE_AT) * TABLE_AT


class SpoolFile:
    """The kept bytes of one blob, in an open file that nothing else uses. Methods raise OSError."""

    def __init__(self, descriptor: int, size: int, room: int, marks: array[int]) -> None:
        self._descriptor = descriptor
        self._size = size
        self._room = room
        self._data_at = _data_at(room)
        self._marks = marks
        self._partial: xxhash.xxh3_64 | None = None  # of the block that is being written
        self._partial_stop = 0  # offset after its last byte

    @classmethod
    def create(cls, descriptor: int, size: int, room: int) -> SpoolFile:
        """Make an empty file one that keeps nothing yet of a blob of `size` bytes."""
        os.ftruncate(descriptor, 0)
        os.ftruncate(descriptor, file_size(room))  # sparse: the cap counts the length
        _write_all(descriptor, memoryview(_HEADER.pack(MAGIC, size, room)), 0)
        return cls(descriptor, size, room, array("Q", bytes(-(-room // BLOCK) * 8)))

    @classmethod
    def open(cls, descriptor: int, size: int, most: int) -> SpoolFile | None:
        """The file as an earlier process left it.

        None when it is not the file of a blob of `size` bytes, or would be longer than `most` bytes.
        """
        header = os.pread(descriptor, _HEADER.size, 0)
        if len(header) < _HEADER.size:
            return None
        magic, stated, room = _HEADER.unpack(header)
        if (magic, stated) != (MAGIC, size) or room > size or (room < size and room % BLOCK):
            return None
        if file_size(room) > most:
            return None
        count = -(-room // BLOCK)
        marks = array("Q", bytes(count * 8))
        found = _read_all(descriptor, memoryview(marks).cast("B"), TABLE_AT)
        marks = marks[: found // 8]
        if sys.byteorder == "big":
            marks.byteswap()
        whole = max(0, os.fstat(descriptor).st_size - _data_at(room)) // BLOCK  # of a file that was cut
        marks = marks[: whole if whole < room // BLOCK else count]
        marks.extend([0] * (count - len(marks)))
        os.ftruncate(descriptor, file_size(room))
        os.utime(descriptor)  # it is in use: others go before it when room is made
        return cls(descriptor, size, room, marks)

    @property
    def size(self) -> int:
        """Bytes of the whole blob."""
        return self._size

    @property
    def room(self) -> int:
        """Bytes before this offset can be kept."""
        return self._room

    @property
    def kept(self) -> int:
        """Bytes that have a mark, true or not."""
        count = len(self._marks) - self._marks.count(0)
        is_last_short = bool(self._room % BLOCK) and bool(self._marks[-1])
        return count * BLOCK - (BLOCK - self._room % BLOCK if is_last_short else 0)

    def has(self, offset: int) -> bool:
        """Whether the byte at `offset` seems to be kept."""
        return offset < self._room and self._marks[offset // BLOCK] != 0

    def next_kept(self, offset: int) -> int:
        """The first offset at or after `offset` that seems to be kept; the blob's size when none is."""
        for number in range(offset // BLOCK, len(self._marks)):
            if self._marks[number]:
                return max(offset, number * BLOCK)
        return self._size

    def read(self, offset: int, into: memoryview) -> int:
        """Fill `into` from `offset`, a multiple of `BLOCK`; returns how many bytes are here and intact.

        The first missing or damaged block ends them. Every damaged block that `into` has room for is
        forgotten, so that they are fetched together.
        """
        into = into[: max(0, self._room - offset)]
        found = _read_all(self._descriptor, into, self._data_at + offset)
        good, is_whole = 0, True
        for start in range(0, len(into), BLOCK):
            number = (offset + start) // BLOCK
            stop = self._block_stop(number) - offset
            if stop > len(into):  # `into` ends within the block
                break
            if not self._marks[number]:
                is_whole = False
            elif stop > found or _mark(number, into[start:stop]) != self._marks[number]:
                is_whole = False
                self._put_marks(number, [0])
            if is_whole:
                good = stop
        return good

    def write(self, offset: int, data: memoryview) -> None:
        """Keep the bytes from `offset` on, as far as there is room. A block that is here already stays.

        The bytes of a block must come in order, from its first on; else the block is not kept.
        """
        data = data[: max(0, self._room - offset)]
        position = 0
        while position < len(data):
            number, within = divmod(offset + position, BLOCK)
            block_stop = self._block_stop(number)
            piece = data[position : block_stop - offset]
            if self._marks[number]:
                position += len(piece)
                continue
            if within == 0 and offset + position + len(piece) == block_stop:
                position += self._write_blocks(number, data[position:])
                continue
            self._write_part(number, within, offset + position, piece, block_stop)
            position += len(piece)

    def clear(self) -> None:
        """Keep nothing."""
        self._put_marks(0, [0] * len(self._marks))
        self._partial = None

    def close(self) -> None:
        """Close the descriptor. Safe to call twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _block_stop(self, number: int) -> int:
        return min((number + 1) * BLOCK, self._room)

    def _write_blocks(self, first: int, data: memoryview) -> int:
        """Keep all whole blocks at the beginning of `data` up to one that is here; returns their bytes."""
        marks: list[int] = []
        position = 0
        while position < len(data) and not self._marks[first + len(marks)]:
            number = first + len(marks)
            stop = position + self._block_stop(number) - number * BLOCK
            if stop > len(data):
                break
            marks.append(_mark(number, data[position:stop]))
            position = stop
        _write_all(self._descriptor, data[:position], self._data_at + first * BLOCK)
        self._put_marks(first, marks)
        return position

    def _write_part(self, number: int, within: int, offset: int, piece: memoryview, block_stop: int) -> None:
        if within == 0:
            self._partial = xxhash.xxh3_64(seed=number)
        elif self._partial is None or self._partial_stop != offset:
            self._partial = None
            return
        _write_all(self._descriptor, piece, self._data_at + offset)
        self._partial.update(piece)
        self._partial_stop = offset + len(piece)
        if self._partial_stop == block_stop:
            self._put_marks(number, [self._partial.intdigest()])
            self._partial = None

    def _put_marks(self, first: int, marks: list[int]) -> None:
        packed = memoryview(struct.pack(f"<{len(marks)}Q", *marks))
        _write_all(self._descriptor, packed, TABLE_AT + first * 8)
        self._marks[first : first + len(marks)] = array("Q", marks)


def _mark(number: int, block: memoryview) -> int:
    return xxhash.xxh3_64_intdigest(block, seed=number)


def _write_all(descriptor: int, data: memoryview, at: int) -> None:
    while len(data):
        count = os.pwrite(descriptor, data, at)
        data, at = data[count:], at + count


def _read_all(descriptor: int, into: memoryview, at: int) -> int:
    done = 0
    while done < len(into):
        count = os.preadv(descriptor, [into[done:]], at + done)
        if not count:
            break
        done += count
    return done

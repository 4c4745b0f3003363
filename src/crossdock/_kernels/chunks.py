"""A blob's byte ranges while they are fetched out of order: the twin of ext/crossdock/_ext/chunks.pyx."""

from __future__ import annotations

from heapq import heappop, heappush
from operator import index as integer
from typing import final

_MAX = (1 << 63) - 1


class _Chunk:
    """One chunk that was given out or made by a split; fields as in chunks.pxd."""

    __slots__ = ("following", "is_out", "position", "start", "stop")

    def __init__(self, start: int, stop: int, following: int) -> None:
        self.start = start
        self.stop = stop
        self.position = start
        self.following = following
        self.is_out = False


@final
class Chunks:
    """``start``..``stop`` in chunks of `chunk_size` bytes (the last may be smaller), known by index.

    A chunk is not taken, taken, or finished. Chunks are numbered from 0 in offset order; those made by
    `split` get the next numbers. An index means the same chunk for the object's life. Chunks cost memory only
    once taken. Every call is O(log n) at most.

    Raises ValueError unless ``0 <= start <= stop < 2**63`` and ``1 <= chunk_size < 2**63``, and everywhere
    for an index that no chunk has.
    """

    __slots__ = (
        "_chunk_size",
        "_front",
        "_grid",
        "_grid_count",
        "_received",
        "_split",
        "_start",
        "_stop",
        "_taken",
        "_waiting",
    )

    def __init__(self, start: int, stop: int, chunk_size: int) -> None:
        start, stop, chunk_size = integer(start), integer(stop), integer(chunk_size)
        if not 0 <= start <= stop <= _MAX:
            raise ValueError(f"no range: {start}..{stop}")
        if not 1 <= chunk_size <= _MAX:
            raise ValueError(f"chunk size must be positive and below 2**63, not {chunk_size}")
        self._start = start
        self._stop = stop
        self._chunk_size = chunk_size
        self._received = 0
        self._taken = 0
        self._grid_count = -(-(stop - start) // chunk_size)
        self._front = 0 if self._grid_count else -1
        self._grid: list[_Chunk] = []  # those given out so far, a prefix of the even division
        self._split: list[_Chunk] = []  # index _grid_count and up
        self._waiting: list[tuple[int, int]] = []  # heap of (offset, index): given back, or made by a split

    def _record(self, index: int) -> _Chunk | None:
        if 0 <= index < len(self._grid):
            return self._grid[index]
        if self._grid_count <= index < self._grid_count + len(self._split):
            return self._split[index - self._grid_count]
        return None

    def _chunk_out(self, index: int) -> _Chunk:
        record = self._record(integer(index))
        if record is None or not record.is_out:
            raise ValueError(f"chunk {index} is not taken")
        return record

    def _grid_start(self, index: int) -> int:
        return self._start + index * self._chunk_size

    def take(self) -> int:
        """Give out the chunk of the lowest offset among those not taken: its index, or -1 when none is left.

        Its bytes are wanted from `position(index)` on, which is past its start when it was given back.
        """
        index = len(self._grid)
        has_fresh = index < self._grid_count
        if self._waiting and not (has_fresh and self._grid_start(index) < self._waiting[0][0]):
            _, index = heappop(self._waiting)
            record = self._record(index)
            assert record is not None
        elif has_fresh:
            is_last = index + 1 == self._grid_count
            start, stop = self.bounds(index)
            record = _Chunk(start, stop, -1 if is_last else index + 1)
            self._grid.append(record)
        else:
            return -1
        record.is_out = True
        self._taken += 1
        return index

    def bounds(self, index: int) -> tuple[int, int]:
        """``(start, stop)`` of the chunk; `stop` shrinks when it is split."""
        index = integer(index)
        record = self._record(index)
        if record is not None:
            return record.start, record.stop
        if not 0 <= index < self._grid_count:
            raise ValueError(f"no chunk {index}")
        return self._grid_start(index), min(self._grid_start(index + 1), self._stop)

    def position(self, index: int) -> int:
        """The first offset of the chunk that has not arrived; its stop when it is finished."""
        index = integer(index)
        record = self._record(index)
        if record is not None:
            return record.position
        if not 0 <= index < self._grid_count:
            raise ValueError(f"no chunk {index}")
        return self._grid_start(index)

    def advance(self, index: int, count: int) -> int:
        """`count` more bytes of the chunk have arrived, in order; returns the frontier.

        The chunk is finished, and no longer taken, when its last byte arrived. Raises ValueError when it is
        not taken, or `count` is negative or goes beyond its stop; nothing has changed then.
        """
        chunk = self._chunk_out(index)
        count = integer(count)
        if not 0 <= count <= chunk.stop - chunk.position:
            raise ValueError(f"{count} bytes do not fit in {chunk.position}..{chunk.stop} of chunk {index}")
        chunk.position += count
        self._received += count
        if chunk.position == chunk.stop:
            chunk.is_out = False
            self._taken -= 1
            while self._front >= 0:
                record = self._record(self._front)
                if record is None or record.position < record.stop:
                    break
                self._front = record.following
        return self.frontier

    def give_back(self, index: int) -> None:
        """The chunk will not be fetched further by its taker: `take` gives it out again, from its position.

        Raises ValueError when it is not taken.
        """
        chunk = self._chunk_out(index)
        heappush(self._waiting, (chunk.position, integer(index)))
        chunk.is_out = False
        self._taken -= 1

    def split(self, index: int, at: int) -> int:
        """Cut the chunk at offset `at`, ``position < at < stop``; returns the index of a chunk for the tail.

        The new chunk, ``at``..``stop``, is not taken; the old one keeps what is before, taken or not. Raises
        ValueError when `at` is elsewhere, or for a chunk that `take` never gave out and `split` did not make.
        """
        index, at = integer(index), integer(at)
        record = self._record(index)
        if record is None:
            raise ValueError(f"chunk {index} was never taken")
        if not record.position < at < record.stop:
            raise ValueError(f"cannot split {record.position}..{record.stop} of chunk {index} at {at}")
        made = self._grid_count + len(self._split)
        self._split.append(_Chunk(at, record.stop, record.following))
        heappush(self._waiting, (at, made))
        record.stop = at
        record.following = made
        return made

    @property
    def frontier(self) -> int:
        """Every byte before this offset has arrived; `stop` at the end."""
        if self._front < 0:
            return self._stop
        record = self._record(self._front)
        return record.position if record is not None else self._grid_start(self._front)

    @property
    def received(self) -> int:
        """Bytes that have arrived, wherever they belong."""
        return self._received

    @property
    def missing(self) -> int:
        """Bytes that have not arrived."""
        return self._stop - self._start - self._received

    @property
    def done(self) -> bool:
        """Whether every byte has arrived."""
        return self._received == self._stop - self._start

    @property
    def taken(self) -> int:
        """How many chunks are out: given out, not finished and not given back."""
        return self._taken

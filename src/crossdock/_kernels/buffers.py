"""One arena of equal slots for all content in flight: the twin of ext/crossdock/_ext/buffers.pyx."""

from __future__ import annotations

import mmap
from operator import index as integer
from typing import final

_HUGE_PAGE = 2 << 20
_POISON = b"\xdb"  # fills freed slots when debugging; neither text nor a plausible length


def _map(size: int) -> tuple[mmap.mmap, int]:
    """Private zeros, on huge pages if possible, and the offset in them of the first 2 MiB boundary."""
    wanted = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    try:
        mapping = mmap.mmap(-1, wanted + _HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError):
        raise MemoryError(f"the system has no {size} bytes of address space") from None
    before = -_address(mapping) % _HUGE_PAGE
    if hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            mapping.madvise(mmap.MADV_HUGEPAGE, before, wanted)
        except OSError:  # a kernel without huge pages
            pass
    return mapping, before


def _address(mapping: mmap.mmap) -> int:
    import ctypes  # costs milliseconds: only those who make an arena of the twin pay for it

    first = ctypes.c_char.from_buffer(mapping)
    return ctypes.addressof(first)


@final
class Arena:
    """Slots of `slot_size` bytes, as many as `capacity` bytes hold, in one private mapping.

    The memory is aligned to 2 MiB, and the kernel is asked to back it by huge pages; a system without them
    serves ordinary ones. Pages are taken from the system when they are first written. The slot freed last is
    the first to be used again, while it is warm.

    With `debug`, freed slots are filled with 0xDB so that a stale reader notices, and `acquire` raises
    BufferError when a freed slot was written to.

    Not safe for use by several threads at once: callers take turns.

    Raises ValueError unless ``1 <= slot_size <= capacity``, MemoryError when the system refuses the mapping.
    """

    __slots__ = ("_free", "_is_debug", "_poisoned", "_slot_size", "_slots", "_whole")

    def __init__(self, capacity: int, slot_size: int, *, debug: bool = False) -> None:
        if not 1 <= slot_size <= capacity:
            raise ValueError(f"no slot of {slot_size} bytes in an arena of {capacity}")
        self._slot_size = integer(slot_size)
        self._slots = integer(capacity) // self._slot_size
        size = self._slots * self._slot_size
        mapping, before = _map(size)
        # The mapping lives as long as any view of it.
        self._whole: memoryview | None = memoryview(mapping)[before : before + size]
        self._is_debug = debug
        self._free = list(range(self._slots - 1, -1, -1))
        self._poisoned: set[int] = set()

    def acquire(self) -> Slot | None:
        """A free slot, or None when all are held. Its bytes are whatever was left in it.

        Raises BufferError when the arena is closed or, when debugging, the slot was written to after it was
        freed.
        """
        if self._whole is None:
            raise BufferError("the arena is closed")
        if not self._free:
            return None
        index = self._free[-1]
        if index in self._poisoned:
            self._poisoned.remove(index)  # reported once, then usable again
            if self._bytes_of(index) != _POISON * self._slot_size:
                raise BufferError(f"slot {index} was written to after it was freed")
        self._free.pop()
        slot = Slot.__new__(Slot)
        slot._begin(self, index)
        return slot

    def _bytes_of(self, index: int) -> memoryview:
        assert self._whole is not None
        return self._whole[index * self._slot_size : (index + 1) * self._slot_size]

    def _put_back(self, index: int) -> None:
        if self._is_debug:
            self._bytes_of(index)[:] = _POISON * self._slot_size
            self._poisoned.add(index)
        self._free.append(index)

    def close(self) -> None:
        """Give the memory back to the system; at once unless stale views exist, else with the last of them.

        Closing again does nothing. Raises BufferError while slots are held.
        """
        held = self._slots - len(self._free)
        if held:
            raise BufferError(f"{held} of {self._slots} slots are still held")
        self._whole = None

    @property
    def slots(self) -> int:
        """How many slots there are."""
        return self._slots

    @property
    def free(self) -> int:
        """How many slots are not held."""
        return len(self._free)


@final
class Slot:
    """One use of one slot, from `Arena.acquire` to `release`; then every call raises BufferError.

    `view` is its memory. Made by `Arena` only. Views must not be used after the release: the next holder of
    the slot writes to the same bytes.
    """

    __slots__ = ("_arena", "_index", "_is_held", "_mark", "_marked", "_view")

    def __init__(self) -> None:
        raise TypeError("slots come from Arena.acquire")

    def _begin(self, arena: Arena, index: int) -> None:
        self._arena = arena
        self._index = index
        self._is_held = True
        self._view: memoryview | None = None
        self._marked = -1  # bytes under the mark; -1: no mark
        self._mark = 0

    def _check_held(self) -> None:
        if not self._is_held:
            raise BufferError(f"slot {self._index} was released")

    @property
    def index(self) -> int:
        """Which slot of the arena this is, from 0."""
        return self._index

    @property
    def view(self) -> memoryview:
        """The whole slot, writable, format 'B'; always the same object: slice it, do not release it."""
        self._check_held()
        if self._view is None:
            self._view = self._arena._bytes_of(self._index)
        return self._view

    def release(self) -> None:
        """Return the slot to the arena. Raises BufferError when it was released before."""
        self._check_held()
        self._is_held = False
        self._view = None
        self._arena._put_back(self._index)

    def mark(self, stop: int, /) -> None:
        """Remember the XXH3-64 of the first `stop` bytes, for `check`.

        Raises ValueError when the slot has fewer, BufferError when it was released.
        """
        self._check_held()
        if not 0 <= stop <= self._arena._slot_size:
            raise ValueError(f"cannot mark {stop} bytes of a slot of {self._arena._slot_size}")
        self._marked = stop
        self._mark = self._hash()

    def check(self) -> None:
        """Return if the marked bytes have not changed.

        Raises BufferError when they changed or the slot was released, ValueError without a mark.
        """
        self._check_held()
        if self._marked < 0:
            raise ValueError(f"slot {self._index} was not marked")
        if self._hash() != self._mark:
            raise BufferError(f"slot {self._index}: its first {self._marked} bytes changed under their mark")

    def _hash(self) -> int:
        from xxhash import xxh3_64_intdigest  # most runs never mark

        return xxh3_64_intdigest(self.view[: self._marked])

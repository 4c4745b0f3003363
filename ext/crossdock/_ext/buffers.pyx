"""One arena of equal slots for all content in flight. The twin in plain Python: crossdock._kernels.buffers."""

cimport cython
from cpython.buffer cimport Py_buffer, PyBuffer_FillInfo
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memset

cdef extern from "mapping.h" nogil:
    void *mapping_new(size_t size, int huge, int *is_huge)
    void mapping_free(void *base, size_t size)

cdef enum:
    POISON = 0xDB  # fills freed slots when debugging; neither text nor a plausible length

cdef object xxh3_64 = None


cdef uint64_t xxh3(object data) except? 0:
    global xxh3_64
    if xxh3_64 is None:
        from xxhash import xxh3_64_intdigest  # here: most runs never mark, and start-up must not pay

        xxh3_64 = xxh3_64_intdigest
    return xxh3_64(data)


cdef class Mapping:
    """Memory that lives as long as any view of it."""

    def __cinit__(self, Py_ssize_t size, bint huge):
        cdef int is_huge = 0
        self.base = <char *>mapping_new(size, huge, &is_huge)
        if self.base == NULL:
            raise MemoryError(f"the system has no {size} bytes of address space")
        self.size = size
        self.is_huge = is_huge

    def __dealloc__(self):
        if self.base != NULL:
            mapping_free(self.base, self.size)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.base, self.size, 0, flags)


@cython.final
cdef class Arena:
    """Slots of `slot_size` bytes, as many as `capacity` bytes hold, in one private mapping.

    The memory is aligned to 2 MiB and, with `huge_pages`, the kernel is asked to back it by huge pages; a
    system that has none serves ordinary ones. Pages are taken from the system when they are first written.
    The slot freed last is the first to be used again, while it is warm.

    With `debug`, `Slot.release` checks the owner, freed slots are filled with 0xDB so that a stale reader
    notices, and `acquire` raises BufferError when somebody wrote to a freed slot.

    Not safe for use by several threads at once: callers take turns.

    Raises ValueError unless ``1 <= slot_size <= capacity``, MemoryError when the system refuses the mapping.
    """

    def __cinit__(self, capacity, slot_size, *, bint huge_pages=True, bint debug=False):
        cdef Py_ssize_t i
        if not 1 <= slot_size <= capacity:
            raise ValueError(f"no slot of {slot_size} bytes in an arena of {capacity}")
        try:
            self.slot_size = slot_size
            self.slots = capacity // slot_size
        except OverflowError:
            raise MemoryError(f"the system has no {capacity} bytes of address space") from None
        self._mapping = Mapping(self.slots * self.slot_size, huge_pages)
        self._whole = memoryview(self._mapping)
        self._is_huge = self._mapping.is_huge
        self._is_debug = debug
        self._free = <Py_ssize_t *>calloc(self.slots, sizeof(Py_ssize_t))
        if self._free == NULL:
            raise MemoryError
        if debug:
            self._is_poisoned = <bint *>calloc(self.slots, sizeof(bint))
            if self._is_poisoned == NULL:
                raise MemoryError
        for i in range(self.slots):
            self._free[i] = self.slots - 1 - i
        self._free_count = self.slots

    def __dealloc__(self):
        free(self._free)
        free(self._is_poisoned)

    def acquire(self, owner=None):
        """A free slot with one reference, or None when all are held. Its bytes are whatever was left in it.

        `owner` is compared by identity and only when debugging. Raises BufferError when the arena is closed
        or, when debugging, the slot was written to after it was freed.
        """
        cdef Slot slot
        cdef Py_ssize_t index
        cdef char *base
        if self._mapping is None:
            raise BufferError("the arena is closed")
        if self._free_count == 0:
            return None
        index = self._free[self._free_count - 1]
        if self._is_debug and self._is_poisoned[index]:
            base = self._mapping.base + index * self.slot_size
            self._is_poisoned[index] = False  # told once, then usable again
            if not is_filled(base, <char>POISON, self.slot_size):
                raise BufferError(f"slot {index} was written to after it was freed")
        slot = Slot.__new__(Slot)
        slot._arena = self
        slot._mapping = self._mapping
        slot.index = index
        slot.refs = 1
        slot._marked = -1
        if self._is_debug:
            slot._owner = owner
        self._free_count -= 1
        return slot

    cdef int _put_back(self, Py_ssize_t index) except -1:
        if self._is_debug:
            memset(self._mapping.base + index * self.slot_size, POISON, self.slot_size)
            self._is_poisoned[index] = True
        self._free[self._free_count] = index
        self._free_count += 1
        return 0

    def close(self):
        """Give the memory back to the system; at once unless stale views exist, else with the last of them.

        Closing again does nothing. Raises BufferError while slots are held.
        """
        if self._free_count != self.slots:
            raise BufferError(f"{self.slots - self._free_count} of {self.slots} slots are still held")
        self._whole = None
        self._mapping = None

    @property
    def capacity(self):
        """Bytes in all slots together: what was asked for, rounded down to whole slots."""
        return self.slots * self.slot_size

    @property
    def free(self):
        """How many slots are not held."""
        return self._free_count

    @property
    def huge_pages(self):
        """Whether the kernel took the advice to use huge pages for this memory."""
        return self._is_huge


cdef bint is_filled(const char *data, char value, Py_ssize_t size) noexcept:
    # Each byte equals the one before it, and the first is right.
    return data[0] == value and memcmp(data, data + 1, size - 1) == 0


@cython.final
cdef class Slot:
    """One use of one slot, from `Arena.acquire` to the last `release`; then every call raises BufferError.

    A writable buffer of `slot_size` bytes: ``memoryview(slot)``, or `view`, which the twin has too. Made by
    `Arena` only. Views must not be used after the last release: the bytes belong to somebody else then.
    """

    def __init__(self):
        raise TypeError("slots come from Arena.acquire")

    cdef int _check_held(self) except -1:
        if self.refs == 0:
            raise BufferError(f"slot {self.index} was released")
        return 0

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        self._check_held()
        PyBuffer_FillInfo(
            buffer, self, self._mapping.base + self.index * self._arena.slot_size, self._arena.slot_size, 0, flags
        )

    @property
    def view(self):
        """The whole slot, writable, format 'B'; always the same object: slice it, do not release it."""
        cdef Py_ssize_t start
        self._check_held()
        if self._view is None:
            start = self.index * self._arena.slot_size
            self._view = self._arena._whole[start : start + self._arena.slot_size]
        return self._view

    def retain(self):
        """One more reference: one more `release` is needed. Raises BufferError when the slot is free."""
        self._check_held()
        self.refs += 1

    def release(self, owner=None):
        """Drop a reference; with the last one the slot returns to the arena.

        When debugging, an `owner` that is not the one of `Arena.acquire` raises BufferError; references made
        by `retain` are released without a name. Raises BufferError when the slot is free.
        """
        self._check_held()
        if self._owner is not None and owner is not None and owner is not self._owner:
            raise BufferError(f"slot {self.index} belongs to {self._owner!r}, not to {owner!r}")
        self.refs -= 1
        if self.refs == 0:
            self._view = None
            self._owner = None
            self._arena._put_back(self.index)

    def mark(self, stop, /):
        """Remember the XXH3-64 of the first `stop` bytes, for `check`.

        Raises ValueError when the slot has fewer, BufferError when it is free.
        """
        self._check_held()
        if not 0 <= stop <= self._arena.slot_size:
            raise ValueError(f"cannot mark {stop} bytes of a slot of {self._arena.slot_size}")
        self._marked = stop
        self._mark = self._hash()

    def check(self):
        """Return when the marked bytes are what they were.

        Raises BufferError when they changed or the slot was released since, ValueError without a mark.
        """
        self._check_held()
        if self._marked < 0:
            raise ValueError(f"slot {self.index} was not marked")
        if self._hash() != self._mark:
            raise BufferError(f"slot {self.index}: its first {self._marked} bytes changed under their mark")

    cdef uint64_t _hash(self) except? 0:
        return xxh3(self.view[: self._marked])

"""One arena of equal slots for all content in flight. The twin in plain Python: crossdock._kernels.buffers."""

cimport cython
from cpython.buffer cimport Py_buffer, PyBuffer_FillInfo
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memset

cdef extern from "mapping.h" nogil:
    void *mapping_new(size_t size)
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

    def __cinit__(self, Py_ssize_t size):
        self.base = <char *>mapping_new(size)
        if self.base == NULL:
            raise MemoryError(f"the system has no {size} bytes of address space")
        self.size = size

    def __dealloc__(self):
        if self.base != NULL:
            mapping_free(self.base, self.size)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.base, self.size, 0, flags)


@cython.final
cdef class Arena:
    """Slots of `slot_size` bytes, as many as `capacity` bytes hold, in one private mapping.

    The memory is aligned to 2 MiB, and the kernel is asked to back it by huge pages; a system without them
    serves ordinary ones. Pages are taken from the system when they are first written. The slot freed last is
    the first to be used again, while it is warm.

    With `debug`, freed slots are filled with 0xDB so that a stale reader notices, and `acquire` raises
    BufferError when a freed slot was written to.

    Not safe for use by several threads at once: callers take turns.

    Raises ValueError unless ``1 <= slot_size <= capacity``, MemoryError when the system refuses the mapping.
    """

    def __cinit__(self, capacity, slot_size, *, bint debug=False):
        cdef Py_ssize_t i
        if not 1 <= slot_size <= capacity:
            raise ValueError(f"no slot of {slot_size} bytes in an arena of {capacity}")
        try:
            self._slot_size = slot_size
            self.slots = capacity // slot_size
        except OverflowError:
            raise MemoryError(f"the system has no {capacity} bytes of address space") from None
        self._mapping = Mapping(self.slots * self._slot_size)
        self._whole = memoryview(self._mapping)
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

    def acquire(self):
        """A free slot, or None when all are held. Its bytes are whatever was left in it.

        Raises BufferError when the arena is closed or, when debugging, the slot was written to after it was
        freed.
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
            base = self._mapping.base + index * self._slot_size
            self._is_poisoned[index] = False  # reported once, then usable again
            if not is_filled(base, <char>POISON, self._slot_size):
                raise BufferError(f"slot {index} was written to after it was freed")
        slot = Slot.__new__(Slot)
        slot._arena = self
        slot.index = index
        slot._is_held = True
        slot._marked = -1
        self._free_count -= 1
        return slot

    cdef int _put_back(self, Py_ssize_t index) except -1:
        if self._is_debug:
            memset(self._mapping.base + index * self._slot_size, POISON, self._slot_size)
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
    def free(self):
        """How many slots are not held."""
        return self._free_count


cdef bint is_filled(const char *data, char value, Py_ssize_t size) noexcept:
    # Each byte equals the one before it, and the first is right.
    return data[0] == value and memcmp(data, data + 1, size - 1) == 0


@cython.final
cdef class Slot:
    """One use of one slot, from `Arena.acquire` to `release`; then every call raises BufferError.

    `view` is its memory. Made by `Arena` only. Views must not be used after the release: the next holder of
    the slot writes to the same bytes.
    """

    def __init__(self):
        raise TypeError("slots come from Arena.acquire")

    cdef int _check_held(self) except -1:
        if not self._is_held:
            raise BufferError(f"slot {self.index} was released")
        return 0

    @property
    def view(self):
        """The whole slot, writable, format 'B'; always the same object: slice it, do not release it."""
        cdef Py_ssize_t start
        self._check_held()
        if self._view is None:
            start = self.index * self._arena._slot_size
            self._view = self._arena._whole[start : start + self._arena._slot_size]
        return self._view

    def release(self):
        """Return the slot to the arena. Raises BufferError when it was released before."""
        self._check_held()
        self._is_held = False
        self._view = None
        self._arena._put_back(self.index)

    def mark(self, stop, /):
        """Remember the XXH3-64 of the first `stop` bytes, for `check`.

        Raises ValueError when the slot has fewer, BufferError when it was released.
        """
        self._check_held()
        if not 0 <= stop <= self._arena._slot_size:
            raise ValueError(f"cannot mark {stop} bytes of a slot of {self._arena._slot_size}")
        self._marked = stop
        self._mark = self._hash()

    def check(self):
        """Return if the marked bytes have not changed.

        Raises BufferError when they changed or the slot was released, ValueError without a mark.
        """
        self._check_held()
        if self._marked < 0:
            raise ValueError(f"slot {self.index} was not marked")
        if self._hash() != self._mark:
            raise BufferError(f"slot {self.index}: its first {self._marked} bytes changed under their mark")

    cdef uint64_t _hash(self) except? 0:
        return xxh3(self.view[: self._marked])

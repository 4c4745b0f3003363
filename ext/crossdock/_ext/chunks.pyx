"""A blob's byte ranges while they are fetched out of order. The twin in plain Python: crossdock._kernels.chunks."""

cimport cython
from cpython.number cimport PyNumber_Index
from libc.stdint cimport INT64_MAX, int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset


cdef int64_t as_int64(object value) except? -1:
    # The kernels raise ValueError where Python would say OverflowError. A float is no offset: TypeError.
    try:
        return PyNumber_Index(value)
    except OverflowError:
        raise ValueError(f"{value} does not fit in 64 bits") from None


cdef void *grown(void *array, int64_t *room, int64_t needed, size_t item) except NULL:
    """`array` with place for `needed` items, doubled when it moves; freed by the owner."""
    cdef int64_t wanted = room[0]
    cdef void *moved
    if needed <= wanted:
        return array
    wanted = max(needed, 2 * wanted, 16)
    moved = realloc(array, <size_t>wanted * item)
    if moved == NULL:
        raise MemoryError
    room[0] = wanted
    return moved


@cython.final
cdef class Chunks:
    """``start``..``stop`` in chunks of `chunk_size` bytes (the last may be smaller), known by index.

    A chunk is not taken, taken, or finished. Chunks are numbered from 0 in offset order; those made by
    `split` get the next numbers. An index means the same chunk for the object's life. Chunks cost memory only
    once taken. Every call is O(log n) at most.

    Raises ValueError unless ``0 <= start <= stop < 2**63`` and ``1 <= chunk_size < 2**63``, and everywhere
    for an index that no chunk has.
    """

    def __cinit__(self, start, stop, chunk_size):
        cdef int64_t first = as_int64(start), last = as_int64(stop), size = as_int64(chunk_size)
        if first < 0 or last < first:
            raise ValueError(f"no range: {first}..{last}")
        if size < 1:
            raise ValueError(f"chunk size must be positive, not {size}")
        self._start = first
        self._stop = last
        self._chunk_size = size
        self._grid_count = (last - first) // size + ((last - first) % size != 0)
        self._front = 0 if self._grid_count else -1

    def __dealloc__(self):
        free(self._grid)
        free(self._split)
        free(self._heap)

    cdef chunk *_record(self, int64_t index) noexcept:
        if 0 <= index < self._grid_made:
            return &self._grid[index]
        if self._grid_count <= index < self._grid_count + self._split_made:
            return &self._split[index - self._grid_count]
        return NULL

    cdef chunk *_chunk_out(self, object index) except NULL:
        cdef chunk *record = self._record(as_int64(index))
        if record == NULL or not record.is_out:
            raise ValueError(f"chunk {index} is not taken")
        return record

    cdef int64_t _grid_start(self, int64_t index) noexcept:
        return self._start + index * self._chunk_size

    def take(self):
        """Give out the chunk of the lowest offset among those not taken: its index, or -1 when none is left.

        Its bytes are wanted from `position(index)` on, which is past its start when it was given back.
        """
        cdef int64_t index = self._grid_made
        cdef chunk *record
        cdef bint has_fresh = index < self._grid_count
        if self._heap_count and not (has_fresh and self._grid_start(index) < self._heap[0].offset):
            index = self._pop()
            record = self._record(index)
        elif has_fresh:
            self._grid = <chunk *>grown(self._grid, &self._grid_room, index + 1, sizeof(chunk))
            record = &self._grid[index]
            memset(record, 0, sizeof(chunk))
            record.start = record.position = self._grid_start(index)
            record.following = index + 1 if index + 1 < self._grid_count else -1
            record.stop = self._grid_start(index + 1) if record.following >= 0 else self._stop
            self._grid_made = index + 1
        else:
            return -1
        record.is_out = True
        self._taken += 1
        return index

    def bounds(self, index):
        """``(start, stop)`` of the chunk; `stop` shrinks when it is split."""
        cdef int64_t number = as_int64(index)
        cdef chunk *record = self._record(number)
        if record != NULL:
            return record.start, record.stop
        if not 0 <= number < self._grid_count:
            raise ValueError(f"no chunk {index}")
        if number == self._grid_count - 1:
            return self._grid_start(number), self._stop
        return self._grid_start(number), self._grid_start(number + 1)

    def position(self, index):
        """The first offset of the chunk that has not arrived; its stop when it is finished."""
        cdef int64_t number = as_int64(index)
        cdef chunk *record = self._record(number)
        if record != NULL:
            return record.position
        if not 0 <= number < self._grid_count:
            raise ValueError(f"no chunk {index}")
        return self._grid_start(number)

    def advance(self, index, count):
        """`count` more bytes of the chunk have arrived, in order; returns the frontier.

        The chunk is finished, and no longer taken, when its last byte arrived. Raises ValueError when it is
        not taken, or `count` is negative or goes beyond its stop; nothing has changed then.
        """
        cdef chunk *record = self._chunk_out(index)
        cdef int64_t size = as_int64(count)
        if size < 0 or size > record.stop - record.position:
            raise ValueError(f"{size} bytes do not fit in {record.position}..{record.stop} of chunk {index}")
        record.position += size
        self._received += size
        if record.position == record.stop:
            record.is_out = False
            self._taken -= 1
            while self._front >= 0:
                record = self._record(self._front)
                if record == NULL or record.position < record.stop:
                    break
                self._front = record.following
        return self._frontier()

    def give_back(self, index):
        """The chunk will not be fetched further by its taker: `take` gives it out again, from its position.

        Raises ValueError when it is not taken.
        """
        cdef chunk *record = self._chunk_out(index)
        self._push(record.position, as_int64(index))
        record.is_out = False
        self._taken -= 1

    def split(self, index, at):
        """Cut the chunk at offset `at`, ``position < at < stop``; returns the index of a chunk for the tail.

        The new chunk, ``at``..``stop``, is not taken; the old one keeps what is before, taken or not. Raises
        ValueError when `at` is elsewhere, or for a chunk that `take` never gave out and `split` did not make.
        """
        cdef int64_t number = as_int64(index), offset = as_int64(at), made
        cdef chunk *record = self._record(number)
        cdef chunk *tail
        if record == NULL:
            raise ValueError(f"chunk {index} was never taken")
        if not record.position < offset < record.stop:
            raise ValueError(f"cannot split {record.position}..{record.stop} of chunk {index} at {at}")
        if self._grid_count > INT64_MAX - self._split_made - 1:
            raise MemoryError
        self._split = <chunk *>grown(self._split, &self._split_room, self._split_made + 1, sizeof(chunk))
        made = self._grid_count + self._split_made
        self._push(offset, made)
        record = self._record(number)  # the array may have moved
        tail = &self._split[self._split_made]
        memset(tail, 0, sizeof(chunk))
        tail.start = tail.position = offset
        tail.stop = record.stop
        tail.following = record.following
        record.stop = offset
        record.following = made
        self._split_made += 1
        return made

    cdef int64_t _frontier(self) noexcept:
        cdef chunk *record
        if self._front < 0:
            return self._stop
        record = self._record(self._front)
        return record.position if record != NULL else self._grid_start(self._front)

    @property
    def frontier(self):
        """Every byte before this offset has arrived; `stop` at the end."""
        return self._frontier()

    @property
    def received(self):
        """Bytes that have arrived, wherever they belong."""
        return self._received

    @property
    def missing(self):
        """Bytes that have not arrived."""
        return self._stop - self._start - self._received

    @property
    def done(self):
        """Whether every byte has arrived."""
        return self._received == self._stop - self._start

    @property
    def taken(self):
        """How many chunks are out: given out, not finished and not given back."""
        return self._taken

    cdef int _push(self, int64_t offset, int64_t index) except -1:
        cdef int64_t child, parent
        self._heap = <waiting *>grown(self._heap, &self._heap_room, self._heap_count + 1, sizeof(waiting))
        child = self._heap_count
        self._heap_count += 1
        while child > 0:
            parent = (child - 1) // 2
            if self._heap[parent].offset <= offset:
                break
            self._heap[child] = self._heap[parent]
            child = parent
        self._heap[child].offset = offset
        self._heap[child].index = index
        return 0

    cdef int64_t _pop(self) noexcept:
        cdef int64_t index = self._heap[0].index, hole = 0, child
        cdef waiting last
        self._heap_count -= 1
        last = self._heap[self._heap_count]
        while True:
            child = 2 * hole + 1
            if child >= self._heap_count:
                break
            if child + 1 < self._heap_count and self._heap[child + 1].offset < self._heap[child].offset:
                child += 1
            if last.offset <= self._heap[child].offset:
                break
            self._heap[hole] = self._heap[child]
            hole = child
        self._heap[hole] = last
        return index

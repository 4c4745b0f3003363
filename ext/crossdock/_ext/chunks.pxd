cimport cython
from libc.stdint cimport int64_t

cdef struct chunk:
    int64_t start     # half-open range of the chunk; `stop` shrinks when it is split
    int64_t stop
    int64_t position  # first offset that has not arrived
    int64_t following # index of the chunk that begins at `stop`; -1 at the end
    bint is_out       # given out and neither finished nor given back

cdef struct waiting:
    int64_t offset
    int64_t index


@cython.final
cdef class Chunks:
    cdef int64_t _start, _stop, _chunk_size
    cdef int64_t _received     # bytes
    cdef int64_t _front        # index of the first unfinished chunk in offset order; -1: none
    cdef int64_t _taken        # chunks that are out
    cdef int64_t _grid_count   # chunks of the even division; indices 0 .. _grid_count - 1

    # Records of the grid chunks given out so far, always a prefix of the grid. The rest costs nothing.
    cdef chunk *_grid
    cdef int64_t _grid_made, _grid_room

    # Records of the chunks made by `split`: index _grid_count and up.
    cdef chunk *_split
    cdef int64_t _split_made, _split_room

    # Binary heap, lowest offset on top: chunks given back or made by `split`. Each is in it at most once and
    # its offset cannot change while it waits.
    cdef waiting *_heap
    cdef int64_t _heap_count, _heap_room

    cdef chunk *_record(self, int64_t index) noexcept
    cdef chunk *_chunk_out(self, object index) except NULL
    cdef int64_t _grid_start(self, int64_t index) noexcept
    cdef int64_t _frontier(self) noexcept
    cdef int _push(self, int64_t offset, int64_t index) except -1
    cdef int64_t _pop(self) noexcept

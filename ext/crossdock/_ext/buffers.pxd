cimport cython
from libc.stdint cimport uint64_t


cdef class Mapping:
    cdef char *base
    cdef Py_ssize_t size


@cython.final
cdef class Arena:
    cdef Mapping _mapping         # None once closed
    cdef object _whole            # memoryview of _mapping, sliced into views
    cdef Py_ssize_t _slot_size
    cdef readonly Py_ssize_t slots
    cdef bint _is_debug
    cdef Py_ssize_t *_free        # stack of indices, the slot freed last on top
    cdef Py_ssize_t _free_count
    cdef bint *_is_poisoned       # by index; NULL unless debugging

    cdef int _put_back(self, Py_ssize_t index) except -1


@cython.final
cdef class Slot:
    cdef Arena _arena
    cdef readonly Py_ssize_t index
    cdef bint _is_held
    cdef object _view             # cached; None until asked for and after the release
    cdef Py_ssize_t _marked       # bytes under the mark; -1: no mark
    cdef uint64_t _mark

    cdef int _check_held(self) except -1
    cdef uint64_t _hash(self) except? 0

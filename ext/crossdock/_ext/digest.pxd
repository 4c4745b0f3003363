cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "sha256.h" nogil:
    enum:
        SHA256_SIZE
        SHA256_EXPORT_MAX
        SHA256_LANES

    const uint64_t SHA256_MAX_LENGTH

    ctypedef struct sha256_state:
        uint64_t length  # bytes absorbed so far

    ctypedef struct sha256_implementation:
        const char *name
        int (*is_available)()

    ctypedef enum sha256_import_result:
        SHA256_IMPORTED
        SHA256_NO_STATE
        SHA256_UNKNOWN_VERSION
        SHA256_DAMAGED

    const sha256_implementation *const sha256_implementations[]

    const sha256_implementation *sha256_best()
    void sha256_init(sha256_state *)
    void sha256_update(const sha256_implementation *, sha256_state *, const uint8_t *, size_t)
    void sha256_update_many(
        const sha256_implementation *, sha256_state *const *, const uint8_t *const *, const size_t *, size_t
    )
    void sha256_digest(const sha256_implementation *, const sha256_state *, uint8_t *)
    size_t sha256_export(const sha256_implementation *, const sha256_state *, uint8_t *)
    sha256_import_result sha256_import(const sha256_implementation *, sha256_state *, const uint8_t *, size_t)


@cython.final
cdef class Sha256:
    cdef sha256_state _state
    cdef const sha256_implementation *_with  # never NULL
    cdef bint _is_resumable
    cdef bint _is_busy  # an update runs without the GIL: no other call may touch _state

    cdef int _check_idle(self) except -1
    cdef int _check_room(self, Py_ssize_t size) except -1

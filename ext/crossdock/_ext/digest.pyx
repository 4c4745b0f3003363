"""SHA-256 whose state can leave the process and come back. The twin in plain Python: crossdock._kernels.digest."""

cimport cython
from cpython.buffer cimport Py_buffer, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize

cdef enum:
    # Below this size giving the GIL up costs more than the hashing (hashlib: HASHLIB_GIL_MINSIZE, 2048 too).
    RELEASE_GIL_SIZE = 2048


@cython.final
cdef class Sha256:
    """SHA-256 over bytes given in order.

    `state` is what `export_state` gave, here or on another machine: hashing goes on where it was. With
    ``resumable=False`` the state cannot be exported (the twin then uses hashlib, which is fast and closed).

    An object belongs to one thread at a time: a call that meets a running `update` raises BufferError.
    Raises ValueError when `state` is damaged, of another version, or no state.
    """

    def __cinit__(self):
        sha256_init(&self._state)
        self._with = sha256_best()
        self._is_resumable = True

    def __init__(self, bytes state=None, *, bint resumable=True):
        cdef sha256_import_result result
        self._check_idle()
        sha256_init(&self._state)
        self._is_resumable = resumable
        if state is not None:
            result = sha256_import(self._with, &self._state, <const uint8_t *><const char *>state, len(state))
            if result == SHA256_NO_STATE:
                raise ValueError("not an exported SHA-256 state")
            if result == SHA256_UNKNOWN_VERSION:
                raise ValueError("SHA-256 state of an unknown version")
            if result == SHA256_DAMAGED:
                raise ValueError("damaged SHA-256 state")

    cdef int _check_idle(self) except -1:
        if self._is_busy:
            raise BufferError("digest is being updated by another thread")
        return 0

    def update(self, data, /):
        """Absorb the bytes of `data`, any contiguous buffer. Releases the GIL from 2 KiB on.

        Raises TypeError when `data` has no buffer, BufferError when it is not contiguous, ValueError when the
        message reaches 2**61 bytes, the end of what SHA-256 can count.
        """
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self._check_idle()
            if <uint64_t>view.len > SHA256_MAX_LENGTH - self._state.length:
                raise ValueError("SHA-256 cannot count 2**61 bytes or more")
            if view.len < RELEASE_GIL_SIZE:
                sha256_update(self._with, &self._state, <const uint8_t *>view.buf, view.len)
            else:
                self._is_busy = True
                with nogil:
                    sha256_update(self._with, &self._state, <const uint8_t *>view.buf, view.len)
                self._is_busy = False
        finally:
            PyBuffer_Release(&view)

    def digest(self):
        """The 32 bytes of the digest of everything so far. `update` may follow."""
        cdef uint8_t out[SHA256_SIZE]
        self._check_idle()
        sha256_digest(self._with, &self._state, out)
        return PyBytes_FromStringAndSize(<char *>out, SHA256_SIZE)

    def hexdigest(self):
        """The digest as 64 lower-case hexadecimal digits. `update` may follow."""
        return self.digest().hex()

    def copy(self):
        """An independent object in the same state."""
        cdef Sha256 other = Sha256.__new__(Sha256)
        self._check_idle()
        other._state = self._state
        other._with = self._with
        other._is_resumable = self._is_resumable
        return other

    @property
    def length(self):
        """Bytes absorbed so far, those before an imported state included."""
        self._check_idle()
        return self._state.length

    def export_state(self):
        """The state as bytes, at any offset: 56 to 119 bytes that `Sha256(state)` continues from.

        Versioned and self-checking against damage; it proves nothing about who wrote it. Raises ValueError
        for an object made with ``resumable=False``.
        """
        cdef uint8_t out[SHA256_EXPORT_MAX]
        self._check_idle()
        if not self._is_resumable:
            raise ValueError("this digest was made with resumable=False: its state cannot be exported")
        return PyBytes_FromStringAndSize(<char *>out, sha256_export(self._with, &self._state, out))


def _implementations():
    """Names of the compression functions that this machine can run, fastest first. For tests."""
    cdef Py_ssize_t i = 0
    names = []
    while sha256_implementations[i] != NULL:
        if sha256_implementations[i].is_available():
            names.append(sha256_implementations[i].name.decode())
        i += 1
    return tuple(names)


def _with_implementation(str name, /):
    """A new Sha256 that uses the compression function called `name`. For tests. Raises ValueError."""
    cdef Sha256 made = Sha256.__new__(Sha256)
    cdef Py_ssize_t i = 0
    while sha256_implementations[i] != NULL:
        if sha256_implementations[i].name.decode() == name and sha256_implementations[i].is_available():
            made._with = sha256_implementations[i]
            return made
        i += 1
    raise ValueError(f"no SHA-256 implementation {name!r} on this machine")


IMPLEMENTATION = sha256_best().name.decode()

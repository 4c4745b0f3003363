"""SHA-256 whose state can leave the process and come back. The twin in plain Python: crossdock._kernels.digest."""

cimport cython
from cpython.buffer cimport Py_buffer, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Calloc, PyMem_Free

cdef enum:
    # Below this size releasing the GIL costs more than the hashing (hashlib: HASHLIB_GIL_MINSIZE, 2048 too).
    RELEASE_GIL_SIZE = 2048

# Chosen once: virtual machines trap CPUID, which then takes longer than hashing a manifest.
cdef const sha256_implementation *BEST = sha256_best()


@cython.final
cdef class Sha256:
    """SHA-256 over bytes given in order.

    `state` is a result of `export_state`, from here or another machine: hashing continues there. With
    ``resumable=False`` the state cannot be exported (the twin then uses hashlib, which is fast and closed).

    An object belongs to one thread at a time: a call that meets a running `update` raises BufferError.
    Raises ValueError when `state` is damaged, of another version, or no state.
    """

    def __cinit__(self):
        sha256_init(&self._state)
        self._with = BEST
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

    cdef int _check_room(self, Py_ssize_t size) except -1:
        if <uint64_t>size > SHA256_MAX_LENGTH - self._state.length:
            raise ValueError("SHA-256 cannot count 2**61 bytes or more")
        return 0

    def update(self, data, /):
        """Absorb the bytes of `data`, any contiguous buffer. Releases the GIL from 2 KiB on.

        Raises TypeError when `data` has no buffer, BufferError when it is not contiguous, ValueError when the
        message reaches 2**61 bytes, the limit of SHA-256.
        """
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self._check_idle()
            self._check_room(view.len)
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

    @property
    def length(self):
        """Bytes absorbed so far, those before an imported state included."""
        self._check_idle()
        return self._state.length

    def export_state(self):
        """The state as bytes, at any offset: 56 to 119 bytes that `Sha256(state)` continues from.

        Versioned and self-checking against damage; it is not authenticated. Raises ValueError
        for an object made with ``resumable=False``.
        """
        cdef uint8_t out[SHA256_EXPORT_MAX]
        self._check_idle()
        if not self._is_resumable:
            raise ValueError("this digest was made with resumable=False: its state cannot be exported")
        return PyBytes_FromStringAndSize(<char *>out, sha256_export(self._with, &self._state, out))


@cython.final
cdef class Updates:
    """The arguments of `sha256_update_many`, and the buffers held meanwhile."""

    cdef size_t count
    cdef size_t held  # how many of `views` are acquired and must be released
    cdef Py_buffer *views
    cdef sha256_state **states
    cdef const uint8_t **data
    cdef size_t *sizes

    def __cinit__(self, size_t count):
        self.count = count
        self.views = <Py_buffer *>PyMem_Calloc(count, sizeof(Py_buffer))
        self.states = <sha256_state **>PyMem_Calloc(count, sizeof(sha256_state *))
        self.data = <const uint8_t **>PyMem_Calloc(count, sizeof(uint8_t *))
        self.sizes = <size_t *>PyMem_Calloc(count, sizeof(size_t))
        if self.views == NULL or self.states == NULL or self.data == NULL or self.sizes == NULL:
            raise MemoryError

    def __dealloc__(self):
        while self.held != 0:
            self.held -= 1
            PyBuffer_Release(&self.views[self.held])
        PyMem_Free(self.views)
        PyMem_Free(self.states)
        PyMem_Free(<void *>self.data)
        PyMem_Free(self.sizes)

    cdef int add(self, Sha256 hasher, object data) except -1:
        cdef Py_buffer *view = &self.views[self.held]
        PyObject_GetBuffer(data, view, PyBUF_SIMPLE)
        self.states[self.held] = &hasher._state
        self.data[self.held] = <const uint8_t *>view.buf
        self.sizes[self.held] = view.len
        self.held += 1
        return 0


def update_many(hashers, buffers, /):
    """Absorb each buffer into the hasher at the same place; equal to `Sha256.update` of one after another.

    The streams are hashed in turn on one core, up to `LANES` at a time: the SHA instructions of one run while
    those of another wait. Releases the GIL when the buffers together have 2 KiB or more.

    All or nothing: an error that `Sha256.update` would raise for one pair is raised before any is absorbed.
    So is ValueError when a hasher occurs twice or there are not as many buffers as hashers.
    """
    cdef tuple targets = tuple(hashers)
    cdef tuple sources = tuple(buffers)
    cdef size_t total = 0, i
    cdef Updates updates
    cdef Sha256 hasher
    if len(targets) != len(sources):
        raise ValueError(f"{len(targets)} hashers cannot take {len(sources)} buffers")
    if not targets:
        return
    updates = Updates(len(targets))
    for hasher, data in zip(targets, sources):
        updates.add(hasher, data)
    if len(set(targets)) != len(targets):
        raise ValueError("a hasher takes one buffer at a time")
    for i in range(updates.count):  # after the last line that may run foreign code, or let other threads run
        hasher = targets[i]
        hasher._check_idle()
        hasher._check_room(updates.sizes[i])
        total += updates.sizes[i]
    hasher = targets[0]  # a state is the same for all implementations
    if total < RELEASE_GIL_SIZE:
        sha256_update_many(hasher._with, updates.states, updates.data, updates.sizes, updates.count)
        return
    set_busy(targets, True)
    with nogil:
        sha256_update_many(hasher._with, updates.states, updates.data, updates.sizes, updates.count)
    set_busy(targets, False)


cdef void set_busy(tuple hashers, bint is_busy):
    cdef Sha256 hasher
    for hasher in hashers:
        hasher._is_busy = is_busy


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


LANES = SHA256_LANES
IMPLEMENTATION = BEST.name.decode()

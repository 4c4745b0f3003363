"""SHA-256 whose state can leave the process and come back: the twin of ext/crossdock/_ext/digest.pyx.

Equal in every result. With ``resumable=False`` it is hashlib; else the compression runs in Python, about a
thousand times slower than the compiled one.
"""

from __future__ import annotations

import hashlib
from struct import Struct, iter_unpack
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

IMPLEMENTATION = "pure"
LANES = 4  # as many as the compiled kernel hashes in turn; here one comes after another

_BLOCK = 64
_MASK = 0xFFFFFFFF
# The padding states the length in bits in 64 bits, so a message has fewer than 2**61 bytes.
_MAX_LENGTH = (1 << 61) - 1

# FIPS 180-4 sections 5.3.3 and 4.2.2.
_INITIAL = (
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
)  # fmt: skip
_CONSTANTS = (
    0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5,
    0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174,
    0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA, 0x5CB0A9DC, 0x76F988DA,
    0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967,
    0x27B70A85, 0x2E1B2138, 0x4D2C6DFC, 0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85,
    0xA2BFE8A1, 0xA81A664B, 0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070,
    0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F, 0x682E6FF3,
    0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2,
)  # fmt: skip

# "sha256s", version, the eight words, bytes so far; then the pending bytes and 8 bytes of check (sha256.c).
_STATE = Struct(">7sB8IQ")
_MAGIC = b"sha256s"
_VERSION = 1
_CHECK = 8


def _compress(words: tuple[int, ...], blocks: Buffer) -> tuple[int, ...]:
    """FIPS 180-4 section 6.2.2 over whole blocks. Bits above the 32nd are cut off per sum, not per term."""
    for block in iter_unpack(">16I", blocks):
        w = list(block)
        for t in range(16, 64):
            x, y = w[t - 15], w[t - 2]
            small0 = (x >> 7 | x << 25) ^ (x >> 18 | x << 14) ^ x >> 3
            small1 = (y >> 17 | y << 15) ^ (y >> 19 | y << 13) ^ y >> 10
            w.append((w[t - 16] + small0 + w[t - 7] + small1) & _MASK)
        a, b, c, d, e, f, g, h = words
        for constant, word in zip(_CONSTANTS, w, strict=True):
            big1 = (e >> 6 | e << 26) ^ (e >> 11 | e << 21) ^ (e >> 25 | e << 7)
            first = h + (big1 & _MASK) + (g ^ (e & (f ^ g))) + constant + word
            big0 = (a >> 2 | a << 30) ^ (a >> 13 | a << 19) ^ (a >> 22 | a << 10)
            second = (big0 & _MASK) + ((a & b) | (c & (a | b)))
            h, g, f, e, d, c, b, a = g, f, e, (d + first) & _MASK, c, b, a, (first + second) & _MASK
        words = tuple((x + y) & _MASK for x, y in zip(words, (a, b, c, d, e, f, g, h), strict=True))
    return words


@final
class Sha256:
    """SHA-256 over bytes given in order.

    `state` is a result of `export_state`, from here or another machine: hashing continues there. With
    ``resumable=False`` the state cannot be exported, and hashlib does the work unless a state was given.

    An object belongs to one thread at a time. Raises ValueError when `state` is damaged, of another version,
    or no state.
    """

    __slots__ = ("_hashlib", "_is_resumable", "_length", "_pending", "_words")

    def __init__(self, state: bytes | None = None, *, resumable: bool = True) -> None:
        self._is_resumable = resumable
        self._words: tuple[int, ...] = _INITIAL
        self._length = 0
        self._pending = b""
        self._hashlib = None if resumable or state is not None else hashlib.sha256()
        if state is not None:
            self._import(state)

    def _import(self, state: bytes) -> None:
        if not isinstance(state, bytes):
            raise TypeError(f"a state is bytes, not {type(state).__name__}")
        if len(state) < 8 or state[:7] != _MAGIC:
            raise ValueError("not an exported SHA-256 state")
        if state[7] != _VERSION:
            raise ValueError("SHA-256 state of an unknown version")
        body, check = state[:-_CHECK], state[-_CHECK:]
        if len(body) < _STATE.size or hashlib.sha256(body).digest()[:_CHECK] != check:
            raise ValueError("damaged SHA-256 state")
        _, _, *words, length = _STATE.unpack_from(body)
        pending = body[_STATE.size :]
        if length > _MAX_LENGTH or len(pending) != length % _BLOCK:
            raise ValueError("damaged SHA-256 state")
        self._words, self._length, self._pending = tuple(words), length, pending

    def update(self, data: Buffer, /) -> None:
        """Absorb the bytes of `data`, any contiguous buffer.

        Raises TypeError when `data` has no buffer, BufferError when it is not contiguous, ValueError when the
        message reaches 2**61 bytes, the limit of SHA-256.
        """
        with memoryview(data) as given:
            size = self._check(given)
            if size == 0:
                return
            with given.cast("B") as view:
                if self._hashlib is not None:
                    self._hashlib.update(view)
                else:
                    self._absorb(view)
        self._length += size

    def _check(self, given: memoryview) -> int:
        """The size of `given` in bytes. Raises as `update` does."""
        if not given.c_contiguous:
            raise BufferError("SHA-256 needs a contiguous buffer")
        if given.nbytes > _MAX_LENGTH - self._length:
            raise ValueError("SHA-256 cannot count 2**61 bytes or more")
        return given.nbytes

    def _absorb(self, view: memoryview) -> None:
        begin = min(-len(self._pending) % _BLOCK, len(view))
        pending = self._pending + bytes(view[:begin])
        words = self._words
        if len(pending) == _BLOCK:
            words, pending = _compress(words, pending), b""
        if begin < len(view):  # here `pending` is empty
            end = len(view) - (len(view) - begin) % _BLOCK
            words, pending = _compress(words, view[begin:end]), bytes(view[end:])
        self._words, self._pending = words, pending

    def digest(self) -> bytes:
        """The 32 bytes of the digest of everything so far. `update` may follow."""
        if self._hashlib is not None:
            return self._hashlib.digest()
        tail = self._pending + b"\x80"
        tail += bytes(-(len(tail) + 8) % _BLOCK) + (self._length * 8).to_bytes(8, "big")
        return b"".join(word.to_bytes(4, "big") for word in _compress(self._words, tail))

    def hexdigest(self) -> str:
        """The digest as 64 lower-case hexadecimal digits. `update` may follow."""
        return self.digest().hex()

    @property
    def length(self) -> int:
        """Bytes absorbed so far, those before an imported state included."""
        return self._length

    def export_state(self) -> bytes:
        """The state as bytes, at any offset: 56 to 119 bytes that `Sha256(state)` continues from.

        Versioned and self-checking against damage; it is not authenticated. Raises ValueError
        for an object made with ``resumable=False``.
        """
        if not self._is_resumable:
            raise ValueError("this digest was made with resumable=False: its state cannot be exported")
        body = _STATE.pack(_MAGIC, _VERSION, *self._words, self._length) + self._pending
        return body + hashlib.sha256(body).digest()[:_CHECK]


def update_many(hashers: Iterable[Sha256], buffers: Iterable[Buffer], /) -> None:
    """Absorb each buffer into the hasher at the same place; equal to `Sha256.update` of one after another.

    All or nothing: an error that `Sha256.update` would raise for one pair is raised before any is absorbed.
    So is ValueError when a hasher occurs twice or there are not as many buffers as hashers.
    """
    targets, sources = tuple(hashers), tuple(buffers)
    if len(targets) != len(sources):
        raise ValueError(f"{len(targets)} hashers cannot take {len(sources)} buffers")
    for hasher in targets:
        if not isinstance(hasher, Sha256):
            raise TypeError(f"a hasher is a Sha256, not {type(hasher).__name__}")
    if len(set(targets)) != len(targets):
        raise ValueError("a hasher takes one buffer at a time")
    for hasher, data in zip(targets, sources, strict=True):
        with memoryview(data) as given:
            hasher._check(given)
    for hasher, data in zip(targets, sources, strict=True):
        hasher.update(data)


def _implementations() -> tuple[str, ...]:
    """Names of the compression functions that this machine can run, fastest first. For tests."""
    return (IMPLEMENTATION,)


def _with_implementation(name: str, /) -> Sha256:
    """A new Sha256 that uses the compression function called `name`. For tests. Raises ValueError."""
    if name != IMPLEMENTATION:
        raise ValueError(f"no SHA-256 implementation {name!r} on this machine")
    return Sha256()

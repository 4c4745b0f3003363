"""Content against its descriptor: the size and digest of a stream, and of a document (R15).

A mismatch is the fault of the side that served the bytes. Nothing is committed at a target before `check`
returned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

from crossdock._kernels import Sha256
from crossdock._kernels import update_many as update_hashers
from crossdock.errors import DigestMismatch, SizeMismatch
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest

Buffer = bytes | bytearray | memoryview


class _Hash(Protocol):
    def update(self, data: Buffer, /) -> None: ...

    def hexdigest(self) -> str: ...


class BlobVerifier:
    """Hashes and counts one blob's bytes, given in order.

    With `resumable` the state can be exported, which only sha256 supports (`can_export`). `state` is an
    earlier result of `export_state`: the next bytes continue there. Raises ValueError when `state` is
    damaged, was taken after the blob's end, or the digest is not sha256.

    Belongs to one thread at a time; `update` releases the GIL for large buffers.
    """

    def __init__(
        self, descriptor: Descriptor, *, resumable: bool = False, state: bytes | None = None
    ) -> None:
        self._descriptor = descriptor
        self._received = 0
        self._exportable: Sha256 | None = None
        self._hash: _Hash
        algorithm = descriptor.digest.algorithm
        if algorithm == "sha256":
            sha256 = Sha256(state, resumable=resumable)
            self._hash = sha256
            self._exportable = sha256 if resumable else None
            self._received = sha256.length
        elif state is None:
            self._hash = hashlib.new(algorithm)
        else:
            raise ValueError(f"a state of {algorithm} cannot be taken up again")
        if self._received > descriptor.size:
            raise ValueError(f"the state is {self._received} bytes into a blob of {descriptor.size}")

    @property
    def received(self) -> int:
        """Bytes given so far, those before `state` included."""
        return self._received

    @property
    def can_export(self) -> bool:
        """Whether `export_state` may be called."""
        return self._exportable is not None

    def update(self, data: Buffer) -> None:
        """Absorb the next bytes; none of them, and `SizeMismatch`, when the blob would be too long."""
        received = self._after(data)
        self._hash.update(data)
        self._received = received

    def _after(self, data: Buffer) -> int:
        """The value of `received` after `data`. Raises `SizeMismatch` when that is too much."""
        received = self._received + memoryview(data).nbytes
        if received > self._descriptor.size:
            raise _wrong_size(self._descriptor, received, " or more")
        return received

    def check(self) -> None:
        """Compare what was received with the descriptor. Raises `SizeMismatch`, `DigestMismatch`."""
        if self._received != self._descriptor.size:
            raise _wrong_size(self._descriptor, self._received)
        algorithm = self._descriptor.digest.algorithm
        _compare(self._descriptor, Digest(f"{algorithm}:{self._hash.hexdigest()}"))

    def export_state(self) -> bytes:
        """The state after `received` bytes, for another verifier. Raises ValueError without `can_export`."""
        if self._exportable is None:
            raise ValueError("only a resumable verifier of a sha256 digest has a state to export")
        return self._exportable.export_state()


def update_many(updates: Sequence[tuple[BlobVerifier, Buffer]]) -> list[Exception | None]:
    """`BlobVerifier.update` of each, those of sha256 hashed in turn (faster than one after another).

    No verifier may occur twice. Returns what each raised: one that fails does not keep the others from it.
    """
    outcomes: list[Exception | None] = [None] * len(updates)
    together: list[tuple[BlobVerifier, Sha256, Buffer, int]] = []
    for place, (verifier, data) in enumerate(updates):
        try:
            if isinstance(verifier._hash, Sha256):
                together.append((verifier, verifier._hash, data, verifier._after(data)))
            else:
                verifier.update(data)
        except Exception as error:
            outcomes[place] = error
    update_hashers([one[1] for one in together], [one[2] for one in together])
    for verifier, _, _, received in together:
        verifier._received = received
    return outcomes


def verify_bytes(data: Buffer, descriptor: Descriptor) -> None:
    """Check a whole document. Raises `SizeMismatch` or `DigestMismatch`.

    The size is compared first (image-spec descriptor.md, "Verification": it "reduces hash collision space").
    """
    size = memoryview(data).nbytes
    if size != descriptor.size:
        raise _wrong_size(descriptor, size)
    _compare(descriptor, Digest.of(data, descriptor.digest.algorithm))


def verify_manifest(data: Buffer, descriptor: Descriptor) -> None:
    """As `verify_bytes`, but a right digest is enough.

    Old versions of docker wrote manifest lists with wrong sizes of their entries, and Harbor's HEAD may state
    another length than its GET (M5). The size is that of `data`.
    """
    if not descriptor.digest.matches(data):
        verify_bytes(data, descriptor)


def size_note(data: Buffer, listed: Descriptor) -> str:
    """A note on a manifest whose digest is right and whose size is not the listed one; else empty."""
    size = memoryview(data).nbytes
    if size == listed.size:
        return ""
    return f"{listed.digest} has {size} bytes, not {listed.size} as its index says; its digest is right"


def _wrong_size(descriptor: Descriptor, received: int, more: str = "") -> SizeMismatch:
    expected = descriptor.size
    return SizeMismatch(
        f"wrong size of {descriptor.digest}: expected {expected} bytes, received {received}{more}",
        expected=expected,
        received=received,
    )


def _compare(descriptor: Descriptor, actual: Digest) -> None:
    expected = descriptor.digest
    if actual != expected:
        raise DigestMismatch(
            f"wrong digest of {descriptor.size} bytes: expected {expected}, received {actual}",
            expected=str(expected),
            actual=str(actual),
        )

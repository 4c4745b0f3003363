"""Rows for the tests of the journal: of bytes that a rule gives, so that any state can be checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crossdock._kernels import Sha256
from crossdock.kept.journal import Journal
from crossdock.kept.uploads import SavedUpload, UploadKey, UploadRecord

SECRET = "s3cr3t"
CHUNK = 100  # small: the pure kernels hash it as well
SIZE = 100 * CHUNK
KEY = UploadKey("registry.example:5000", "team/app", "sha256:" + "ab" * 32)
SOURCE = "source.example/team/app@" + KEY.digest


def content(start: int, stop: int) -> bytes:
    """Bytes ``start``..``stop`` of the blob that rows are about."""
    return bytes(at * 7 % 251 for at in range(start, stop))


def state_at(offset: int) -> bytes:
    """The digest's state after so many bytes of `content`."""
    digest = Sha256()
    digest.update(content(0, offset))
    return digest.export_state()


def location_at(offset: int) -> str:
    """The target's Location when it had acknowledged that many bytes."""
    return f"https://registry.example:5000/v2/team/app/blobs/uploads/9a7c0f3e-1111?_state={SECRET}{offset}"


def is_state_at(state: bytes | None, offset: int) -> bool:
    """Whether hashing continues from `state` as from `offset`."""
    assert state is not None
    digest = Sha256(state)
    rest = content(offset, offset + 100)
    digest.update(rest)
    return digest.digest() == hashlib.sha256(content(0, offset) + rest).digest()


def saved(**changes: Any) -> SavedUpload:
    """A row of an upload that has got through two chunks."""
    values: dict[str, Any] = {
        "key": KEY,
        "size": SIZE,
        "source": SOURCE,
        "location": location_at(2 * CHUNK),
        "acknowledged": 2 * CHUNK,
        "states": {CHUNK: state_at(CHUNK), 2 * CHUNK: state_at(2 * CHUNK)},
        "chunk_size": CHUNK,
        "trust_range": True,
        "created": 1000.5,
        "updated": 1010.25,
        "pid": 77,
    }
    return SavedUpload(**{**values, **changes})


@contextmanager
def a_journal(folder: Path, *, may_fail: bool = False, **options: Any) -> Iterator[Journal]:
    """A journal that is closed in the end; trouble with it is an error, unless `may_fail`."""
    journal = Journal.at(folder, **options)
    try:
        yield journal
    finally:
        journal.close()
    assert may_fail or journal.take_troubles() == []


def claim_any(journal: Journal, key: UploadKey = KEY, size: int = SIZE) -> UploadRecord | None:
    """The row of `key`, unless another copy has it."""
    return journal.claim(key.target, key.digest, size, SOURCE)


def claim(journal: Journal, key: UploadKey = KEY) -> UploadRecord:
    """The row of `key`, which no other copy has."""
    record = claim_any(journal, key)
    assert record is not None
    return record


def last_state(saved: SavedUpload) -> tuple[int, bytes]:
    """The newest state of the row, behind its offset."""
    return list(saved.states.items())[-1]


def write_chunks(record: UploadRecord, first: int, last: int) -> None:
    """Acknowledge the ends of chunks ``first``..``last``, the last included; the first opens the session."""
    if first == 1:
        record.opened(location_at(0), CHUNK)
    for number in range(first, last + 1):
        offset = number * CHUNK
        record.acknowledged(offset, location_at(offset), state_at(offset), CHUNK)

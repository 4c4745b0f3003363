"""Measuring the read rate of a source: some of its blobs are read and thrown away."""

from __future__ import annotations

import time
from collections.abc import Sequence

from crossdock.content import Source
from crossdock.oci.descriptor import Descriptor
from crossdock.steps import during
from crossdock.tasks import run_together

READ_AT_ONCE = 4  # blobs, about as many as a copy reads of one source
PART = 8 << 20  # bytes of one read
_BUFFER = 1 << 20


async def read_rate(samples: Sequence[tuple[Source, Descriptor]], most: int) -> float | None:
    """Bytes per second when reading the first `most` bytes of these blobs; None without blobs. # network

    Raises `CopyError` when a blob cannot be read.
    """
    parts: list[tuple[Source, Descriptor, int, int]] = []
    left = most
    for source, blob in samples:
        for start in range(0, blob.size, PART):
            stop = min(start + PART, blob.size, start + left)
            if stop > start:
                parts.append((source, blob, start, stop))
                left -= stop - start
    if not parts:
        return None
    pending = iter(parts)
    started = time.monotonic()

    async def read() -> int:
        return sum([await _read(*part) for part in pending])

    received = await run_together(read() for _ in range(min(READ_AT_ONCE, len(parts))))
    return sum(received) / max(time.monotonic() - started, 1e-6)


async def _read(source: Source, blob: Descriptor, start: int, stop: int) -> int:
    """The bytes that came; all of the blob where the source ignores ranges."""
    sink = _Counter()
    with during("read blob from", "source", f"{source.name}@{blob.digest}"):
        body = await source.blob(blob).open(start, stop)
        try:
            await body.receive(sink)
        finally:
            body.close()
    return sink.count


class _Counter:
    """A `content.ByteSink` that counts."""

    def __init__(self) -> None:
        self.count = 0
        self._buffer = memoryview(bytearray(_BUFFER))

    def get_buffer(self) -> memoryview:
        """The same buffer again."""
        return self._buffer

    def received(self, count: int) -> None:
        """Note the bytes."""
        self.count += count

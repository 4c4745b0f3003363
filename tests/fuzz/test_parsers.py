"""Every parser of foreign text meets anything: damaged, hostile, without end.

``CROSSDOCK_LONG=1`` gives much more of it; ``make fuzz`` is guided by coverage.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS

LONG = bool(os.environ.get("CROSSDOCK_LONG"))
EXAMPLES = 20_000 if LONG else 150
HANG_S = 30.0  # far above what any input takes on a busy machine: most take microseconds
REPEATED = 60_000  # bytes; a head has at most 64 KiB


@contextmanager
def no_hang() -> Iterator[None]:
    """A failure instead of a test that never ends."""

    def hangs(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"not done after {HANG_S:g} s")

    previous = signal.signal(signal.SIGALRM, hangs)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@st.composite
def damaged(draw: st.DrawFn, name: str) -> bytes:
    """A seed of the target with a few places changed, by its words more often than by anything."""
    target = TARGETS[name]
    data = draw(st.sampled_from(list(target.seeds)))
    words = st.sampled_from([word.encode("utf-8", "surrogatepass") for word in target.words])
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.sampled_from([0, 0, 1, 1, 2, 5, 20])))
        piece = draw(words | words | st.binary(max_size=4) | st.just(data[start : start + 40]))
        data = data[:start] + piece * draw(st.sampled_from([1, 1, 1, 2, 40])) + data[stop:]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_anything_is_read_or_refused_in_our_words(name: str) -> None:
    words = [word.encode("utf-8", "surrogatepass") for word in TARGETS[name].words]
    of_words = st.lists(st.sampled_from(words), max_size=12).map(b"".join)

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(damaged(name) | of_words | st.binary(max_size=200))
    def meets(data: bytes) -> None:
        with no_hang():
            TARGETS[name].run(data)

    for seed in TARGETS[name].seeds:
        TARGETS[name].run(seed)
    meets()


@pytest.mark.parametrize("name", TARGETS)
def test_no_word_that_is_repeated_without_end_keeps_a_parser_busy(name: str) -> None:
    target = TARGETS[name]
    for word in target.words:
        for other in target.words if LONG else ("",):
            piece = (word + other).encode("utf-8", "surrogatepass")
            with no_hang():
                target.run((piece * REPEATED)[:REPEATED])

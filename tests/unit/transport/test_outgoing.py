"""A request's body on its way into the loop."""

from __future__ import annotations

import pytest

from crossdock.errors import InvalidInput
from crossdock.transport.outgoing import JOINED, WRITE_PIECE, Outgoing

HEAD = b"PUT / HTTP/1.1\r\n\r\n"


def pieces(out: Outgoing) -> list[bytes]:
    """All that the loop gets of what was given."""
    found = []
    while (piece := out.take()) is not None:
        found.append(bytes(piece))
    return found


@pytest.mark.parametrize("size", [1, JOINED])
def test_the_head_leaves_with_a_small_body(size: int) -> None:
    out, body = Outgoing(), bytes(size)
    out.begin(size, HEAD)
    assert out.give(memoryview(body)) is None
    assert (pieces(out), out.unsent, out.is_draining) == ([HEAD + body], 0, False)


def test_the_head_leaves_before_a_large_body_which_is_not_copied() -> None:
    out, body = Outgoing(), bytes(WRITE_PIECE + 1)
    out.begin(len(body) + 1, HEAD)
    assert bytes(out.give(memoryview(body)) or b"") == HEAD
    piece = out.take()
    assert piece is not None
    assert piece.obj is body
    assert [len(each) for each in pieces(out)] == [1]
    assert out.give(memoryview(b"x")) is None
    assert (pieces(out), out.unsent) == ([b"x"], 0)


def test_more_than_the_body_is_refused() -> None:
    out = Outgoing()
    out.begin(2, HEAD)
    out.check(2)
    with pytest.raises(InvalidInput, match="3 body bytes given where 2 are left"):
        out.check(3)


def test_what_waits_unchanged_is_stuck() -> None:
    out = Outgoing()
    out.begin(4, b"")
    out.give(memoryview(b"four"))
    out.watch(10.0)
    assert out.stuck(11.0, 5, bound=2.0) is None
    assert out.stuck(12.9, 5, bound=2.0) is None
    assert out.stuck(13.0, 5, bound=2.0) == 9
    assert out.stuck(13.0, 4, bound=2.0) is None, "a byte was accepted"
    assert out.drop()
    assert not out.drop()
    assert out.stuck(14.0, 0, bound=2.0) is None
    assert out.stuck(16.0, 0, bound=2.0) == 0
    out.begin(1, b"")
    assert out.stuck(16.0, 1, bound=2.0) is None, "an earlier request says nothing"

"""The body of one request on its way into the event loop; `response` is its counterpart. Without sockets."""

from __future__ import annotations

from crossdock.errors import InvalidInput

JOINED = 64 * 1024
"""Bytes of a body that leave in one piece with the head; copying them costs less than another packet."""
# Bytes given to the loop at once. asyncio before 3.12 copies what the kernel does not accept at once, so this
# bounds the copy; uvloop keeps a reference, and one call per MiB costs nothing.
WRITE_PIECE = 1 << 20


class Outgoing:
    """Reused for every request of a connection: `begin`, then `give` and `take` until nothing is `unsent`."""

    __slots__ = ("_data", "_head", "_since", "_waiting", "is_draining", "size", "unsent")

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, size: int, head: bytes = b"") -> None:
        """A request with a body of `size` bytes. `head` leaves with the first of them."""
        self.size = self.unsent = size
        """Bytes of the whole body, and those that are still to be passed to `give`."""
        self._head = head if size else b""
        self._data: memoryview | None = None  # not yet taken
        self.is_draining = False
        """The kernel does not have all of what was given yet."""
        self._waiting, self._since = 0, 0.0  # bytes, and the time since which that number is unchanged

    def check(self, count: int) -> None:
        """Raise `InvalidInput` unless `count` more bytes belong to the body."""
        if count > self.unsent:
            raise InvalidInput(f"{count} body bytes given where {self.unsent} are left of the request")

    def give(self, data: memoryview) -> memoryview | None:
        """Accept the next bytes of the body, for `take`. Returns the head if it is to be sent before them."""
        head, self._head = self._head, b""
        self.unsent -= len(data)
        joins = bool(head) and len(data) <= JOINED
        self._data = memoryview(head + data) if joins else data
        self.is_draining = True
        return memoryview(head) if head and not joins else None

    def take(self) -> memoryview | None:
        """The next piece for the loop; None: it and the kernel have all."""
        data = self._data
        if not data:
            self._data, self.is_draining = None, False
            return None
        piece, self._data = data[:WRITE_PIECE], data[WRITE_PIECE:]
        return piece

    def drop(self) -> bool:
        """Drop the bytes that were not taken; False: there is nothing to drop."""
        had, self._data = self._data is not None, None
        return had

    def watch(self, now: float) -> None:
        """Start the time that `stuck` measures."""
        self._waiting, self._since = -1, now

    def stuck(self, now: float, beyond: int, bound: float) -> int | None:
        """The bytes that wait, here and `beyond`, if their number is unchanged for `bound` seconds."""
        waiting = beyond + len(self._data or b"")
        if waiting != self._waiting:
            self._waiting, self._since = waiting, now
        return waiting if now - self._since >= bound else None

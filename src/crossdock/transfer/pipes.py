"""Bytes that pass from one socket to another inside the kernel, by splice(2) through pipes.

A pipe takes the place of a slot for bytes that nobody here reads: the kernel hands on the pages that it
received, and copies none. In C, with nginx as source and distribution 3 as target, that takes 0.05 s of CPU
for 512 MiB where recv and send take 0.14. To hash the bytes as well they would have to be copied once, by
tee(2) and read(2): 8 % less than recv, SHA-256 and send in C, nothing less in the engine: not done.

Rules:

1. Only the part at the frontier uses pipes, so what is in them can always be sent. Parts behind it land in
   slots.
2. The slots that pipes stand for stay reserved until those are empty: the budget counts their bytes.
3. A blob has few pipes. When all are full the target limits, and the source has to wait. A blob without any
   (the kernel bounds what one user's pipes hold) goes by its slots.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import termios
from collections.abc import Callable

from crossdock.transfer.concurrency import Gauge

PIPE_SIZE = 1 << 20  # what Linux permits everybody (fs.pipe-max-size); as many bytes as a slot has
MOST_PIPES = 12


# Linux has had all of it since 2.6.35; no other system has.
IS_AVAILABLE = hasattr(os, "splice") and hasattr(fcntl, "F_SETPIPE_SZ")
# What sandboxes answer that know the call and not these files, or forbid it.
_REFUSED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP})
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK if IS_AVAILABLE else 0


class Pipe:
    """Up to ``room`` bytes in the kernel; `content.Pipe`. Whoever has it gives it to `release` in the end."""

    __slots__ = ("_owner", "_reader", "_size", "_writer", "room")

    def __init__(self, owner: Pipes) -> None:
        self._owner = owner
        self._size = 0
        self.room = 0
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return self._size

    def fill(self, socket: int, most: int) -> int:
        """Move up to `most` bytes here; 0: the socket has none now, or ``room`` became 0. Raises OSError."""
        try:
            count = os.splice(socket, self._writer, min(most, self.room), flags=_FLAGS)
        except BlockingIOError:
            # One word for two things: the socket is empty, or the pipe has no place for another page.
            if self._size and _readable(socket):
                self.room = 0
            return 0
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            self.room = 0
            self._owner.give_up()
            return 0
        self._size += count
        self.room -= count
        return count

    def put(self, data: memoryview) -> int:
        """Copy the first bytes of `data` here; returns how many, fewer when ``room`` has become 0."""
        data = data[: self.room]
        try:
            count = os.write(self._writer, data)
        except BlockingIOError:
            count = 0
        self._size += count
        self.room = self.room - count if count == len(data) else 0
        return count

    def drain(self, socket: int) -> int:
        """Move bytes into the socket; 0: it takes none now. Raises OSError."""
        try:
            count = os.splice(self._reader, socket, self._size, flags=_FLAGS)
        except BlockingIOError:
            return 0
        self._size -= count
        return count

    def take(self, count: int) -> bytes:
        """Copy the first bytes out, `count` of them or all."""
        data = os.read(self._reader, min(count, self._size))
        self._size -= len(data)
        return data

    def release(self) -> None:
        """Nobody uses the pipe any more, and what is still in it is of no use."""
        self._owner.released(self)

    def close(self) -> None:
        """End the pipe; once only."""
        os.close(self._reader)
        os.close(self._writer)


class Pipes:
    """The pipes of one blob, at most `MOST_PIPES`.

    `ready`: whether who is to take them could do so now. `held` counts while the source waits for one.
    """

    def __init__(self, ready: Callable[[], bool], held: Gauge) -> None:
        self._ready = ready
        self._held = held
        self._free: list[Pipe] = []
        self._used = 0
        self._most = MOST_PIPES
        self._waiter: Callable[[], None] | None = None

    def open(self, room: int) -> Pipe | None:
        """An empty pipe for `room` bytes; None: there is none, or nobody to take it."""
        if self._used >= self._most or not self._ready():
            return None
        pipe = self._free.pop() if self._free else self._make()
        if pipe is not None:
            pipe.room = room
            self._used += 1
        return pipe

    def wait(self, released: Callable[[], None]) -> bool:
        """Have `released` called when `open` may be tried again. False: it never will be."""
        if not self._used or not self._ready():
            return False
        if self._waiter is None:
            self._held.change(1)
        self._waiter = released
        return True

    def released(self, pipe: Pipe) -> None:
        """`Pipe.release`."""
        self._used -= 1
        if len(pipe) or not self._most:
            pipe.close()
        else:
            self._free.append(pipe)
        self._go_on()

    def give_up(self) -> None:
        """Open no more pipes: this kernel has splice(2) and does not do it. Bytes go by slots."""
        self._most = 0

    def close(self) -> None:
        """Nothing is received any more. Pipes in use end when they are released."""
        self._most = 0
        while self._free:
            self._free.pop().close()
        self._go_on()

    def _make(self) -> Pipe | None:
        try:
            return Pipe(self)
        except OSError:  # too many files, or this user's pipes hold as much as they may
            self._most = self._used
            return None

    def _go_on(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self._held.change(-1)
            waiter()


def _readable(socket: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(socket, termios.FIONREAD, count)
    return count[0]

"""A file of results: replaced as a whole where that can be, and otherwise written where it is."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

_READABLE = 0o644  # a result is passed on


class OutFile:
    """Text for `path`, which has it after `finish`, and is as it was before that.

    A link is followed, and the file keeps its mode. Anything but a regular file, such as a pipe or a device,
    is written at once. Every method raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self._place = os.path.realpath(path)
        self._made = ""
        try:
            mode = os.stat(self._place).st_mode
        except FileNotFoundError:
            mode = stat.S_IFREG | _READABLE
        if not stat.S_ISREG(mode):
            self._file: IO[str] = open(self._place, "w", encoding="utf-8")  # noqa: SIM115 - see `finish`
            return
        folder, name = os.path.split(self._place)
        descriptor, self._made = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
        os.fchmod(descriptor, stat.S_IMODE(mode))
        self._file = os.fdopen(descriptor, "w", encoding="utf-8")

    def write(self, text: str) -> None:
        """Write more of it."""
        self._file.write(text)

    def finish(self, *, durable: bool = False) -> None:
        """Close the complete file. `durable`: it is on the disk when this returns."""
        self._file.flush()
        if durable and self._made:
            os.fsync(self._file.fileno())
        self._file.close()
        if self._made:
            os.replace(self._made, self._place)
            self._made = ""

    def discard(self) -> None:
        """Drop what was written. Safe at any time; raises nothing."""
        with suppress(OSError, ValueError):
            self._file.close()
        if self._made:
            with suppress(OSError):
                os.unlink(self._made)

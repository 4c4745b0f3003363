"""A folder whose content may come from anyone: no symbolic link in it leads out. Blocking.

A path that was checked may mean another file when it is opened: others may write in the folder. So names are
looked up one by one, each relative to the descriptor of the folder before it and never through a link; a link
is read and its target looked up in the same way, from where the link is. The file that is opened is therefore
below the folder, whatever changes meanwhile. (openat2(2) with RESOLVE_BENEATH does this in one call; Python
has no binding for it.) A folder that was found so stays open and is used again while its path leads to the
same one, whatever way it takes.

The path of the folder itself is its user's and is taken as it is: it may be, or lead through, a link.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from crossdock.errors import (
    Advice,
    StoreError,
)

T = TypeVar("T")

MOST_LINKS = 40  # of one lookup, as the kernel has it (path_resolution(7))
# O_PATH passes through folders that this user may not list. Not every system has it.
_FOLDER = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)


# Linux, for a link that must not be followed, and for one where a folder is wanted; FreeBSD.
_MAYBE_A_LINK = (errno.ELOOP, errno.ENOTDIR, errno.EMLINK)
MOST_KEPT = 64  # descriptors of folders that stay open in this process, or a part of its limit


class _Held:
    """An open folder, closed after its last use."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.identity = _identity(descriptor)

    def __del__(self) -> None:
        os.close(self.descriptor)


_kept: OrderedDict[tuple[object, ...], _Held] = OrderedDict()  # by the folders that confine it, and its path
_mutex = threading.Lock()


class Folder:
    """The folder at `path`, or `parts` below the folder `parent`. It need not exist."""

    def __init__(self, path: Path, parent: Folder | None = None, parts: tuple[str, ...] = ()) -> None:
        self.path = path
        self._parent = parent
        self._parts = parts
        self._key: tuple[object, ...] = (str(path),) if parent is None else (*parent._key, parts)

    def below(self, *parts: str) -> Folder:
        """A folder below: nothing in it leads out of it, and the way to it does not lead out of this one."""
        return Folder(self.path.joinpath(*parts), self, parts)

    @contextmanager
    def entered(self, *parts: str, create: bool = False) -> Iterator[int]:
        """A descriptor of the folder `parts` below this one, for the ``dir_fd`` of the functions of `os`.

        With `create` missing folders are made. Raises OSError, `StoreError` for a link that leads out.
        """
        try:
            held = self._held(parts)
        except FileNotFoundError:
            if not create:
                raise
            self._create(parts)
            held = self._held(parts)
        yield held.descriptor

    def open(self, *parts: str, flags: int = os.O_RDONLY, mode: int = 0o644) -> int:
        """A descriptor of the file `parts` below this folder. Raises as `entered`.

        It may be a pipe or a device: look at it by fstat before use. Opening it does not wait.
        """
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        return self._at(parts, lambda name, folder: os.open(name, flags, mode, dir_fd=folder))

    def stat(self, *parts: str) -> os.stat_result:
        """The path `parts` below this folder; links inside it are followed. Raises as `entered`."""
        return self._at(parts, _look)

    def _at(self, parts: tuple[str, ...], act: Callable[[str, int], T]) -> T:
        try:
            with self.entered(*parts[:-1]) as folder:
                return act(parts[-1], folder)
        except OSError as error:
            if error.errno not in _MAYBE_A_LINK:
                raise
        with self.entered() as home:
            return self._walk(home, list(parts), act)

    def _held(self, parts: tuple[str, ...]) -> _Held:
        """The folder `parts` below this one, looked up once while its path means the same folder."""
        identity, key = _identity(self.path.joinpath(*parts) if parts else self.path), (*self._key, parts)
        with _mutex:
            held = _kept.get(key)
            if held is not None and held.identity == identity:
                _kept.move_to_end(key)
                return held
        held = _Held(self._descriptor(parts))
        with _mutex:
            _kept[key] = held
            _kept.move_to_end(key)
            while len(_kept) > _most_kept():
                _kept.popitem(last=False)
        return held

    def _descriptor(self, parts: tuple[str, ...]) -> int:
        """A new descriptor of the folder `parts` below this one."""
        if parts:
            with self.entered() as home:
                return self._walk(home, list(parts), _open_folder)
        if self._parent is not None:
            return self._parent._descriptor(self._parts)
        return os.open(self.path, _FOLDER)

    def _create(self, parts: tuple[str, ...]) -> None:
        if parts:
            with self.entered(create=True) as home:
                for count in range(1, len(parts) + 1):
                    with suppress(FileExistsError):
                        self._walk(home, list(parts[:count]), _make_folder)
        elif self._parent is not None:
            self._parent._create(self._parts)
        else:
            self.path.mkdir(parents=True, exist_ok=True)

    def _walk(self, home: int, names: list[str], act: Callable[[str, int], T]) -> T:
        """`act` on the last of `names` and the descriptor of its folder. It must not follow links."""
        passed = [os.dup(home)]  # the folders on the way, none of them a link
        pending, links = names[::-1], 0
        try:
            while True:
                name = pending.pop()
                if name == "..":
                    if len(passed) == 1:
                        raise self._leads_out(names)
                    os.close(passed.pop())
                    if pending:
                        continue
                    name = "."
                try:
                    if not pending:
                        return act(name, passed[-1])
                    passed.append(_open_folder(name, passed[-1]))
                except OSError as error:
                    if error.errno not in _MAYBE_A_LINK:
                        raise
                    target = _target(name, passed[-1])
                    if target is None:
                        raise
                    links += 1
                    if links > MOST_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
                    if os.path.isabs(target):
                        target = self._relative(target, names)
                        for descriptor in passed[1:]:
                            os.close(descriptor)
                        del passed[1:]
                    pending += [each for each in target.split("/") if each not in ("", ".")][::-1] or ["."]
        finally:
            for descriptor in passed:
                os.close(descriptor)

    def _relative(self, target: str, names: list[str]) -> str:
        """The absolute `target` of a link as a path from here."""
        for home in (os.path.abspath(self.path), os.path.realpath(self.path)):
            if os.path.commonpath((home, target)) == home:
                return os.path.relpath(target, home)
        raise self._leads_out(names)

    def _leads_out(self, names: list[str]) -> StoreError:
        error = StoreError(
            f"{self.path.joinpath(*names)} leads out of the layout, by a symbolic link",
            advice=Advice(
                "resolve-links", "copy the layout with its links resolved (cp -rL) and use the copy"
            ),
        )
        error.errno = errno.EXDEV  # what openat2(2) says of it
        return error


def _open_folder(name: str, folder: int) -> int:
    return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)


def _most_kept() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_KEPT if files == resource.RLIM_INFINITY else min(MOST_KEPT, files // 16)


def _identity(place: Path | int) -> tuple[int, int] | None:
    try:
        found = os.stat(place)
    except OSError:
        return None  # the lookup that follows says why
    return found.st_dev, found.st_ino


def _make_folder(name: str, folder: int) -> None:
    os.mkdir(name, dir_fd=folder)


def _look(name: str, folder: int) -> os.stat_result:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return found


def _target(name: str, folder: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None  # no link, or no longer one

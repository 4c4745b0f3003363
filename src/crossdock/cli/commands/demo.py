"""``crossdock demo``: a real copy between two registries on this machine. Every number is measured."""

from __future__ import annotations

import argparse
import os
import re
import select
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NoReturn

from crossdock.cli.exits import ExitCode
from crossdock.cli.parser import Parser
from crossdock.cli.streams import is_quiet, print_note, print_result
from crossdock.cli.values import checked
from crossdock.errors import (
    Advice,
    ContentError,
    CrossdockError,
    InvalidOption,
)
from crossdock.imagebuilder import Content, ImageBuilder
from crossdock.options import CopyOptions
from crossdock.units import format_duration, format_size, parse_size

if TYPE_CHECKING:
    from crossdock.runs.one import CopyResult

_DISK = 3.5  # times --size: the layout and one registry, then two registries
_REPOSITORY, _TAG = "demo/app", "1.0"
APPLICATION_FOLDERS = (Path("/usr/lib"), Path("/usr/libexec"), Path("/usr/bin"), Path("/usr/share"))
DATA_FOLDERS = (Path("/usr/share"),)  # the same on every architecture
_FILLER_SIZE = 4 << 20
_SKIPPED_FOLDERS = {"__pycache__", "site-packages", "dist-packages", "test", "tests"}
_START_S = 30.0
_STOP_S = 15.0  # the registry gives open requests 10 s
# prctl(PR_SET_PDEATHSIG, SIGKILL): the kernel ends the child when the parent is gone, even by SIGKILL.
_DIE_WITH_PARENT = """
import ctypes, sys
ctypes.CDLL(None).prctl(1, 9)
from crossdock.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
_ADDRESS = re.compile(r"http://(\S+)")


def add_flags(parser: Parser) -> None:
    """Add the flags of ``demo``."""
    parser.description = (
        "Start two registries on loopback, build a multi-architecture image, copy it from one to the\n"
        "other, compare, and copy again. Needs no network; uses about 3.5 times --size of temporary disk."
    )
    parser.add_argument(
        "--size",
        type=checked(parse_size, _check_size),
        default=300 << 20,
        metavar="SIZE",
        help="size of the largest layer (default 300MiB)",
    )
    parser.add_argument("--keep", action="store_true", help="keep the files and print where they are")


def _check_size(size: int) -> None:
    if size < 1 << 20:
        raise ValueError("must be at least 1MiB")


def run(namespace: argparse.Namespace) -> int:
    """Build an image, copy it, compare, and copy it again. Without ``--keep`` nothing is left behind."""
    with ExitStack() as stack:
        stack.enter_context(_sigterm_as_interrupt())
        folder = stack.enter_context(_work_folder(namespace.size, keep=namespace.keep))
        children: list[ChildRegistry] = []

        def kill_children() -> None:
            for child in children:
                child.kill()

        addresses = []
        for name in ("source", "target"):
            child = ChildRegistry(folder / name, folder / f"{name}.log")
            stack.callback(child.stop)
            children.append(child)
            addresses.append(child.address)
        _tell(addresses[0], addresses[1], folder, namespace.size, kill_children, keep=namespace.keep)
    return ExitCode.DONE


def _tell(
    first: str, second: str, folder: Path, size: int, before_abort: Callable[[], None], *, keep: bool
) -> None:
    from crossdock.cli.loop import run_until_done

    repositories = f"{first}/{_REPOSITORY}", f"{second}/{_REPOSITORY}"
    source, target = (f"{each}:{_TAG}" for each in repositories)
    _say(f"Two registries run on this machine: {first} and {second}.")

    _say(
        "\n1. Building an image from files of this machine: linux/amd64, linux/arm64, attestations.\n"
        "   (compressing it takes longest)"
    )
    started = time.monotonic()
    layout = folder / "layout"
    image = build_image(ImageBuilder(layout), size)
    _say(
        f"   {image.blobs} blobs and manifests, {format_size(image.size)}, the largest layer "
        f"{format_size(image.largest.size)}; built in {format_duration(time.monotonic() - started)}"
    )
    if image.generated:
        _say(f"   (this machine has too few files: {format_size(image.generated)} of it are generated)")

    _say(f"\n2. crossdock copy oci:{layout}:1.0 {source}")
    _copy(f"oci:{layout}:1.0", source, before_abort)
    shutil.rmtree(layout)

    _say(f"\n3. crossdock copy {source} {target}")
    _copy(source, target, before_abort)

    _say("\n4. Reading every manifest back from both registries.")
    compared = run_until_done(_compare(*repositories), before_abort=before_abort)
    _say(f"   {compared} manifests are equal byte for byte; :{_TAG} is {image.index.digest} in both.")

    _say("\n5. The same copy again: the target has everything, so nothing should move.")
    again = _copy(source, target, before_abort)
    if again.bytes_moved:
        raise ContentError(f"the second copy moved {again.bytes_moved} bytes, expected none")
    brief = f"{compared} manifests are equal byte for byte{f'; kept: {folder}' if keep else ''}"
    print_result(_NEXT, brief=brief)


_NEXT = """
Next:
  crossdock registry --root DIR --listen 127.0.0.1:5000
  crossdock copy docker.io/library/alpine:3 127.0.0.1:5000/alpine:3
  crossdock inspect 127.0.0.1:5000/alpine:3
  crossdock copy --help"""


def _say(text: str) -> None:
    print_result(text, brief="")


def _copy(source: str, target: str, before_abort: Callable[[], None]) -> CopyResult:
    from crossdock.cli.report import closing_line
    from crossdock.cli.resultline import result_width
    from crossdock.cli.running import copy_shown
    from crossdock.cli.tally import Tally

    result = copy_shown(
        source, target, CopyOptions(), Tally(), "none" if is_quiet() else "auto", before_abort=before_abort
    )
    width = result_width(sys.stdout)
    _say(f"   {closing_line(result, width - 3 if width is not None else None)}")
    return result


async def _compare(source: str, target: str) -> int:
    """The number of manifests, after checking that both repositories have equal bytes. Raises
    `ContentError`."""
    from crossdock import api

    pending, seen = [f":{_TAG}"], 0
    while pending:
        suffix = pending.pop()
        left, right = [await api.inspect(each + suffix) for each in (source, target)]
        if left.raw != right.raw or left.digest != right.digest:
            raise ContentError(f"{left.reference} and {right.reference} differ")
        pending += [f"@{each.digest}" for each in left.manifest.manifests]
        seen += 1
    return seen


@contextmanager
def _work_folder(size: int, *, keep: bool) -> Iterator[Path]:
    """A temporary folder with enough space, removed at the end unless `keep` is set."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="crossdock-demo-"))
    except OSError as error:
        raise InvalidOption(
            f"cannot make a temporary folder: {error.strerror}",
            advice=Advice("set-variable", "set TMPDIR to a writable folder"),
        ) from error
    try:
        free, needed = shutil.disk_usage(folder).free, round(size * _DISK)
        if free < needed:
            raise InvalidOption(
                f"{folder.parent} has {format_size(free)} free, the demo needs {format_size(needed)}",
                advice=Advice("set-variable", "set TMPDIR to a larger disk, or give a smaller --size"),
            )
        yield folder
    finally:
        if keep:
            print_note(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that children and files are removed."""

    def interrupt(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# -- the image -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DemoImage:
    """The image that was built. Sizes are bytes."""

    index: Content
    largest: Content
    blobs: int
    size: int  # of every blob, each once
    generated: int  # bytes of seeded filler, because this machine has too few files


def build_image(builder: ImageBuilder, size: int) -> DemoImage:
    """linux/amd64 and linux/arm64 over a shared layer, with attestations; `size` is the largest layer's."""
    base = builder.tar_layer(python_library())
    application = _Files(*APPLICATION_FOLDERS)
    largest = builder.tar_layer(application, until=size)
    data = _Files(*DATA_FOLDERS)
    smaller = builder.tar_layer(data, until=size // 8)
    images = [
        builder.image([base, largest], "linux/amd64"),
        builder.image([base, smaller], "linux/arm64/v8"),
    ]
    index = builder.index([*images, *(builder.attestation(image) for image in images)])
    builder.tag(index, "1.0")
    sizes = [builder.path(digest).stat().st_size for digest in builder.digests()]
    return DemoImage(index, largest, len(sizes), sum(sizes), application.generated + data.generated)


def python_library() -> Iterator[tuple[str, Path]]:
    """Python's standard library of this machine, under its path in a Linux image."""
    library = Path(sysconfig.get_path("stdlib"))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in regular_files(library):
        yield f"usr/lib/{version}/{path.relative_to(library)}", path


def regular_files(folder: Path) -> Iterator[Path]:
    """World-readable regular files below `folder`, sorted by name."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - _SKIPPED_FOLDERS)
        for name in sorted(names):
            path = Path(parent, name)
            try:
                mode = path.lstat().st_mode
            except OSError:  # removed since it was listed
                continue
            if stat.S_ISREG(mode) and mode & stat.S_IROTH and os.access(path, os.R_OK):
                yield path


class _Files:
    """An endless sequence of files: those of some folders, then seeded filler whose bytes are counted."""

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        self.generated = 0

    def __iter__(self) -> Iterator[tuple[str, bytes | Path]]:
        for folder in self._folders:
            for path in regular_files(folder):
                yield str(path.relative_to("/")), path
        random = Random(str(self._folders))
        for number in range(sys.maxsize):
            self.generated += _FILLER_SIZE
            yield f"var/lib/filler/{number:06}", random.randbytes(_FILLER_SIZE)


# -- the registries --------------------------------------------------------------------------------------


class ChildRegistry:
    """``crossdock registry`` on a free loopback port; ``address`` is its ``host:port``.

    Raises `CrossdockError` when it does not come up.
    """

    def __init__(self, root: Path, log: Path) -> None:
        self._log = log
        words = [sys.executable, "-c", _DIE_WITH_PARENT, "registry"]
        words += ["--root", str(root), "--listen", "127.0.0.1:0"]
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C goes to the parent, which stops its children
            )
        self.address = self._wait_for_address()

    def stop(self) -> None:
        """Terminate the process and wait for it."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()

    def _wait_for_address(self) -> str:
        output = self._process.stdout
        assert output is not None
        deadline = time.monotonic() + _START_S
        while (left := deadline - time.monotonic()) > 0 and select.select([output], [], [], left)[0]:
            line = output.readline().decode(errors="replace")
            if match := _ADDRESS.search(line):
                return match[1]
            if not line:
                break
        self.stop()
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        raise CrossdockError(
            f"the registry for the demo did not start: {' '.join(last) or 'no reason given'}"
        )

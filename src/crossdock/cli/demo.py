"""``crossdock demo``: a real copy between two registries of this machine. What it prints is measured then."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from crossdock import api
from crossdock.cli.child_registry import ChildRegistry
from crossdock.cli.copying import copy_with_display
from crossdock.cli.demo_image import build_image
from crossdock.cli.exits import ExitCode
from crossdock.cli.loop import run_until_done
from crossdock.cli.report import closing_line
from crossdock.cli.streams import print_result
from crossdock.cli.tally import Tally
from crossdock.cli.units import format_duration, format_size
from crossdock.errors import ContentError, InvalidOption
from crossdock.imagebuilder import ImageBuilder
from crossdock.options import CopyOptions

_DISK = 3.5  # times --size: the layout, then two registries; the layout is gone before the second fills
_REPOSITORY, _TAG = "demo/app", "1.0"


def demo(namespace: argparse.Namespace) -> int:
    """Build an image, copy it, compare, copy again; leave nothing behind unless asked to."""
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
        _tell(addresses[0], addresses[1], folder, namespace.size, kill_children)
    return ExitCode.DONE


def _tell(first: str, second: str, folder: Path, size: int, before_abort: Callable[[], None]) -> None:
    repositories = f"{first}/{_REPOSITORY}", f"{second}/{_REPOSITORY}"
    source, target = (f"{each}:{_TAG}" for each in repositories)
    print_result(f"Two registries run on this machine: {first} and {second}.")

    print_result(
        "\n1. Building an image from files of this machine: linux/amd64, linux/arm64, attestations.\n"
        "   (compressing it takes the longest of all steps)"
    )
    started = time.monotonic()
    layout = folder / "layout"
    image = build_image(ImageBuilder(layout), size)
    print_result(
        f"   {image.blobs} blobs and manifests, {format_size(image.size)}, the largest layer "
        f"{format_size(image.largest.size)}; built in {format_duration(time.monotonic() - started)}"
    )
    if image.generated:
        print_result(
            f"   (this machine has too few files: {format_size(image.generated)} of it are generated)"
        )

    print_result(f"\n2. crossdock copy oci:{layout}:1.0 {source}")
    _copy(f"oci:{layout}:1.0", source, before_abort)
    shutil.rmtree(layout)

    print_result(f"\n3. crossdock copy {source} {target}")
    _copy(source, target, before_abort)

    print_result("\n4. Reading every manifest back from both registries.")
    compared = run_until_done(_compare(*repositories), before_abort=before_abort)
    print_result(f"   {compared} manifests are equal byte for byte; :{_TAG} is {image.index.digest} in both.")

    print_result("\n5. The same copy again: the target has everything, so nothing should move.")
    again = _copy(source, target, before_abort)
    if again.bytes_moved:
        raise ContentError(f"the second copy moved {again.bytes_moved} bytes, expected none")
    print_result(_NEXT)


_NEXT = """
Next:
  crossdock registry --root DIR --listen 127.0.0.1:5000
  crossdock copy docker.io/library/alpine:3 127.0.0.1:5000/alpine:3
  crossdock inspect 127.0.0.1:5000/alpine:3
  crossdock copy --help"""


def _copy(source: str, target: str, before_abort: Callable[[], None]) -> api.CopyResult:
    result = copy_with_display(source, target, CopyOptions(), "auto", Tally(), before_abort=before_abort)
    print_result(f"   {closing_line(result)}")
    return result


async def _compare(source: str, target: str) -> int:
    """How many manifests both repositories hold with equal bytes. Raises `ContentError` at a difference."""
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
    """A temporary folder with room enough, removed at the end unless it is to be kept."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="crossdock-demo-"))
    except OSError as error:
        raise InvalidOption(
            f"no temporary folder can be made: {error.strerror}",
            hint="set TMPDIR to a folder that can be written",
        ) from error
    try:
        free, needed = shutil.disk_usage(folder).free, round(size * _DISK)
        if free < needed:
            raise InvalidOption(
                f"{folder.parent} has {format_size(free)} free, the demo needs {format_size(needed)}",
                hint="set TMPDIR to a larger disk, or give a smaller --size",
            )
        yield folder
    finally:
        if keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that children and files go."""

    def interrupt(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

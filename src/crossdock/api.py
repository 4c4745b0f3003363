"""The library's functions: each is one run in a new `Session`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from crossdock.events import Listener
from crossdock.oci.reference import Location
from crossdock.options import CopyOptions
from crossdock.session import Session

if TYPE_CHECKING:
    from crossdock.mirroring.run import MirrorOptions, MirrorResult
    from crossdock.runs.looking import Inspection
    from crossdock.runs.one import CopyResult
    from crossdock.runs.places import AnySource, AnyTarget
    from crossdock.runs.results import ManyResult, TargetsResult
    from crossdock.runs.run import Deliver

T = TypeVar("T")


@overload
async def copy(
    source: AnySource,
    target: AnyTarget,
    options: CopyOptions | None = None,
    *,
    source_name: str | None = None,
    target_name: str | None = None,
    on_event: Listener | None = None,
) -> CopyResult: ...
@overload
async def copy(
    source: AnySource,
    target: list[Any] | tuple[Any, ...],
    options: CopyOptions | None = None,
    *,
    source_name: str | None = None,
    target_name: str | None = None,
    on_event: Listener | None = None,
) -> TargetsResult: ...
async def copy(
    source: AnySource,
    target: AnyTarget | list[Any] | tuple[Any, ...],
    options: CopyOptions | None = None,
    *,
    source_name: str | None = None,
    target_name: str | None = None,
    on_event: Listener | None = None,
) -> Any:
    """`Session.copy` in a new session; for several copies, a shared session is faster."""
    async with Session(options) as session:
        return await session.copy(
            source, target, source_name=source_name, target_name=target_name, on_event=on_event
        )


async def copy_many(
    pairs: Iterable[tuple[AnySource, AnyTarget]],
    options: CopyOptions | None = None,
    *,
    on_event: Deliver | None = None,
    fail_fast: bool = False,
    at_once: int | None = None,
) -> ManyResult:
    """`Session.copy_many` in a new session."""
    async with Session(options) as session:
        return await session.copy_many(pairs, on_event=on_event, fail_fast=fail_fast, at_once=at_once)


async def mirror(
    source: str,
    targets: str | Iterable[str],
    options: CopyOptions | None = None,
    **chosen: Unpack[MirrorOptions],
) -> MirrorResult:
    """`Session.mirror` in a new session."""
    async with Session(options) as session:
        return await session.mirror(source, targets, **chosen)


async def inspect(
    reference: str | Location,
    options: CopyOptions | None = None,
    *,
    on_warning: Callable[[str], None] = lambda message: None,
) -> Inspection:
    """`Session.inspect` in a new session."""
    async with Session(options) as session:
        return await session.inspect(reference, on_warning=on_warning)


async def list_tags(
    repository: str | Location,
    options: CopyOptions | None = None,
    *,
    on_warning: Callable[[str], None] = lambda message: None,
) -> list[str]:
    """`Session.list_tags` in a new session."""
    async with Session(options) as session:
        return await session.list_tags(repository, on_warning=on_warning)


@overload
def copy_sync(
    source: AnySource,
    target: AnyTarget,
    options: CopyOptions | None = None,
    *,
    source_name: str | None = None,
    target_name: str | None = None,
    on_event: Listener | None = None,
) -> CopyResult: ...
@overload
def copy_sync(
    source: AnySource,
    target: list[Any] | tuple[Any, ...],
    options: CopyOptions | None = None,
    *,
    source_name: str | None = None,
    target_name: str | None = None,
    on_event: Listener | None = None,
) -> TargetsResult: ...
def copy_sync(
    source: AnySource,
    target: AnyTarget | list[Any] | tuple[Any, ...],
    options: CopyOptions | None = None,
    *,
    source_name: str | None = None,
    target_name: str | None = None,
    on_event: Listener | None = None,
) -> Any:
    """`copy` for callers without an event loop; runs on uvloop.

    Raises RuntimeError inside a running event loop, which it would block: there, ``await copy(...)``.
    """
    refuse_running_loop("copy")
    return run(
        copy(source, target, options, source_name=source_name, target_name=target_name, on_event=on_event)
    )


def copy_many_sync(
    pairs: Iterable[tuple[AnySource, AnyTarget]],
    options: CopyOptions | None = None,
    *,
    on_event: Deliver | None = None,
    fail_fast: bool = False,
    at_once: int | None = None,
) -> ManyResult:
    """`copy_many` for callers without an event loop; runs on uvloop. Raises RuntimeError inside a loop."""
    refuse_running_loop("copy_many")
    return run(copy_many(pairs, options, on_event=on_event, fail_fast=fail_fast, at_once=at_once))


def mirror_sync(
    source: str,
    targets: str | Iterable[str],
    options: CopyOptions | None = None,
    **chosen: Unpack[MirrorOptions],
) -> MirrorResult:
    """`mirror` for callers without an event loop; runs on uvloop. Raises RuntimeError inside a loop."""
    refuse_running_loop("mirror")
    return run(mirror(source, targets, options, **chosen))


def refuse_running_loop(name: str) -> None:
    """Raise RuntimeError inside a running event loop, which the synchronous form of `name` would block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"{name}_sync cannot run inside a running event loop: await crossdock.{name}() there")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run one coroutine on a new uvloop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)

"""`copy_many`: a run of copies that share connections, tokens, memory and back-off.

One copy that fails does not end the others. A registry that lets every copy fail for a minute is given up for
the rest of the run: else a list of thousands would wait for thousands of time-outs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Literal

from msgspec import Struct

from crossdock.api import CopyResult, copy_one, refuse_running_loop, run
from crossdock.descriptors import affordable
from crossdock.errors import (
    ConnectFailed,
    CopiesFailed,
    CopyError,
    CrossdockError,
    InvalidOption,
    InvalidReference,
    NotFound,
    RetriesExhausted,
    Side,
    root_cause,
)
from crossdock.events import CopyFailed, Event, check_listener
from crossdock.oci.platform import Platform
from crossdock.oci.reference import Location, Reference
from crossdock.options import CopyOptions
from crossdock.pairs import Pair, Pairs
from crossdock.transfer.tally import Tally
from crossdock.transfer.tasks import run_together
from crossdock.wiring import Places, open_resuming, open_workshop

AT_ONCE = 32
"""Images under way at once: as many as the small requests that one host is sent at first (`gate`). More would
open connections that a near host does not need. What moves bytes has bounds of its own."""
GIVE_UP_AFTER_S = 60.0
GIVE_UP_AFTER_COPIES = 8

ManyListener = Callable[[int, Event], None]
Status = Literal["copied", "unchanged", "left out", "failed", "cancelled", "not begun"]
_Copy = Callable[[Pair, Tally], Awaitable[CopyResult]]

SUMS = tuple(each.name for each in fields(CopyResult) if each.type == "int")


@dataclass(frozen=True, kw_only=True, slots=True)
class PairResult:
    """How one pair ended: with a result, with an error, or with neither when the run ended before it.

    Only `mirror` tells ``unchanged``, which has a result too, from ``copied``, and ``left out``, a signature
    or the like that could not be copied, which has an error too, from ``failed``.
    ``error`` holds no traceback: the one in the event `CopyFailed` does.
    """

    source: str
    target: str
    status: Status
    result: CopyResult | None = None
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ManyResult:
    """How a run of copies ended: one entry for each pair, in the order given."""

    copies: tuple[PairResult, ...]
    seconds: float

    def count(self, status: Status) -> int:
        """How many pairs ended so."""
        return sum(each.status == status for each in self.copies)

    @property
    def failure(self) -> CopiesFailed | None:
        """What to raise for the copies that failed; None when none did."""
        errors = tuple(each.error for each in self.copies if each.error is not None)
        if not errors:
            return None
        return CopiesFailed(
            f"{len(errors)} of {len(self.copies)} copies failed",
            hint=hint_to_repeat("copy the same list again", errors),
            errors=errors,
        )

    def totals(self) -> dict[str, int]:
        """The sums over all results; sizes in bytes. A blob counts once for each copy that names it."""
        results = [each.result for each in self.copies if each.result is not None]
        return {name: sum(getattr(result, name) for result in results) for name in SUMS}


def hint_to_repeat(how: str, errors: Iterable[Exception]) -> str:
    """The advice to run it again; empty when all failures are names that would not be found then either."""
    causes = map(root_cause, errors)
    return "" if all(map(_is_wrong_name, causes)) else f"{how}: what has arrived is not moved twice"


def _is_wrong_name(cause: BaseException) -> bool:
    """Whether a repository, tag or host is not there, or can be none."""
    is_unknown_host = isinstance(cause, ConnectFailed) and cause.is_unknown_name
    return is_unknown_host or isinstance(cause, NotFound | InvalidReference)


async def copy_many(
    pairs: Iterable[tuple[str | Location, str | Location]],
    options: CopyOptions | None = None,
    *,
    on_event: ManyListener = lambda index, event: None,
    fail_fast: bool = False,
    at_once: int = AT_ONCE,
) -> ManyResult:
    """Copy each source to its target, `at_once` of them at the same time, as `copy` does each.

    A pair that is given twice is copied once. `on_event` gets the index of the pair among the different ones
    and a value of `crossdock.events`, and must not block. With `fail_fast` the first failure ends the run.

    Raises `InvalidInput` before anything is sent: for a reference that is none, for two sources of one tag,
    and for a pair that reads a tag which another one writes. Copies that fail do not raise: see the result.
    """
    many = ManyCopy(listed(pairs), options, on_event=on_event, fail_fast=fail_fast, at_once=at_once)
    await many.run()
    return many.result()


def copy_many_sync(
    pairs: Iterable[tuple[str | Location, str | Location]],
    options: CopyOptions | None = None,
    *,
    on_event: ManyListener = lambda index, event: None,
    fail_fast: bool = False,
    at_once: int = AT_ONCE,
) -> ManyResult:
    """`copy_many` for callers without an event loop; runs on uvloop. Raises RuntimeError inside a loop."""
    refuse_running_loop("copy_many")
    return run(copy_many(pairs, options, on_event=on_event, fail_fast=fail_fast, at_once=at_once))


def listed(pairs: Iterable[tuple[str | Location, str | Location]]) -> Pairs:
    """The pairs, checked. Raises `InvalidInput`."""
    checked = Pairs()
    for number, (source, target) in enumerate(pairs, 1):
        checked.add(source, target, number)
    checked.check()
    return checked


class _FailedFast(Exception):
    """Ends the other workers."""


class ManyCopy:
    """A run of copies. `result` can be asked for at any time, also after `run` was cancelled."""

    def __init__(
        self,
        pairs: Pairs,
        options: CopyOptions | None = None,
        *,
        on_event: ManyListener,
        fail_fast: bool = False,
        at_once: int = AT_ONCE,
    ) -> None:
        """`pairs` have been checked. Raises `InvalidOption`; no I/O."""
        if at_once < 1:
            raise InvalidOption("at_once must be 1 or more")
        self._pairs = pairs
        self._options = options or CopyOptions()
        self._platforms = tuple(Platform.parse(text) for text in self._options.platforms)
        check_listener(on_event)
        self._on_event = on_event
        self._fail_fast = fail_fast
        self._at_once = at_once
        self._ended: dict[int, CopyResult | Exception] = {}
        self._begun = 0  # pairs are begun in order
        self._reach = Reach()
        self._started = time.monotonic()

    async def run(self) -> None:
        """Copy what the list says. Raises `InvalidInput` before anything is sent, and CancelledError."""
        async with (
            Places(self._options) as places,
            open_workshop(self._options) as workshop,
            open_resuming(self._options) as resuming,
        ):
            for source, target in self._pairs:
                places.prepare(source, "source")
                places.prepare(target, "target")

            async def copy(pair: Pair, tally: Tally) -> CopyResult:
                return await copy_one(*pair, self._platforms, places, workshop, resuming, tally)

            pending = iter(range(len(self._pairs)))
            # A layout has its folders, lock and unfinished blobs open while a copy goes there.
            workers = min(affordable(self._at_once, per=8), len(self._pairs))
            try:
                await run_together(self._work(pending, copy) for _ in range(workers))
            except _FailedFast:
                pass

    def result(self) -> ManyResult:
        """What is known by now."""
        copies = tuple(self._pair_result(index) for index in range(len(self._pairs)))
        return ManyResult(copies=copies, seconds=time.monotonic() - self._started)

    async def _work(self, pending: Iterator[int], copy: _Copy) -> None:
        for index in pending:
            self._begun = index + 1
            error = await self._copy_pair(index, copy)
            if error is not None:
                pair = self._pairs[index]
                self._on_event(index, CopyFailed(str(pair[0]), str(pair[1]), error))
                self._ended[index] = without_traceback(error)
                if self._fail_fast:
                    raise _FailedFast
                await asyncio.sleep(0)  # a copy that fails without waiting lets the others go on

    async def _copy_pair(self, index: int, copy: _Copy) -> Exception | None:
        """Copy one pair; the error that ended it."""
        pair = self._pairs[index]
        if (given_up := self._reach.error_for(pair)) is not None:
            return given_up
        try:
            self._ended[index] = await copy(pair, Tally(partial(self._on_event, index)))
        except Exception as error:
            self._reach.missed(pair, error)
            return error
        self._reach.reached(pair)
        return None

    def _pair_result(self, index: int) -> PairResult:
        source, target = map(str, self._pairs[index])
        ended = self._ended.get(index)
        if isinstance(ended, CopyResult):
            return PairResult(source=source, target=target, status="copied", result=ended)
        if ended is not None:
            return PairResult(source=source, target=target, status="failed", error=ended)
        status: Status = "cancelled" if index < self._begun else "not begun"
        return PairResult(source=source, target=target, status=status)


class _Silence(Struct):
    """A registry that let every copy fail lately: since when, how many, and how the last one ended."""

    since: float
    copies: int
    error: CrossdockError


class Reach:
    """Which registries are still worth asking.

    Each copy asks several times and waits in between (`NetworkOptions.retries`), so one that fails for a
    reason that may pass has waited for seconds to minutes. When `GIVE_UP_AFTER_COPIES` in a row did, for
    `GIVE_UP_AFTER_S` and longer, those that are still to come fail at once. A copy that succeeds makes all
    good again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._silent: dict[tuple[Side, str], _Silence] = {}

    def error_for(self, pair: Pair) -> CopyError | None:
        """What to fail with when one side of `pair` is a registry that was given up."""
        for key, location in _hosts(pair) if self._silent else ():
            silence = self._silent.get(key)
            if silence is not None and self._is_given_up(silence):
                side, host = key
                error = CopyError(
                    f"copy {side} {location}: not tried: {silence.error}",
                    hint=f"{silence.copies} copies in a row ended like this, so {host} was not asked again: "
                    "copy the same list when it answers",
                    operation="copy",
                    side=side,
                    reference=str(location),
                    cause=silence.error,
                )
                error.__cause__ = silence.error
                return error
        return None

    def reached(self, pair: Pair) -> None:
        """A copy succeeded."""
        for key, _ in _hosts(pair) if self._silent else ():
            self._silent.pop(key, None)

    def missed(self, pair: Pair, error: Exception) -> None:
        """A copy failed."""
        cause = root_cause(error)
        if not (isinstance(error, CopyError) and isinstance(cause, CrossdockError) and cause.retryable):
            return
        for key, _ in _hosts(pair):
            if key[0] == error.side:
                silence = self._silent.setdefault(key, _Silence(self._clock(), 0, cause))
                silence.copies += 1
                silence.error = cause

    def _is_given_up(self, silence: _Silence) -> bool:
        lasts_s = self._clock() - silence.since
        return silence.copies >= GIVE_UP_AFTER_COPIES and lasts_s >= GIVE_UP_AFTER_S


def _hosts(pair: Pair) -> Iterator[tuple[tuple[Side, str], Reference]]:
    """Both sides' registries, with the reference that leads there; none for a layout."""
    sides: tuple[tuple[Side, Location], ...] = (("source", pair[0]), ("target", pair[1]))
    for side, location in sides:
        if isinstance(location, Reference):
            yield (side, location.api_host), location


def without_traceback(error: Exception) -> Exception:
    """`error`, fit to be kept: its tracebacks, and those of what is chained to it, hold whole stacks."""
    found: list[BaseException | None] = [error]
    seen: set[int] = set()
    while found:
        each = found.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        each.__traceback__ = None
        found += [each.__cause__, each.__context__]
        if isinstance(each, RetriesExhausted):
            found += each.attempts
    return error

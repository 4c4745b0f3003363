"""`copy_many` between layouts: the result of each pair, and state that copies of a run share."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from crossdock import CopyResult, Session, copy_many, copy_many_sync, inspect, session
from crossdock.errors import (
    ConnectFailed,
    CopiesFailed,
    CopyError,
    CrossdockError,
    Denied,
    InvalidInput,
    InvalidOption,
    InvalidReference,
    NotFound,
    RetriesExhausted,
)
from crossdock.events import CopyDone, CopyFailed, Event
from crossdock.imagebuilder import ImageBuilder, sample_index
from crossdock.oci.reference import parse_location
from crossdock.options import CopyOptions, NetworkOptions
from crossdock.runs import places, runner, workshop
from crossdock.runs import reach as reach_module
from crossdock.runs.one import CopySpec
from crossdock.runs.pairs import Pair
from crossdock.runs.reach import GIVE_UP_AFTER_COPIES, GIVE_UP_AFTER_S, Reach
from crossdock.runs.results import ManyResult, PairResult, without_traceback
from crossdock.transfer.budget import Budget
from support.process import free_port


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    builder = ImageBuilder(tmp_path / "source", seed=5)
    builder.tag(sample_index(builder, layer_size=3000), "v1")
    return tmp_path / "source"


def pairs_to(layout: Path, target: Path, *tags: str) -> list[tuple[str, str]]:
    """One pair for each source tag, each with its own target."""
    return [(f"oci:{layout}:{tag}", f"oci:{target}:{number}") for number, tag in enumerate(tags)]


async def test_every_pair_is_copied_and_stands_at_its_place(layout: Path, tmp_path: Path) -> None:
    pairs = pairs_to(layout, tmp_path / "target", *["v1"] * 70)
    events: list[tuple[int, Event]] = []
    result = await copy_many(pairs, on_event=lambda copy, event: events.append((copy, event)))
    assert [(each.source, each.target) for each in result.copies] == pairs
    assert result.count("copied") == 70
    assert result.failure is None
    one = result.copies[0].result
    assert isinstance(one, CopyResult)
    assert result.totals()["manifests"] == 70 * one.manifests
    assert sorted(copy for copy, event in events if isinstance(event, CopyDone)) == list(range(70))
    assert (await inspect(pairs[69][1])).digest == one.digest


async def test_a_failed_pair_does_not_end_the_others(layout: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    result = await copy_many(
        pairs_to(layout, tmp_path / "target", "v1", "none", "v1"),
        on_event=lambda copy, event: events.append(event),
        at_once=1,
    )
    assert [each.status for each in result.copies] == ["copied", "failed", "copied"]
    failed = result.copies[1]
    assert isinstance(failed.error, CopyError)
    assert (failed.error.side, failed.error.__traceback__) == ("source", None)
    assert isinstance(result.failure, CopiesFailed)
    assert (str(result.failure), result.failure.errors) == ("1 of 3 copies failed", (failed.error,))
    assert [event.error for event in events if isinstance(event, CopyFailed)] == [failed.error]


@pytest.mark.parametrize(
    ("causes", "is_advised"),
    [
        ([NotFound("404")], False),
        ([NotFound("404"), ConnectFailed("no such host", is_unknown_name=True)], False),
        ([ConnectFailed("the proxy wants another login", retryable=False)], True),
        ([InvalidReference("too long")], False),
        ([NotFound("404"), ConnectFailed("refused")], True),
        ([Denied("403")], True),
    ],
)
def test_a_repetition_is_advised_unless_only_names_were_wrong(
    causes: list[CrossdockError], is_advised: bool
) -> None:
    copies = tuple(PairResult(source="a", target="b", status="failed", error=each) for each in causes)
    failure = ManyResult(copies=copies, seconds=1).failure
    assert failure is not None
    advice = "copy the same list again: blobs that have arrived are not copied again"
    assert str(failure.advice or "") == advice * is_advised


async def test_the_first_failure_ends_the_run_when_asked(layout: Path, tmp_path: Path) -> None:
    pairs = pairs_to(layout, tmp_path / "target", "v1", "none", "v1", "none")
    result = await copy_many(pairs, fail_fast=True, at_once=1)
    assert [each.status for each in result.copies] == ["copied", "failed", "not begun", "not begun"]


async def test_an_error_nobody_expected_is_the_pairs_own(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = runner.copy_one

    async def broken(request: CopySpec, *rest: Any) -> CopyResult:
        if str(request.target).endswith(":1"):
            raise RuntimeError("odd")
        return await whole(request, *rest)

    monkeypatch.setattr(runner, "copy_one", broken)
    result = await copy_many(pairs_to(layout, tmp_path / "target", "v1", "v1", "v1"))
    assert [each.status for each in result.copies] == ["copied", "failed", "copied"]
    assert isinstance(result.copies[1].error, RuntimeError)


async def test_known_values_survive_a_cancellation(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, reached = runner.copy_one, asyncio.Event()

    async def stuck(request: CopySpec, *rest: Any) -> CopyResult:
        if str(request.target).endswith(":1"):
            reached.set()
            await asyncio.Event().wait()
        return await whole(request, *rest)

    monkeypatch.setattr(runner, "copy_one", stuck)
    pairs = pairs_to(layout, tmp_path / "target", "v1", "v1", "v1")
    async with Session() as session:
        run = session.copy_many(pairs, at_once=1)
        task = asyncio.ensure_future(run)
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [each.status for each in run.result.copies] == ["copied", "cancelled", "not begun"]
    assert len(asyncio.all_tasks()) == 1


async def test_a_run_has_one_budget_and_one_store_for_each_side(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Budget] = []
    opened: list[object] = []

    class CountedBudget(Budget):
        def __init__(self, memory: int, *, debug: bool = False) -> None:
            super().__init__(memory, debug=debug)
            made.append(self)

    class CountedPlaces(places.Places):
        async def open(self, *words: Any) -> Any:
            store = await super().open(*words)
            opened.append(store)
            return store

    monkeypatch.setattr(workshop, "Budget", CountedBudget)
    monkeypatch.setattr(session, "Places", CountedPlaces)
    await copy_many(pairs_to(layout, tmp_path / "target", *["v1"] * 9), CopyOptions(memory=8 << 20))
    assert (len(made), len(opened), len(set(map(id, opened)))) == (1, 18, 2)


async def test_a_run_without_pairs_is_over_at_once() -> None:
    result = await copy_many([])
    assert (result.copies, result.failure, result.totals()["bytes_moved"]) == ((), None, 0)


@pytest.mark.parametrize(
    "pairs",
    [
        [("x", "h/x"), ("x://y", "h/y")],
        [("x", "h/x"), ("y", "h/x:latest")],
        [("h/b", "h/c"), ("x", "h/b")],
    ],
)
async def test_pairs_that_contradict_are_refused_before_any_request(
    pairs: list[tuple[str, str]],
) -> None:
    with pytest.raises(InvalidInput, match="pair "):
        await copy_many(pairs)


async def test_options_are_checked_before_any_request() -> None:
    with pytest.raises(InvalidOption, match="at_once"):
        await copy_many([], at_once=0)
    with pytest.raises(InvalidInput):
        await copy_many([("x", "h/x")], CopyOptions(environ={"HTTPS_PROXY": "ftp://proxy"}))


def test_without_a_loop_there_is_the_synchronous_form(layout: Path, tmp_path: Path) -> None:
    result = copy_many_sync([(f"oci:{layout}:v1", parse_location(f"oci:{tmp_path / 'target'}:v1"))])
    assert result.count("copied") == 1


async def test_inside_a_loop_the_synchronous_form_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"await crossdock\.copy_many\(\)"):
        copy_many_sync([])


# -- registries that do not answer -----------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def pair(source: str, target: str) -> Pair:
    return parse_location(source), parse_location(target)


def refused(side: str, cause: CrossdockError) -> CopyError:
    error = CopyError("x", operation="resolve", side=side, reference="r", cause=cause)
    error.__cause__ = cause
    return error


DOWN = pair("down.example/x", "up.example/x")


def silent_for(seconds: float, copies: int, cause: CrossdockError | None = None) -> tuple[Reach, Clock]:
    """A reach that saw `copies` fail at the source within `seconds`."""
    clock = Clock()
    reach = Reach(clock)
    for _ in range(copies):
        reach.missed(DOWN, refused("source", cause or ConnectFailed("nobody listens")))
        clock.now += seconds / copies
    return reach, clock


def test_a_registry_that_lets_every_copy_fail_for_long_is_given_up() -> None:
    reach, _ = silent_for(GIVE_UP_AFTER_S, GIVE_UP_AFTER_COPIES)
    error = reach.error_for(pair("down.example/other:2", "oci:dir"))
    assert error is not None
    assert (error.side, error.reference) == ("source", "down.example/other:2")
    assert "nobody listens" in str(error)
    assert "down.example was not asked again" in str(error.advice)
    assert reach.error_for(pair("up.example/x", "down.example/x")) is None, "the other side is another way in"


@pytest.mark.parametrize(
    ("seconds", "copies"),
    [(GIVE_UP_AFTER_S * 0.9, 100), (GIVE_UP_AFTER_S * 10, GIVE_UP_AFTER_COPIES - 1)],
)
def test_a_few_failures_or_a_short_while_are_not_a_reason(seconds: float, copies: int) -> None:
    reach, _ = silent_for(seconds, copies)
    assert reach.error_for(DOWN) is None


def test_one_copy_that_succeeds_makes_all_good() -> None:
    reach, clock = silent_for(GIVE_UP_AFTER_S, GIVE_UP_AFTER_COPIES)
    reach.reached(DOWN)
    clock.now += GIVE_UP_AFTER_S
    assert reach.error_for(DOWN) is None


def test_responses_that_will_not_change_are_not_silence() -> None:
    reach, _ = silent_for(GIVE_UP_AFTER_S, 100, NotFound("404"))
    assert reach.error_for(DOWN) is None


async def test_a_registry_that_is_down_does_not_cost_every_pair_its_tries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reach_module, "GIVE_UP_AFTER_S", 0.0)
    options, port = CopyOptions(network=NetworkOptions(retries=0), environ={}), free_port()
    pairs = [(f"127.0.0.1:{port}/x:{number}", f"oci:unused:{number}") for number in range(50)]
    result = await copy_many(pairs, options, at_once=4)
    given_up = [
        isinstance(each.error, CopyError) and "not asked again" in str(each.error.advice)
        for each in result.copies
    ]
    assert result.count("failed") == 50
    assert GIVE_UP_AFTER_COPIES <= given_up.count(False) < GIVE_UP_AFTER_COPIES + 4


def test_errors_that_are_kept_hold_no_stacks() -> None:
    attempts = []
    for _ in range(3):
        try:
            raise ConnectFailed("x")
        except ConnectFailed as error:
            attempts.append(error)
    exhausted = RetriesExhausted("gave up", attempts=tuple(attempts))
    exhausted.__cause__ = attempts[-1]
    error = refused("source", exhausted)
    without_traceback(error)
    assert [each.__traceback__ for each in (error, exhausted, *attempts)] == [None] * 5

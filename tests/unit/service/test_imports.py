"""Accepted imports in one process, with the import itself replaced: accept, queue, end, cancel, restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from crossdock.acr.comparing import FoundSource
from crossdock.acr.plan import ImportPlan, make_plan
from crossdock.acr.request import MOST_TARGETS, ImportRequest, ImportSource
from crossdock.errors import InvalidInput, NotFound, QueueFull, Stopping, StoreError
from crossdock.inventory.values import Entry, Inventory, ResourceId
from crossdock.oci.descriptor import Descriptor
from crossdock.options import CopyOptions
from crossdock.runs.totals import Totals
from crossdock.service.config import Limits, Settings
from crossdock.service.operations import imports as module
from crossdock.service.operations import pace
from crossdock.service.operations.imports import Imports, plan_again
from crossdock.service.operations.store import added
from crossdock.service.values import ENDED, Operation, Order, Principal

TARGET = Entry(name="target", login_server="target.example", subscription="s", resource_group="g")
DIGEST = "sha256:" + "0" * 64
OnFound = Callable[[FoundSource], Awaitable[None]]


class Result:
    def as_dict(self) -> dict[str, Any]:
        return {"digest": DIGEST}


class Runs:
    """Replaces `Import`: records runs, and ends them as the test requires."""

    def __init__(self) -> None:
        self.given: list[ImportPlan] = []
        self.plans: list[str] = []
        self.pinned: list[str] = []
        self.hold = asyncio.Event()
        self.error: Exception | None = None
        self.answers = True

    def __call__(self, plan: ImportPlan, *, digest: str, on_found: OnFound, **_: Any) -> FakeImport:
        self.given.append(plan)
        return FakeImport(self, plan, digest, on_found)


class FakeImport:
    def __init__(self, runs: Runs, plan: ImportPlan, digest: str, on_found: OnFound) -> None:
        self.runs, self.plan, self.digest, self.on_found = runs, plan, digest, on_found
        self.totals = Totals()

    async def run(self, *_: object) -> None:
        runs = self.runs
        runs.plans.append(str(self.plan.targets[0]))
        runs.pinned.append(self.digest)
        if not runs.answers:
            await asyncio.Event().wait()
        root = Descriptor("application/vnd.oci.image.manifest.v1+json", DIGEST, 2)  # type: ignore[arg-type]
        await self.on_found(FoundSource(DIGEST, root, ()))
        await runs.hold.wait()
        if runs.error is not None:
            raise runs.error

    def result(self) -> Result:
        return Result()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setattr(module, "Import", made)
    return made


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Any]:
    """Opens the imports of one folder."""

    @asynccontextmanager
    async def opened(entries: tuple[Entry, ...] = (TARGET,), **limits: int) -> AsyncIterator[Imports]:
        settings = Settings(limits=Limits(memory=8 << 20, **limits))
        copying = CopyOptions(state=tmp_path)
        async with Imports(Inventory(registries=entries), copying, {}, settings) as imports:
            await imports.restored()
            yield imports

    return opened


def order(tag: str, who: str = "ci", request_id: str = "", force: bool = False) -> Order:
    return Order(
        registry=ResourceId("s", "g", "target"),
        request=ImportRequest(
            source=ImportSource("a:b", registry_uri=f"{tag}.example"),
            target_tags=(f"a:{tag}",),
            mode="Force" if force else "NoForce",
        ),
        principal=Principal(id=who),
        request_id=request_id,
    )


async def submit(imports: Imports, posted: Order) -> Operation:
    return await imports.submit(posted, plan_again(posted, Inventory(registries=(TARGET,))))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what changes has no event
            await asyncio.sleep(0.001)


async def ended(imports: Imports, operation: Operation) -> Operation:
    await until(lambda: operation.state in ENDED)
    return operation


async def test_an_import_ends_with_its_result_and_every_manifest(start: Any, runs: Runs) -> None:
    async with start() as imports:
        operation = await submit(imports, order("x"))
        await until(lambda: operation.progress.manifests == {"a:x": "Pending"})
        assert operation.source_digest == DIGEST
        runs.hold.set()
        await ended(imports, operation)
        assert (operation.state, operation.result) == ("Succeeded", {"digest": DIGEST})
        assert operation.progress.manifests == {"a:x": "Succeeded"}
        assert imports.find(operation.id.upper()) is operation


async def test_a_bug_ends_the_import_and_tells_nothing(
    start: Any, runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    runs.error = RuntimeError("of the service's own")
    runs.hold.set()
    async with start() as imports:
        operation = await ended(imports, await submit(imports, order("x")))
    assert operation.problem is not None
    assert (operation.state, operation.problem.code) == ("Failed", "InternalError")
    assert "service's own" not in operation.problem.message
    assert f"import {operation.id} failed" in caplog.text


async def test_an_import_that_stands_still_fails_with_the_reason(
    start: Any, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "STALL_S", 0.05)
    async with start() as imports:
        operation = await ended(imports, await submit(imports, order("x")))
    assert operation.problem is not None
    assert "less than 32 MiB moved in 0.05 s" in operation.problem.message


async def test_a_silent_registry_keeps_no_import_from_another_waiting(
    start: Any, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "PATIENCE_S", 0.01)
    async with start(imports=1, imports_per_registry=1) as imports:
        runs.answers = False
        silent = await submit(imports, order("x"))
        await until(lambda: len(runs.plans) == 1)
        runs.answers = True
        runs.hold.set()
        other = await submit(imports, order("y"))
        await ended(imports, other)
        assert (silent.state, other.state) == ("Running", "Succeeded")
        await imports.cancel(silent.id)
        assert (imports.running, silent.state) == (0, "Canceled")


async def test_imports_beyond_the_queue_are_refused(start: Any, runs: Runs) -> None:
    async with start(imports=1, queue=1) as imports:
        await submit(imports, order("x"))
        await submit(imports, order("y"))
        with pytest.raises(QueueFull):
            await submit(imports, order("z"))
        assert (imports.running, imports.waiting, len(imports.all())) == (1, 1, 2)


async def test_equal_requests_at_the_same_moment_are_one_import(start: Any, runs: Runs) -> None:
    async with start() as imports:
        same = await asyncio.gather(*(submit(imports, order("x", request_id="r")) for _ in range(5)))
        assert len({each.id for each in same}) == 1
        others = [
            await submit(imports, order("x", request_id="r", who="other")),
            await submit(imports, order("x", request_id="r", force=True)),
            await submit(imports, order("y", request_id="r")),
        ]
        assert len({each.id for each in [*same, *others]}) == 4


async def test_a_full_disk_is_found_before_an_import_is_posted(
    start: Any, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as imports:
        await imports.check()
        monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=4095))
        with pytest.raises(StoreError, match="no space is left"):
            await imports.check()


async def test_a_cancel_ends_what_runs_and_what_waits(start: Any, runs: Runs) -> None:
    async with start(imports=1) as imports:
        first, second = [await submit(imports, order(tag)) for tag in ("x", "y")]
        await until(lambda: len(runs.plans) == 1)
        for each in (second, first):
            await asyncio.gather(imports.cancel(each.id), imports.cancel(each.id))
            assert each.state == "Canceled"
            assert each.problem is not None
            assert each.problem.code == "OperationCanceled"
        assert (imports.running, imports.waiting, len(runs.plans)) == (0, 0, 1)
        assert await imports.cancel("unknown") is None
    async with start() as imports:
        assert [each.state for each in imports.all()] == ["Canceled", "Canceled"]


async def test_a_cancel_ends_what_has_just_begun(start: Any, runs: Runs) -> None:
    async with start(imports=1) as imports:
        first, second = [await submit(imports, order(tag)) for tag in ("x", "y")]
        imports._queue.remove(first.id)
        imports._start_ready()
        await imports.cancel(second.id)
        assert (second.state, len(runs.plans)) == ("Canceled", 1)
        await imports.cancel(first.id)
        assert (imports.running, imports.waiting) == (0, 0)


async def test_a_result_whose_time_is_over_is_run_again(
    start: Any, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = "6f6c1f4e-0000-4000-8000-000000000000"
    runs.hold.set()
    async with start() as imports:
        first = await ended(imports, await submit(imports, order("x", request_id=own)))
        assert await submit(imports, order("x", request_id=own)) == first
        await until(lambda: not imports._active)  # it is on disk
        monkeypatch.setattr(imports, "_keep_s", -1.0)
        assert imports.find(own) is None
        again = await ended(imports, await submit(imports, order("x", request_id=own)))
        assert (again.id, len(runs.plans)) == (own, 2)


async def test_a_stop_leaves_imports_for_the_next_start_with_what_the_tag_meant(
    start: Any, runs: Runs
) -> None:
    async with start(imports=1) as imports:
        first, second = [await submit(imports, order(tag)) for tag in ("x", "y")]
        await until(lambda: first.source_digest == DIGEST)
        await imports.stop()
        assert (first.state, second.state) == ("Running", "Accepted")
        with pytest.raises(Stopping):
            await submit(imports, order("z"))
    runs.hold.set()
    async with start(imports=1) as imports:
        for each in (first, second):
            found = imports.find(each.id)
            assert found is not None
            await ended(imports, found)
            assert found.state == "Succeeded"
    assert runs.plans == ["target.example/a:x", "target.example/a:x", "target.example/a:y"]
    assert runs.pinned == ["", DIGEST, ""]


async def test_an_import_is_planned_once_and_once_more_after_a_restart(
    start: Any, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ImportPlan] = []

    def make(*args: Any) -> ImportPlan:
        made.append(make_plan(*args))
        return made[-1]

    async with start(imports=1) as imports:
        posted = order("x")
        plan = plan_again(posted, Inventory(registries=(TARGET,)))
        monkeypatch.setattr(module, "make_plan", make)
        operation = await imports.submit(posted, plan)
        await until(lambda: operation.source_digest == DIGEST)
        assert runs.given[0] is plan
        assert made == []
        await imports.stop()
    runs.hold.set()
    async with start() as imports:
        found = imports.find(operation.id)
        assert found is not None
        await ended(imports, found)
    assert made == [plan]
    assert runs.given[1] is made[0]


async def test_a_stop_does_not_wait_for_ever_for_a_disk_that_hangs(
    start: Any, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as imports:
        hangs = asyncio.Event()

        async def save(_: Any) -> None:
            await hangs.wait()
            raise StoreError("the disk is gone")

        with monkeypatch.context() as patch:
            patch.setattr(module, "STOP_S", 0.01)
            patch.setattr(imports._saving, "save", save)
            posted = asyncio.ensure_future(submit(imports, order("x")))
            await until(lambda: bool(imports._arriving))
            await imports.stop()
            assert not posted.done()
        hangs.set()
        with pytest.raises(StoreError):
            await posted


async def test_a_target_that_left_the_inventory_ends_what_waited_for_it(start: Any, runs: Runs) -> None:
    async with start() as imports:
        operation = await submit(imports, order("x"))
    async with start(entries=()) as imports:
        found = imports.find(operation.id)
        assert found is not None
        await ended(imports, found)
        assert found.problem is not None
        assert "inventory does not have the target registry any more" in found.problem.message


async def test_waiting_imports_are_restored_after_the_service_can_answer_and_before_new_ones(
    tmp_path: Path, start: Any, runs: Runs
) -> None:
    async with start(imports=1) as imports:
        old = [await submit(imports, order(tag)) for tag in "abc"]
        await imports.stop()
    settings = Settings(limits=Limits(memory=8 << 20, imports=1))
    copying = CopyOptions(state=tmp_path)
    async with Imports(Inventory(registries=(TARGET,)), copying, {}, settings) as imports:
        assert (imports.running, imports.waiting) == (0, 0)
        assert all(imports.find(each.id) is not None for each in old)  # polls are answered
        runs.hold.set()
        new = await submit(imports, order("z"))
        await ended(imports, new)
        assert runs.plans[-4:] == [f"target.example/a:{tag}" for tag in "abcz"]


async def test_a_stop_while_imports_are_restored_leaves_them_for_the_next_start(
    tmp_path: Path, start: Any, runs: Runs
) -> None:
    async with start(imports=1) as imports:
        old = [await submit(imports, order(tag)) for tag in "abc"]
        await imports.stop()
    async with Imports(Inventory(registries=(TARGET,)), CopyOptions(state=tmp_path), {}) as imports:
        await imports.stop()
        with pytest.raises(Stopping):
            await submit(imports, order("z"))
    runs.hold.set()
    async with start() as imports:
        for each in old:
            found = imports.find(each.id)
            assert found is not None
            assert (await ended(imports, found)).state == "Succeeded"


async def test_an_import_of_too_many_targets_that_an_older_version_took_ends(start: Any, runs: Runs) -> None:
    many = order("x")
    tags = tuple(f"a:{number}" for number in range(MOST_TARGETS + 1))
    many = replace(many, request=replace(many.request, target_tags=tags))
    async with start() as imports:
        with pytest.raises(InvalidInput, match="has 101 targets, more than 100"):
            await submit(imports, many)
        operation = Operation(id="old", order=many, created=1.0)
        await imports._saving.save(added(operation, None, False, None))
    async with start() as imports:
        found = imports.find("old")
        assert found is not None
        problem = (await ended(imports, found)).problem
        assert problem is not None
        assert problem.code == "InvalidParameters"


async def test_a_failure_keeps_its_reason_over_a_restart(start: Any, runs: Runs) -> None:
    runs.error = NotFound("no such manifest")
    runs.hold.set()
    async with start() as imports:
        operation = await ended(imports, await submit(imports, order("x")))
    async with start() as imports:
        assert imports.find(operation.id) == operation
        assert imports.all() == [operation]
    assert len(runs.plans) == 1

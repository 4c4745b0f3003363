"""Imports on disk: everything comes back, no secret stays, troubles are said; writing in bursts."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from crossdock.acr.request import ImportRequest, ImportSource, SourceCredentials
from crossdock.errors import (
    Advice,
    StoreError,
)
from crossdock.inventory.values import ResourceId
from crossdock.kept.sqlitefile import Statement
from crossdock.service.operations.saving import Saving
from crossdock.service.operations.store import (
    FILE,
    OperationStore,
    added,
    outdated,
    updated,
    without_credentials,
)
from crossdock.service.values import Detail, Operation, Order, Principal, Problem, Progress

SECRET = "hunter2-hunter2-hunter2"
ORDER = Order(
    registry=ResourceId("sub", "group", "name"),
    request=ImportRequest(
        source=ImportSource("a:b", registry_uri="h", credentials=SourceCredentials(SECRET, "ci")),
        target_tags=("a:b", "c:d"),
    ),
    principal=Principal(id="ci", issuer="https://issuer", others=("x",)),
    request_id="r",
    client="127.0.0.1",
)


def operation(name: str = "one", created: float = 1.0) -> Operation:
    return Operation(id=name, order=ORDER, created=created)


def ended(name: str, at: float) -> Operation:
    done = operation(name, at - 1)
    done.state, done.ended = "Succeeded", at
    return done


def put(
    store: OperationStore, each: Operation, sealed: bytes | None = None, mark: bytes | None = None
) -> None:
    store.write(added(each, mark, True, sealed))


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_an_import_comes_back_as_it_was_but_for_its_credentials(tmp_path: Path) -> None:
    store = OperationStore(tmp_path / "state")
    one = operation()
    put(store, one, b"sealed", b"mark")
    one.state, one.started, one.source_digest = "Running", 2.0, "sha256:00"
    one.progress = Progress(manifests={"a:b": "Pending"}, bytes=1, total=2, rate=3.5, blob="sha256:11")
    store.write(updated(one))
    salt = store.salt
    store.close()
    store = OperationStore(tmp_path / "state")
    (found,) = store.unfinished()
    one.order = without_credentials(ORDER)
    assert (found.operation, found.mark, found.has_credentials, found.sealed) == (
        one,
        b"mark",
        True,
        b"sealed",
    )
    assert (store.find("one"), store.find_marked(b"mark"), store.find("two")) == (one, one, None)
    assert store.salt == salt
    store.close()
    assert SECRET.encode() not in on_disk(tmp_path / "state")


def test_an_ended_import_keeps_its_result_and_loses_its_credentials(tmp_path: Path) -> None:
    store = OperationStore(tmp_path)
    one = operation()
    put(store, one, b"sealed-credentials")
    one.state, one.ended, one.result = "Failed", 9.0, {"digest": "sha256:00"}
    detail = Detail(code="c", message="m", target="t")
    one.problem = Problem(status=400, code="c", message="m", details=(detail,))
    store.write(updated(one))
    assert store.unfinished() == []
    one.order = without_credentials(ORDER)
    assert store.find("one") == one
    store.close()
    assert b"sealed-credentials" not in on_disk(tmp_path)


def test_sealed_credentials_of_what_has_ended_are_in_no_file_while_the_service_runs(tmp_path: Path) -> None:
    store = OperationStore(tmp_path)
    sealed = {name: name.encode() * 40 for name in ("one", "two")}
    for name, secret in sealed.items():
        put(store, operation(name), secret)
    assert all(secret in on_disk(tmp_path) for secret in sealed.values())
    store.write([*updated(operation("two")), *updated(ended("one", 9.0))])
    assert sealed["one"] not in on_disk(tmp_path)
    assert sealed["two"] in on_disk(tmp_path)  # it has not ended
    store.close()


def test_sealed_credentials_that_somebody_still_reads_go_with_the_next_write(tmp_path: Path) -> None:
    store = OperationStore(tmp_path)
    put(store, operation(), b"sealed" * 20)
    reader = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    reader.execute("PRAGMA busy_timeout = 0")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM operation").fetchall()  # holds the log as it is
    store._file.execute("PRAGMA busy_timeout = 1")
    store.write(updated(ended("one", 9.0)))
    assert b"sealed" * 20 in on_disk(tmp_path)
    reader.close()
    store.write(updated(ended("one", 9.0)))
    assert b"sealed" * 20 not in on_disk(tmp_path)
    store.close()


def test_sealed_credentials_that_a_killed_service_left_in_the_log_go_at_the_start(tmp_path: Path) -> None:
    store = OperationStore(tmp_path)
    put(store, operation(), b"sealed" * 20)
    store._file.execute("UPDATE operation SET sealed = NULL")  # and killed before the log was cut off
    assert b"sealed" * 20 in on_disk(tmp_path)
    store._lock.release()
    again = OperationStore(tmp_path)
    assert b"sealed" * 20 not in on_disk(tmp_path)
    again.close()
    store._reading.close()
    store._file.close()


def test_folder_and_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    store = OperationStore(tmp_path / "a" / "state")
    put(store, operation())
    assert stat.S_IMODE((tmp_path / "a" / "state").stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a" / "state").iterdir()}
    assert set(modes.values()) == {0o600}, modes
    store.close()


def test_one_service_at_a_time_has_a_folder(tmp_path: Path) -> None:
    first = OperationStore(tmp_path)
    with pytest.raises(StoreError, match="another service uses the state folder") as raised:
        OperationStore(tmp_path)
    assert raised.value.advice == Advice("stop-or-choose-state")
    put(first, operation())  # which the second one did not disturb
    first.close()
    OperationStore(tmp_path).close()


def test_old_results_go_and_what_has_not_ended_stays(tmp_path: Path) -> None:
    store = OperationStore(tmp_path)
    for each in (operation("waits", 1.0), ended("old", 10.0), ended("older", 5.0), ended("new", 20.0)):
        put(store, each)
    store.write(outdated(8.0))
    assert [each.id for each in store.newest(9)] == ["new", "old", "waits"]
    store.write(outdated(0.0, most=1))
    assert [each.id for each in store.newest(9)] == ["new", "waits"]
    assert [each.id for each in store.newest(1)] == ["new"]
    store.close()


def test_a_damaged_file_is_left_and_said_so(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="it is damaged") as raised:
        OperationStore(tmp_path)
    assert str(raised.value.advice).startswith("continue without the imports in it: mv ")
    assert (tmp_path / FILE).read_bytes() == b"no database" * 1000


def test_advice_about_a_damaged_file_is_reported_as_well(tmp_path: Path) -> None:
    store = OperationStore(tmp_path)
    for number in range(50):
        put(store, operation(f"waits{number}", 1.0))
    store.close()
    with (tmp_path / FILE).open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(StoreError) as raised:
        OperationStore(tmp_path)
    assert str(raised.value).count("cannot be used") == 1
    assert str(raised.value.advice).startswith("continue without the imports in it: mv ")


def test_a_damaged_row_is_passed_over(tmp_path: Path) -> None:
    store = OperationStore(tmp_path)
    for name in ("one", "two", "three"):
        put(store, operation(name))
    store.write(
        [
            ('UPDATE operation SET "order" = ? WHERE id = ?', (b"{", "one")),
            ("UPDATE operation SET state = ? WHERE id = ?", ("Sleeping", "two")),
        ]
    )
    assert [each.operation.id for each in store.unfinished()] == ["three"]
    assert store.find("one") is None
    store.close()


def test_a_newer_file_is_not_touched(tmp_path: Path) -> None:
    OperationStore(tmp_path).close()
    other = sqlite3.connect(tmp_path / FILE)
    other.execute("PRAGMA user_version = 9")
    other.close()
    with pytest.raises(StoreError, match=r"a newer crossdock \(version 9, not 1\)"):
        OperationStore(tmp_path)


def test_a_full_disk_is_reported_so_and_leaves_what_was_there(tmp_path: Path) -> None:
    store = OperationStore(tmp_path)
    put(store, operation())
    fill(store)
    with pytest.raises(StoreError, match="no space is left"):
        put(store, large("two"))
    assert [each.id for each in store.newest(9)] == ["one"]
    store.close()


def fill(store: OperationStore) -> None:
    """Let the file not grow any more, as on a full disk."""
    ((pages,),) = store._file.execute("PRAGMA page_count")
    store._file.execute(f"PRAGMA max_page_count = {pages}")


def make_room(store: OperationStore) -> None:
    store._file.execute("PRAGMA max_page_count = 1000000")


def large(name: str) -> Operation:
    tags = tuple(f"repository/{number}:tag" for number in range(2000))
    return Operation(
        id=name, order=replace(ORDER, request=replace(ORDER.request, target_tags=tags)), created=2.0
    )


# -- saving ------------------------------------------------------------------------------------------------


class Transactions(OperationStore):
    """Counts writes, and fails on request."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.written: list[int] = []
        self.fails: list[Exception] = []

    def write(self, statements: Sequence[Statement]) -> None:
        if self.fails:
            raise self.fails.pop()
        self.written.append(len(statements))
        super().write(statements)


@pytest.fixture
def store(tmp_path: Path) -> Transactions:
    return Transactions(tmp_path)


async def test_a_burst_is_written_in_few_transactions(store: Transactions) -> None:
    async with Saving(store, 1e12) as saving:
        await asyncio.gather(*(saving.save(added(operation(f"{n}"), None, False, None)) for n in range(200)))
        assert len(store.newest(999)) == 200
    assert len(store.written) <= 4
    store.close()


async def test_notes_are_written_at_the_end(store: Transactions) -> None:
    one = operation()
    async with Saving(store, 1e12) as saving:
        await saving.save(added(one, None, False, None))
        one.state = "Running"
        saving.note(one)
    assert store.unfinished()[0].operation.state == "Running"
    store.close()


async def test_who_saves_learns_of_a_full_disk_and_can_try_again(store: Transactions) -> None:
    async with Saving(store, 1e12) as saving:
        fill(store)
        with pytest.raises(StoreError, match="no space is left"):
            await saving.save(added(large("two"), None, False, None))
        make_room(store)
        await saving.save(added(large("two"), None, False, None))
    assert store.find("two") is not None
    store.close()


async def test_a_bug_in_one_write_does_not_end_the_writer(
    store: Transactions, caplog: pytest.LogCaptureFixture
) -> None:
    store.fails = [TypeError("a bug")]
    async with Saving(store, 1e12) as saving:
        with pytest.raises(StoreError, match="cannot be written: TypeError"):
            await saving.save(added(operation(), None, False, None))
        await saving.save(added(operation(), None, False, None))
    assert "imports were not written" in caplog.text
    store.close()

"""Turns of principals, limits in all and per registry, order kept: the queue's rules, and anything at all."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.errors import QueueFull
from crossdock.service.operations.queue import MOST_ASIDE, FairQueue, Job


def job(name: str, *registries: str) -> Job:
    """``A1`` is the first job of principal A."""
    return Job(name, name[0], frozenset(registries or ("target",)))


def started(queue: FairQueue) -> list[str]:
    """All that may start now."""
    found = []
    while (each := queue.start_next()) is not None:
        found.append(each.id)
    return found


def one_at_a_time(queue: FairQueue) -> list[str]:
    """The order in which all run when each ends before the next one begins."""
    found = []
    while (each := queue.start_next()) is not None:
        found.append(each.id)
        queue.remove(each.id)
    return found


def test_principals_take_turns_and_each_keeps_its_order() -> None:
    queue = FairQueue(at_once=1, per_registry=1, length=100)
    for name in ("A1", "A2", "A3", "A4", "B1", "B2", "C1"):
        queue.add(job(name))
    assert one_at_a_time(queue) == ["A1", "B1", "C1", "A2", "B2", "A3", "A4"]


def test_a_waiting_job_says_what_it_waits_for() -> None:
    queue = FairQueue(at_once=2, per_registry=1, length=100)
    for each in (job("A1", "a", "t"), job("A2", "a", "u"), job("B1", "b"), job("C1", "c")):
        queue.add(each)
    assert queue.reasons("A1") == []
    assert started(queue) == ["A1", "B1"]
    assert queue.reasons("A1") == []  # it runs
    assert queue.reasons("A2") == ["a, where 1 import runs", "one of 2 places for imports"]
    assert queue.reasons("C1") == ["one of 2 places for imports"]
    queue.set_aside("B1", frozenset())
    assert queue.reasons("C1") == []
    assert queue.reasons("unknown") == []


def test_a_latecomer_does_not_wait_for_all_that_came_before() -> None:
    queue = FairQueue(at_once=1, per_registry=1, length=100)
    for number in range(50):
        queue.add(job(f"A{number}"))
    assert queue.start_next() == job("A0")
    queue.add(job("B1"))
    queue.remove("A0")
    assert one_at_a_time(queue)[:3] == ["A1", "B1", "A2"]


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_registry_at_its_limit_keeps_nobody_else_waiting(side: str) -> None:
    queue = FairQueue(at_once=4, per_registry=2, length=100)
    for number in range(4):
        queue.add(job(f"A{number}", side, f"other{number}"))
    queue.add(job("A4", "elsewhere"))
    queue.add(job("B1", side))
    queue.add(job("B2", "elsewhere"))
    assert started(queue) == ["A0", "B1", "A4", "B2"]
    queue.remove("B1")
    assert started(queue) == ["A1"]


def test_an_import_inside_one_registry_counts_once() -> None:
    queue = FairQueue(at_once=4, per_registry=1, length=9)
    queue.add(job("A1", "same", "same"))
    assert started(queue) == ["A1"]


def test_imports_beyond_the_queue_are_refused_and_those_that_can_run_need_no_place() -> None:
    queue = FairQueue(at_once=2, per_registry=9, length=1)
    for name in ("A1", "A2", "A3"):
        queue.check_room("A", Counter())
        queue.add(job(name))
        started(queue)
    with pytest.raises(QueueFull) as raised:
        queue.check_room("A", Counter())
    assert raised.value.advice
    queue.remove("A1")
    started(queue)
    with pytest.raises(QueueFull):
        queue.check_room("A", Counter("A"))  # one is on its way already
    queue.check_room("A", Counter())


def test_who_fills_the_queue_leaves_some_places_for_each_other_principal() -> None:
    queue = FairQueue(at_once=1, per_registry=9, length=20)
    for number in range(21):
        queue.check_room("A", Counter())
        queue.add(job(f"A{number}"))
        started(queue)
    with pytest.raises(QueueFull):
        queue.check_room("A", Counter())
    for number in range(2):
        queue.check_room("B", Counter())
        queue.add(job(f"B{number}"))
    with pytest.raises(QueueFull):
        queue.check_room("B", Counter())
    queue.check_room("C", Counter("C"))
    with pytest.raises(QueueFull):
        queue.check_room("C", Counter("CC"))  # on their way


def test_one_that_waits_can_be_removed() -> None:
    queue = FairQueue(at_once=1, per_registry=1, length=9)
    for name in ("A1", "A2", "B1"):
        queue.add(job(name))
    queue.remove("A1")
    queue.remove("B1")
    queue.remove("unknown")
    assert (queue.waiting, one_at_a_time(queue)) == (1, ["A2"])


@given(
    st.lists(st.tuples(st.sampled_from("ABC"), st.sets(st.sampled_from("xyz"), min_size=1)), max_size=30),
    st.integers(1, 4),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_limits_hold_and_everything_runs_once(
    wanted: list[tuple[str, set[str]]], at_once: int, per_registry: int, chance: object
) -> None:
    queue = FairQueue(at_once=at_once, per_registry=per_registry, length=1000)
    jobs = {f"{who}{number}": (who, registries) for number, (who, registries) in enumerate(wanted)}
    for name, (who, registries) in jobs.items():
        queue.add(Job(name, who, frozenset(registries)))
    running: list[str] = []
    order: list[str] = []
    while True:
        began = started(queue)
        running += began
        order += began
        assert len(running) == queue.running <= at_once
        for registry in "xyz":
            assert sum(registry in jobs[each][1] for each in running) <= per_registry
        if not running:
            break
        ended = chance.choice(running)  # type: ignore[attr-defined]
        running.remove(ended)
        queue.remove(ended)
    assert sorted(order) == sorted(jobs)
    assert queue.waiting == 0
    alike = [each for each in order if jobs[each] == (jobs[order[0]][0], jobs[order[0]][1])]
    assert alike == sorted(alike, key=lambda name: int(name[1:]))  # of one principal and its registries


def test_a_job_that_is_set_aside_counts_for_the_registry_that_is_silent_and_no_other() -> None:
    queue = FairQueue(at_once=2, per_registry=1, length=100)
    for each in (job("A1", "silent", "target"), job("B1", "source", "target"), job("A2", "silent", "other")):
        queue.add(each)
    assert started(queue) == ["A1"]
    queue.set_aside("A1", frozenset({"silent"}))
    assert started(queue) == ["B1"]
    queue.take_back("A1")
    queue.remove("B1")
    assert started(queue) == []
    queue.remove("A1")
    assert started(queue) == ["A2"]


def test_a_registry_full_of_slow_jobs_of_others_has_room() -> None:
    queue = FairQueue(at_once=8, per_registry=2, length=100)
    for each in (job("A1", "evil", "target"), job("A2", "evil", "target"), job("A3", "good", "target")):
        queue.add(each)
    assert started(queue) == ["A1", "A2"]
    queue.add(job("B1", "good", "target"))
    queue.add(job("B2", "other", "target"))
    queue.set_aside("A1", frozenset({"evil", "target"}))
    assert started(queue) == []
    queue.set_aside("A2", frozenset({"evil", "target"}))
    assert started(queue) == ["B1"]  # whose job is not slow: B2 waits for it, and A3 for its own
    queue.remove("B1")
    assert started(queue) == ["B2"]


def test_who_has_many_jobs_aside_starts_no_others_and_keeps_nobody_waiting() -> None:
    queue = FairQueue(at_once=1, per_registry=100, length=100)
    for number in range(MOST_ASIDE + 2):
        queue.add(job(f"A{number}", "silent"))
    for number in range(MOST_ASIDE):
        assert started(queue) == [f"A{number}"]
        queue.set_aside(f"A{number}", frozenset({"silent"}))
    queue.add(job("B1", "good"))
    assert started(queue) == ["B1"]


def test_not_everything_can_be_set_aside() -> None:
    queue = FairQueue(at_once=1, per_registry=100, length=100)
    for number in range(MOST_ASIDE + 2):
        queue.add(job(f"A{number}", "silent"))
    for number in range(MOST_ASIDE):
        assert started(queue) == [f"A{number}"]
        queue.set_aside(f"A{number}", frozenset({"silent"}))
    assert started(queue) == []
    queue.remove("A0")
    assert started(queue) == [f"A{MOST_ASIDE}"]


def test_an_ended_import_is_neither_set_aside_nor_taken_back() -> None:
    queue = FairQueue(at_once=1, per_registry=1, length=100)
    queue.add(job("A1", "silent"))
    assert started(queue) == ["A1"]
    queue.set_aside("A1", frozenset())
    queue.remove("A1")
    queue.take_back("A1")
    queue.set_aside("A1", frozenset())
    queue.add(job("A2", "silent"))
    queue.add(job("A3", "silent"))
    assert started(queue) == ["A2"]

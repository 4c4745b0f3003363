"""How repositories and lines become jobs."""

from __future__ import annotations

from crossdock.clusters.groups import JOBS_PER_SLOT, Item, balanced, grouped


def items(*places: str, size: int = 0) -> list[Item]:
    return [Item(number, frozenset(each), size=size) for number, each in enumerate(places)]


def keys(groups: list[list[Item]]) -> list[set[int]]:
    return sorted(({each.key for each in group} for group in groups), key=min)


def test_what_shares_a_place_stays_together() -> None:
    assert keys(grouped(items("a", "b", "c"))) == [{0}, {1}, {2}]
    assert keys(grouped(items("a", "b", "a"))) == [{0, 2}, {1}]
    assert keys(grouped(items("a", "b", "ab", "c"))) == [{0, 1, 2}, {3}]
    assert keys(grouped(items("ab", "cd", "e", "bc", "ef", "f"))) == [{0, 1, 3}, {2, 4, 5}]


def test_jobs_have_about_the_same_bytes_and_the_largest_is_first() -> None:
    sizes = [1, 1, 1, 9, 5, 4]
    found = balanced(grouped(Item(n, frozenset({str(n)}), size=size) for n, size in enumerate(sizes)), 1)
    loads = [sum(each.size for each in job) for job in found]
    assert loads == sorted(loads, reverse=True) == [9, 5, 4, 1, 1, 1]
    many = [Item(n, frozenset({str(n)}), size=10 * (n < 40)) for n in range(100)]
    jobs = balanced(grouped(many), 2)
    assert len(jobs) == 2 * JOBS_PER_SLOT
    assert sum(map(len, jobs)) == 100
    assert {sum(each.size for each in job) for job in jobs} == {20, 30}
    assert balanced([], 4) == []

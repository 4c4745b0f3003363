"""How an apply that failed is told."""

from __future__ import annotations

import pytest

from crossdock.errors import CrossdockError
from crossdock.migration.apply import ApplyResult


@pytest.mark.parametrize(
    ("tags", "failed", "failures", "words"),
    [
        (24, 3, 3, "3 of 24 tags failed: why"),
        (1, 1, 2, "1 of 1 tag and 1 other step failed: why"),
        (5, 0, 2, "2 other steps failed: why"),
    ],
)
def test_failures_are_counted(tags: int, failed: int, failures: int, words: str) -> None:
    totals: dict[str, float] = {"tags": tags, "failed": failed}
    result = ApplyResult(run="r", entries=(), totals=totals, failed=failures, errors=(CrossdockError("why"),))
    assert str(result.failure) == words

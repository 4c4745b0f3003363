"""``--shard``: the part of a run, from the flag or from a scheduler's environment."""

from __future__ import annotations

import pytest

from crossdock.cli.command import run
from crossdock.cli.shards import shard_of

SLURM = {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "4"}
CI = {"CI_NODE_INDEX": "1", "CI_NODE_TOTAL": "3"}


def slurm(task: int, count: int, first: int, last: int, step: int) -> dict[str, str]:
    values = {"ID": task, "COUNT": count, "MIN": first, "MAX": last, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("0/1", {}, "0/1"),
        ("3/16", {"JOB_COMPLETION_INDEX": "9"}, "3/16"),
        ("auto/8", {"JOB_COMPLETION_INDEX": "7"}, "7/8"),
        ("auto", SLURM, "2/4"),
        ("auto", {**SLURM, "SLURM_ARRAY_TASK_MIN": "1"}, "1/4"),
        ("auto", slurm(30, 4, 10, 40, 10), "2/4"),
        ("auto", slurm(9, 4, 0, 10, 3), "3/4"),
        ("auto", CI, "0/3"),
        ("auto", {**CI, "CI_NODE_INDEX": "3"}, "2/3"),
        ("auto", {**SLURM, **CI}, "2/4"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "1", **CI}, "0/3"),
    ],
)
def test_where_it_comes_from(text: str, environ: dict[str, str], expected: str) -> None:
    assert str(shard_of(text, environ)) == expected


@pytest.mark.parametrize(
    ("text", "environ", "names"),
    [
        ("auto/4", {}, ["JOB_COMPLETION_INDEX", "not set"]),
        ("auto/4", CI, ["JOB_COMPLETION_INDEX", "not set"]),
        ("auto/4", {"JOB_COMPLETION_INDEX": ""}, ["JOB_COMPLETION_INDEX", "not set"]),
        ("auto/4", {"JOB_COMPLETION_INDEX": "4"}, ["JOB_COMPLETION_INDEX", "4"]),
        ("auto/4", {"JOB_COMPLETION_INDEX": "x"}, ["JOB_COMPLETION_INDEX", "'x'"]),
        ("auto/x", {"JOB_COMPLETION_INDEX": "0"}, ["auto/N"]),
        ("auto", {}, ["SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "CI_NODE_INDEX", "CI_NODE_TOTAL"]),
        ("auto", {"SLURM_ARRAY_TASK_ID": "1"}, ["SLURM_ARRAY_TASK_COUNT", "not set"]),
        ("auto", {"CI_NODE_INDEX": "1"}, ["CI_NODE_TOTAL", "not set"]),
        ("auto", {"CI_NODE_TOTAL": "1"}, ["CI_NODE_INDEX", "not set"]),
        ("auto", {**CI, "CI_NODE_INDEX": "0"}, ["CI_NODE_INDEX"]),
        ("auto", {**CI, "CI_NODE_INDEX": "4"}, ["CI_NODE_INDEX"]),
        ("auto", slurm(5, 3, 1, 7, 1), ["Slurm array", "I/N"]),
        ("auto", slurm(3, 4, 0, 6, 2), ["Slurm array", "I/N"]),
        ("4/4", {}, ["0 to 3"]),
        ("one", {}, ["I/N"]),
    ],
)
def test_wrong_and_missing_parts_are_named(text: str, environ: dict[str, str], names: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        shard_of(text, environ)
    for name in names:
        assert name in str(caught.value)


@pytest.mark.parametrize("command", [["mirror", "a.example", "b.example"], ["apply", __file__]])
def test_it_is_a_usage_error(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("JOB_COMPLETION_INDEX", raising=False)
    assert run([*command, "--shard", "auto/4"]) == 2
    said = capsys.readouterr().err
    assert "--shard" in said
    assert "JOB_COMPLETION_INDEX, which is not set" in said

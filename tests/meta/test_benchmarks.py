"""The harness of the benchmarks: its data fits together, and its verdicts are the issue's words."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import annex, report
from benchmarks.clients import CLIENTS
from benchmarks.measure import Sample
from benchmarks.record import FORMAT, RESULTS
from benchmarks.scenarios import KERNEL_BARS, SCENARIOS, Bar, Scenario
from benchmarks.verdict import judge, results

KERNELS = Path(__file__).parents[2] / "benchmarks" / "kernels"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario_races_everyone_that_its_bars_compare(scenario: Scenario) -> None:
    assert set(scenario.clients) <= set(CLIENTS)
    made_up = ran(**{name: [1.0] for name in scenario.clients})
    for bar in scenario.bars:
        assert judge(bar, results(made_up), 0) is not None, bar


def test_the_bars_of_kernels_name_benchmarks_that_exist() -> None:
    groups = set(re.findall(r'group="([^"]+)"', "".join(path.read_text() for path in KERNELS.glob("*.py"))))
    assert {bar.group for bar in KERNEL_BARS} <= groups


def ran(**walls: list[float]) -> dict[str, Any]:
    """A scenario's record in which clients took so many seconds, after a first run that took a thousand."""
    samples = []
    for client, seconds in walls.items():
        for number, wall_s in enumerate([1000.0, *seconds]):
            sample = Sample(client, number, discarded=number == 0, wall_s=wall_s, user_s=wall_s)
            samples.append(asdict(sample))
    return {"samples": samples}


@pytest.mark.parametrize(
    ("bar", "rival"),
    [
        (Bar("wall", 1.0, "any"), "crane-16"),
        (Bar("wall", 1.0, "as used"), "oras"),
        (Bar("cpu", 1.0, "verifying"), "crane-16"),
        (Bar("wall", 1.0, "regsync"), "regsync-16-16"),
        (Bar("cpu", 1.0, "floor"), "floor"),
    ],
)
def test_a_bar_compares_with_the_best_of_those_it_names(bar: Bar, rival: str) -> None:
    raced = {"crossdock": [8.0], "crossdock-target": [1.0], "crane": [5.0], "crane-16": [2.0], "oras": [4.0]}
    raced |= {"regsync": [9.0], "regsync-16-16": [6.0], "floor": [1.0]}
    verdict = judge(bar, results(ran(**raced)), 0)
    assert verdict is not None
    assert (verdict.rival, verdict.value, verdict.other) == (rival, 8.0, raced[rival][0])


def test_a_median_leaves_out_the_first_run_and_those_that_failed() -> None:
    race = ran(crossdock=[1.0, 2.0, 9.0])
    race["samples"][-1]["error"] = "exit 5"
    found = results(race)["crossdock"]
    assert (found.wall.value, found.runs, found.failed) == (1.5, 2, 1)


def test_bytes_are_judged_by_the_worst_run_and_none_means_none() -> None:
    race = ran(crossdock=[1.0, 1.0])
    race["samples"][-1]["source_blob_bytes"] = 106
    met = {needed: judge(Bar("requested", 1.05), results(race), needed) for needed in (100, 101)}
    assert {needed: verdict is not None and verdict.is_met for needed, verdict in met.items()} == {
        100: False,
        101: True,
    }
    nothing = judge(Bar("requested", 0.0), results(race), 0)
    assert nothing is not None
    assert not nothing.is_met


def test_the_page_shows_the_newest_record_and_full_sizes_before_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(report, "ANNEX", tmp_path / "annex.md")
    monkeypatch.setattr(annex, "CHARTS", tmp_path / "charts")
    paths = []
    for started, size, name in (
        ("2026-01-01", "full", "layer"),
        ("2026-01-02", "full", "layer"),
        ("2026-01-03", "quick", "layer"),
        ("2026-01-03", "quick", "layers"),
    ):
        paths.append(tmp_path / f"{started}-{size}-{name}.json")
        paths[-1].write_text(json.dumps(document(started, size, name)))
    report.write(paths)
    page = (tmp_path / "annex.md").read_text()
    used = set(re.findall(r"- `([^`]+)\.json`: commit", page))
    assert used == {"2026-01-02-full-layer", "2026-01-03-quick-layers"}
    assert {path.name for path in (tmp_path / "charts").iterdir()} == {"layer.svg", "layers.svg"}
    assert "crossdock is **2 times as fast**" in (tmp_path / "page.md").read_text()


def document(started: str, size: str, name: str) -> dict[str, Any]:
    scenario = {
        "name": name,
        "workload": {"images": 1, "layers": 1, "layer_size": 1024},
        "storage": "memory",
        "bytes_needed": 1024,
        "source_rate_measured": 0,
        "commands": {"crossdock": "crossdock copy", "crane": "crane copy"},
        **ran(crossdock=[1.0], crane=[2.0]),
    }
    machine = {"cpu": "one", "cores": 1, "memory": 1 << 30, "kernel": "6", "system": "Linux"}
    head = {
        "format": FORMAT,
        "started": started,
        "size": size,
        "partial": False,
        "commit": "c",
        "dirty": False,
    }
    more = {"machine": machine, "python": "3", "crossdock": "0", "versions": {}, "kernels": []}
    return {**head, **more, "scenarios": [scenario]}


def test_records_name_no_folder_of_the_machine_that_made_them() -> None:
    for path in RESULTS.glob("*.json"):
        assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users)/", path.read_text()), path.name


def test_no_text_of_a_picture_is_beyond_its_edge() -> None:
    pictures = list((RESULTS.parents[1] / "docs" / "performance").glob("*.svg"))
    assert pictures
    for picture in pictures:
        text = picture.read_text()
        size = re.search(r'width="(\d+)" height="(\d+)"', text)
        assert size is not None
        for attributes, words in re.findall(r"<text ([^>]*)>([^<]*)</text>", text):
            letters = len(words) * (8.5 if "font-weight" in attributes else 7.5)
            x, y = (float(each) for each in re.findall(r'\b[xy]="([\d.]+)"', attributes))
            left = x - letters if 'text-anchor="end"' in attributes else x
            assert left >= 0, (picture.name, words)
            assert left + letters <= float(size[1]), (picture.name, words)
            assert y < float(size[2]), (picture.name, words)


def test_a_kernel_that_takes_longer_than_its_twin_is_explained() -> None:
    assert annex.UNEXPLAINED not in report.ANNEX.read_text()

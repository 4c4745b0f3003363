"""The pages of plan and apply, and the metrics of a run: what they say, and that names stay text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from crossdock.cli.page import apply_page, plan_page
from crossdock.migration.metrics import metrics_text
from crossdock.runs.totals import Totals

HOSTILE = "<script>alert(1)</script>&\"'"
SAMPLE = re.compile(r'^[a-z_]+\{([a-z]+="(\\\\|\\n|\\"|[^"\\\n])*",?)+\} -?[0-9.e+]+$')


class Page(HTMLParser):
    """Texts and tags of a page; every tag that was opened is closed."""

    def __init__(self, parts: Any) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.links: list[str] = []
        self.feed("".join(parts))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def entry(**more: Any) -> dict[str, Any]:
    figures = ("tags", "copied", "unchanged", "failed", "deleted", "bytes_moved", "bytes_to_move")
    plan = ("repositories", "tags_new", "tags_changed", "tags_unchanged", "tags_to_delete")
    return {**dict.fromkeys((*figures, *plan), 3), "name": HOSTILE, "target": HOSTILE, "problems": [], **more}


def test_a_page_of_an_apply_shows_names_as_text() -> None:
    problem = {"kind": "existing", "reference": HOSTILE, "detail": HOSTILE}
    names = ("tags", "images", "copied", "unchanged", "failed", "deleted", "requests")
    sizes = ("bytes_moved", "bytes_mounted", "bytes_skipped", "seconds")
    document = {
        "run": "1234abcd",
        "entries": [entry(problems=[problem])],
        "totals": dict.fromkeys((*names, *sizes), 4096),
    }
    page = Page(
        apply_page(
            document,
            file=HOSTILE,
            started="today",
            status="failed",
            samples=[(0.0, 0), (1.0, 2048), (2.0, 4096)],
            repositories={HOSTILE: 4096, "none": 0},
            failures={"NotFound": 2},
            not_copied=[(f"{HOSTILE} x", "it is gone")] * 2001,
        )
    )
    assert "script" not in page.tags
    assert page.links == [], "nothing is loaded"
    assert page.words.count(HOSTILE) >= 5
    for word in (
        "4,096",
        "NotFound",
        "it is gone",
        "Bytes per repository",
        "and 1 more, which the JSON report lists",
    ):
        assert word in " ".join(page.words), word


def test_a_page_of_a_plan() -> None:
    sizes = ("bytes_to_move", "bytes_present", "bytes_to_mount")
    counts = (
        "repositories",
        "tags",
        "images",
        "tags_new",
        "tags_changed",
        "tags_unchanged",
        "tags_to_delete",
    )
    document = {
        "entries": [entry()],
        "totals": dict.fromkeys((*sizes, *counts), 1024),
        "requests": {"reg.example": {"needed": 1200, "limit_per_minute": None, "minutes": 2.5}},
        "seconds": None,
    }
    page = Page(plan_page(document, file="m.yaml", made="today"))
    assert {"1,200", "2.5", "not known", "reg.example"} <= set(page.words)


def test_an_empty_run_has_charts_too() -> None:
    document = {
        "run": "1",
        "entries": [],
        "totals": dict.fromkeys(
            (
                "tags",
                "images",
                "copied",
                "unchanged",
                "failed",
                "deleted",
                "requests",
                "bytes_moved",
                "bytes_mounted",
                "bytes_skipped",
                "seconds",
            ),
            0,
        ),
    }
    for samples in ([], [(0.0, 0)]):
        page = Page(
            apply_page(
                document,
                file="m",
                started="",
                status="done",
                samples=samples,
                repositories={},
                failures={},
                not_copied=[],
            )
        )
        assert "svg" in page.tags


def test_metrics_are_in_the_text_format() -> None:
    totals = Totals(images=3)
    totals.images_done, totals.images_failed = 2, 1
    lines = metrics_text(totals, 'a"b\\c\nd.yaml', "1234", ended=True).splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert all(map(SAMPLE.match, samples)), samples
    label = '{file="a\\"b\\\\c\\nd.yaml",run="1234"}'
    assert f"crossdock_run_images_done_total{label} 2" in samples
    assert f"crossdock_run_images_failed_total{label} 1" in samples
    assert f"crossdock_run_ended{label} 1" in samples
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(families) == len(set(families))
    assert {line.partition("{")[0] for line in samples} == set(families)

"""The status page's HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any, get_args

import pytest

from crossdock.acr.request import ImportRequest, ImportSource, SourceCredentials
from crossdock.service.values import ANYBODY, Detail, Operation, Problem, Progress, State
from crossdock.service.web.ends import Ends
from crossdock.service.web.pagehtml import SHOWN, SHOWN_TARGETS, Look, render_import
from crossdock.service.web.pagehtml import render_page as rendered
from unit.service.web.doubles import INVENTORY, order_of

EVIL = '<script>alert("1")</script>&\''


def look(**more: Any) -> Look:
    plain: dict[str, Any] = {
        "names": Ends(INVENTORY).names,
        "waits_for": lambda each: "",
        "token": lambda each: "",
    }
    return Look(**(plain | more))


def render_page(operations: Sequence[Operation], **more: Any) -> str:
    return rendered(operations, look(**more))


def operation(number: int, state: State, *, image: str = "library/x:1", **more: object) -> Operation:
    request = ImportRequest(
        source=ImportSource(
            source_image=image, registry_uri="docker.io", credentials=SourceCredentials("hunter2", "me")
        ),
        target_tags=(f"{image}-copy",),
    )
    made = Operation(
        id=f"00000000-0000-0000-0000-{number:012}", order=order_of(request, ANYBODY), state=state
    )
    for name, value in {"created": 1e9 + number, "ended": 2e9 + number, **more}.items():
        setattr(made, name, value)
    return made


class Tags(HTMLParser):
    """The tags of a page and their balance."""

    VOID = frozenset({"meta", "link", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_names_from_strangers_are_escaped_everywhere() -> None:
    problem = Problem(status=400, code=EVIL, message=EVIL, details=(Detail(code="x", message=EVIL),))
    html = render_page(
        [
            operation(1, "Failed", image=EVIL, problem=problem),
            operation(2, "Running", image=EVIL, progress=Progress(total=9, blob=EVIL)),
        ],
        who=EVIL,
        text=EVIL[:6],
        waits_for=lambda each: EVIL,
    )
    html += render_import(operation(3, "Failed", image=EVIL, problem=problem, source_digest=EVIL), look())
    assert "alert(&quot;1&quot;)" in html
    assert 'alert("1")' not in html
    tags = Tags(html)
    assert tags.open == []
    assert tags.seen.count("script") == 2  # one for each page


def test_the_page_has_no_secret_and_nothing_from_elsewhere() -> None:
    html = render_page([operation(1, "Running")])
    assert "hunter2" not in html
    assert "//" not in html
    assert "style=" not in html
    assert " on" not in html.replace(" on ", "").replace(" one", "")


def test_states_amounts_and_rates_are_reported() -> None:
    progress = Progress(present=1 << 20, total=1 << 22, rate=2048.0, blob="sha256:" + "0" * 64)
    html = render_page([operation(1, "Running", progress=progress), operation(2, "Accepted")])
    assert 'max="4194304" value="1048576"' in html
    assert "25%, 1.0 MiB of 4.0 MiB, 2.0 KiB/s" in html
    assert "<b>1</b> waiting" in html
    assert "<b>2.0 KiB/s</b> now" in html
    assert '<td data-label="Sent to it">0 B, 2.0 KiB/s</td>' in html  # of my.example.com


def test_of_many_that_have_ended_the_last_are_shown() -> None:
    html = render_page([operation(each, "Succeeded") for each in range(SHOWN + 3)])
    assert html.count('<tr class="succeeded"') == SHOWN
    assert "and 3 more" in html
    assert f"?import=00000000-0000-0000-0000-{SHOWN + 2:012}" in html


def test_without_scripts_the_page_loads_itself_again() -> None:
    assert '<noscript><meta http-equiv="refresh"' in render_page([])
    assert "Nothing is being imported." in render_page([])


def test_of_many_targets_the_first_are_shown_and_a_count() -> None:
    made = operation(1, "Accepted")
    tags = tuple(f"team/app:{number}" for number in range(100))
    request = ImportRequest(source=ImportSource("a:b", registry_uri="docker.io"), target_tags=tags)
    made.order = order_of(request, ANYBODY)
    html = render_page([made])
    assert f"/{tags[SHOWN_TARGETS - 1]}<" in html
    assert f"/{tags[SHOWN_TARGETS]}<" not in html
    assert f"and {100 - SHOWN_TARGETS} more" in html
    assert f"/{tags[-1]}<" in render_import(made, look())


def test_what_was_already_there_does_not_count_as_moved() -> None:
    progress = Progress(present=180_005_130, total=180_005_130, bytes=0)
    html = render_page([operation(1, "Succeeded", progress=progress)])
    assert "0 B moved" in html
    assert "171.7 MiB were there" in html
    assert "<b>0 B</b> moved" in html


@pytest.mark.parametrize(
    ("why", "rate", "words"),
    [
        ("source", 1.0, "limited by docker.io"),
        ("target", 0.0, "waits for my.example.com"),
        ("cpu", 1.0, "limited by this machine&#x27;s CPU"),
        ("memory, which other imports use", 0.0, "waits for memory, which other imports use"),
    ],
)
def test_a_running_import_says_what_it_waits_for(why: str, rate: float, words: str) -> None:
    made = operation(1, "Running", progress=Progress(total=9, rate=rate))
    assert f">{words}<" in render_page([made], waits_for=lambda each: why)


def test_times_are_those_of_each_step() -> None:
    html = render_page([operation(1, "Succeeded", created=1e9, started=1e9 + 20, ended=1e9 + 80)])
    for name, value in (
        ("accepted", "2001-09-09 01:46:40"),
        ("waited", "20.0 s"),
        ("started", "2001-09-09 01:47:00"),
        ("ended", "2001-09-09 01:48:00"),
        ("ran", "1m00s"),
    ):
        found = html.partition(f"<dt>{name}</dt>")[2].partition("</dd>")[0]
        assert value in found


@pytest.mark.parametrize(
    ("filter_", "shown"),
    [
        ({}, {1, 2, 3}),
        ({"state": "Failed"}, {2}),
        ({"state": "nonsense"}, {1, 2, 3}),
        ({"text": "LIBRARY/Y"}, {3}),
        ({"text": "my.example.com"}, {1, 2, 3}),
        ({"text": "ManifestUnknown"}, {2}),
        ({"text": "000000000001"}, {1}),
        ({"text": "hunter2"}, set()),
    ],
)
def test_a_filter_shows_some_imports(filter_: dict[str, str], shown: set[int]) -> None:
    missing = Problem(status=400, code="ManifestUnknown", message="m")
    made = [
        operation(1, "Running"),
        operation(2, "Failed", problem=missing),
        operation(3, "Succeeded", image="library/y:1"),
    ]
    html = render_page(made, **filter_)
    assert {n for n in (1, 2, 3) if f"?import=00000000-0000-0000-0000-{n:012}" in html} == shown
    assert "<b>1</b> running" in html  # totals are those of all


def test_every_state_can_be_filtered_by() -> None:
    assert all(f'<option value="{state}"' in render_page([]) for state in get_args(State))

"""The status page's HTML."""

from __future__ import annotations

from html.parser import HTMLParser

from crossdock.acr.request import ImportRequest, ImportSource, SourceCredentials
from crossdock.service.values import ANYBODY, Detail, Operation, Problem, Progress, State
from crossdock.service.web.page import SHOWN, SHOWN_TARGETS, render_page
from unit.service.web.doubles import order_of

EVIL = '<script>alert("1")</script>&\''


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

    VOID = frozenset({"meta", "link"})

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
    )
    assert "alert(&quot;1&quot;)" in html
    assert 'alert("1")' not in html
    tags = Tags(html)
    assert tags.open == []
    assert tags.seen.count("script") == 1


def test_the_page_has_no_secret_and_nothing_from_elsewhere() -> None:
    html = render_page([operation(1, "Running")])
    assert "hunter2" not in html
    assert "//" not in html.replace("<!doctype", "")
    assert "style=" not in html
    assert " on" not in html.replace(" on ", "").replace(" one", "")


def test_states_amounts_and_rates_are_reported() -> None:
    progress = Progress(present=1 << 20, total=1 << 22, rate=2048.0, blob="sha256:" + "0" * 64)
    html = render_page([operation(1, "Running", progress=progress), operation(2, "Accepted")])
    assert 'max="4194304" value="1048576"' in html
    assert "25%, 1.0 MiB of 4.0 MiB, 2.0 KiB/s" in html
    assert "<b>1</b> waiting" in html


def test_of_many_that_have_ended_the_last_are_shown() -> None:
    html = render_page([operation(each, "Succeeded") for each in range(SHOWN + 3)])
    assert html.count("<tr class=") == SHOWN
    assert "and 3 more" in html
    assert f"i-00000000-0000-0000-0000-{SHOWN + 2:012}" in html


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

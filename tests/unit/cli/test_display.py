"""Displays fed with events: the output for people and for scripts."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable

import pytest

from crossdock.cli.display import (
    NOTABLE_SIZE,
    JsonDisplay,
    NoDisplay,
    PlainDisplay,
    event_document,
)
from crossdock.cli.live import LiveDisplay, Rate
from crossdock.cli.running import open_display
from crossdock.cli.tally import Tally
from crossdock.errors import (
    Advice,
    NotFound,
)
from crossdock.events import (
    BlobDone,
    BlobPlanned,
    BlobProgress,
    BlobStarted,
    CopyDone,
    CopyFailed,
    CopyStarted,
    Event,
    Retrying,
    Warned,
)
from crossdock.runs.totals import FIGURES
from support.totals import Played

MiB = 1 << 20
A, B, C = (f"sha256:{letter * 64}" for letter in "abc")

STORY: list[Event] = [
    CopyStarted("h1/r:1", "h2/r:1", A, "application/json"),
    BlobPlanned(A, 10 * MiB),
    BlobPlanned(B, 20 * MiB),
    BlobPlanned(C, 1 * MiB),
    BlobPlanned(A, 10 * MiB),
    BlobDone(C, 1 * MiB, "skipped"),
    BlobStarted(A, 10 * MiB),
    BlobStarted(B, 20 * MiB),
    BlobProgress(A, 5 * MiB, 10 * MiB),
    Retrying("source", "fetch of blob", "connection reset\nby peer"),
    BlobProgress(B, 4 * MiB, 20 * MiB),
    BlobDone(A, 10 * MiB, "moved"),
]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def tally_of(events: Iterable[Event], clock: Clock | None = None) -> Tally:
    return tally_and_play(events, clock)[0]


def tally_and_play(events: Iterable[Event], clock: Clock | None = None) -> tuple[Tally, Played]:
    played, told = Played(clock=clock or Clock()), list(events)
    played.play(told)
    tally = Tally(played.totals, keeps_blobs=True)
    for event in told:
        tally(event)
    return tally, played


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_tally_counts_each_blob_once() -> None:
    tally = tally_of(STORY)
    totals = tally.totals
    assert totals.bytes_found == 31 * MiB
    assert totals.bytes_done + totals.bytes_skipped + totals.bytes_mounted == (10 + 1 + 4) * MiB
    assert totals.bytes_done == (10 + 4) * MiB
    assert [each.digest for each in tally.blobs()] == [C, A]
    assert ([each.digest for each in totals.moving], totals.retries) == ([B], 1)


def test_an_upload_that_starts_again_takes_its_bytes_back() -> None:
    tally = tally_of([*STORY, BlobProgress(B, 0, 20 * MiB)])
    assert tally.totals.bytes_done == 10 * MiB


def test_the_rate_is_that_of_the_last_seconds() -> None:
    clock = Clock()
    rate = Rate(clock)
    assert rate.per_s(0) == 0.0
    for second in range(60):
        clock.now = 100.0 + second
        shown = rate.per_s(second * 10)
    assert shown == pytest.approx(10)
    clock.now += 100
    assert rate.per_s(590) == 0.0


def test_the_rate_survives_a_total_that_falls() -> None:
    clock = Clock()
    rate = Rate(clock)
    rate.per_s(1000)
    clock.now += 1
    rate.per_s(0)
    clock.now += 1
    assert rate.per_s(50) == pytest.approx(50)


def test_the_summary_names_counts_sizes_rate_and_time_left() -> None:
    clock = Clock()
    tally, played = tally_and_play([], clock)
    played.totals._samples.append((clock.now, 0))
    played.play(STORY)
    clock.now += 1
    played.play([BlobProgress(B, 8 * MiB, 20 * MiB)])
    line = tally.summary()
    assert line == "2 of 3 blobs, 61%, 19.0/31.0 MiB, 18.0 MiB/s, 0:01, 0:01 left, 1 retry"


def test_json_writes_every_event_with_name_fields_and_time() -> None:
    stream = io.StringIO()
    display = JsonDisplay(Tally(), stream, clock=lambda: 1.5)
    for event in STORY:
        display(event)
    display.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == len(STORY) + 1
    assert lines[-1]["event"] == "totals"
    assert lines[5] == {"event": "blob_done", "time": 1.5, "digest": C, "size": MiB, "outcome": "skipped"}
    assert [line["event"] for line in lines[:3]] == ["copy_started", "blob_planned", "blob_planned"]


def test_event_names_are_snake_case_and_seconds_short() -> None:
    assert event_document(CopyDone(A, 1.23456), 2) == {
        "event": "copy_done",
        "time": 2,
        "digest": A,
        "seconds": 1.235,
        "tag": None,
        "previous_digest": None,
        "bytes_moved": 0,
        "changed": True,
    }


def test_plain_chosen_by_auto_says_nothing_of_a_quick_copy_but_warnings_and_notable_blobs() -> None:
    stream = io.StringIO()
    display = PlainDisplay(tally_of([]), stream, interval=3600, eager=False)
    for event in (
        *STORY,
        Warned("careful\nnow"),
        BlobDone(C, NOTABLE_SIZE - 1, "moved"),
        BlobDone(B, NOTABLE_SIZE, "skipped"),
    ):
        display(event)
    display.close()
    assert stream.getvalue().splitlines() == ["moved sha256:aaaaaaaaaaaa  10.0 MiB", "warning: careful now"]


def test_requested_plain_progress_prints_start_retries_and_end_at_once() -> None:
    stream = io.StringIO()
    tally = tally_of(STORY)
    display = PlainDisplay(tally, stream, interval=3600)
    for event in (*STORY, CopyDone(A, 1.0)):
        display(event)
    display.close()
    assert stream.getvalue().splitlines() == [
        f"copying h1/r:1 -> h2/r:1  {A}",
        "retrying source fetch of blob: connection reset by peer",
        "moved sha256:aaaaaaaaaaaa  10.0 MiB",
        tally.summary(),
    ]


def test_each_plain_tick_is_a_summary_and_the_news_before_it_comes_once() -> None:
    stream = io.StringIO()
    display = PlainDisplay(tally_of(STORY), stream, interval=3600, eager=False)
    for event in STORY[:-1]:
        display(event)
    display.tick()
    display.tick()
    display.close()
    first, second, third = stream.getvalue().splitlines()
    assert first == "retrying source fetch of blob: connection reset by peer"
    assert second == third == tally_of(STORY).summary()


def test_auto_is_live_on_a_terminal_and_plain_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for stream, kind in ((Terminal(), LiveDisplay), (io.StringIO(), PlainDisplay)):
        display = open_display("auto", Tally(), stream)
        assert type(display) is kind
        display.close()
    monkeypatch.setenv("TERM", "dumb")
    display = open_display("auto", Tally(), Terminal())
    assert type(display) is PlainDisplay
    display.close()
    none = open_display("none", Tally())
    none.close()
    assert type(none) is NoDisplay


def printed(stream: io.StringIO) -> str:
    """What was written, without the terminal's controls."""
    return re.sub(r"\x1b\[[?0-9]*[A-Za-z]", "", stream.getvalue())


def test_live_draws_large_blobs_sums_small_ones_and_prints_news_above(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "60")
    many = [BlobStarted(f"sha256:{number:064}", number * MiB) for number in range(1, 31)]
    stream = Terminal()
    display = LiveDisplay(tally_of([*STORY, *many]), stream)
    display(Warned("look here"))
    lines = [" ".join(line.split()) for line in display.lines(120, 60)]
    display.close()
    assert lines[0] == "h1/r:1 -> h2/r:1"
    assert lines[1] == "b layer 000000000000 [ ] 0% 0.0/30.0 MiB starts"
    assert len([line for line in lines if "layer" in line]) == 11
    assert lines[-2] == "and 20 more"
    assert lines[-1].startswith("48% 15.0/31.0 MiB ")
    assert "warning: look here\r\n" in printed(stream)
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1


def test_a_terminal_that_goes_away_ends_the_picture_quietly(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Broken(Terminal):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setenv("TERM", "xterm")
    display = LiveDisplay(tally_of(STORY), Broken())
    for event in STORY:
        display(event)
    display.close()
    display.restore()
    assert "Traceback" not in capfd.readouterr().err


PAIRS = [("h1/r:1", "h2/r:1"), ("h1/s:1", "h2/s:1"), ("h1/t:1", "h2/t:1")]
FAILED = CopyFailed("h1/s:1", "h2/s:1", NotFound("no such tag", advice=Advice("check-name", "check the tag")))
MANY: list[tuple[int, Event]] = [
    (0, CopyStarted(*PAIRS[0], A, "application/json")),
    (1, CopyStarted(*PAIRS[1], B, "application/json")),
    (0, BlobPlanned(A, 10 * MiB)),
    (1, BlobPlanned(A, 10 * MiB)),
    (0, BlobStarted(A, 10 * MiB)),
    (1, BlobStarted(A, 10 * MiB)),
    (0, BlobProgress(A, 4 * MiB, 10 * MiB)),
    (1, BlobProgress(A, 1 * MiB, 10 * MiB)),
    (1, Retrying("source", "GET x", "reset")),
    (0, BlobDone(A, 10 * MiB, "moved")),
    (1, BlobDone(B, 1 * MiB, "skipped")),
    (0, CopyDone(A, 1.0)),
    (1, FAILED),
]


def many_of(events: Iterable[tuple[int, Event]], *, keeps_blobs: bool = False) -> Tally:
    played, told = Played(PAIRS, clock=Clock()), list(events)
    played.play_all(told)
    tally = Tally(played.totals, PAIRS, keeps_blobs=keeps_blobs)
    for copy, event in told:
        tally(event, copy)
    return tally


def test_many_copies_are_counted_together_a_blob_once_for_each() -> None:
    tally = many_of(MANY[:9])
    assert tally.totals.bytes_done == 5 * MiB
    assert [blob.sent for image in tally.totals.images_under_way() for blob in image.moving] == [
        4 * MiB,
        1 * MiB,
    ]
    assert tally.title() == "0 of 3 copies done, 2 under way"
    tally = many_of(MANY)
    assert tally.summary() == "1 of 3 copies, 60%, 12.0/20.0 MiB, 0 B/s, 0:00, -:-- left, 1 failed, 1 retry"
    assert tally.title() == "1 of 3 copies done, 0 under way"


def test_blobs_of_copies_that_ended_are_kept_for_a_report_alone() -> None:
    assert [blob.digest for blob in many_of(MANY[:-1], keeps_blobs=True).blobs(1)] == [B], "still under way"
    assert many_of(MANY).blobs(0) == []
    kept = many_of(MANY, keeps_blobs=True)
    assert [[blob.digest for blob in kept.blobs(copy)] for copy in range(3)] == [[A], [B], []]


@pytest.mark.parametrize("mode", ["none", "auto", "plain"])
def test_a_failure_among_many_has_its_line_however_little_is_shown(mode: str) -> None:
    stream = io.StringIO()
    display = open_display(mode, many_of(MANY), stream)
    for copy, event in MANY:
        display(event, copy)
    display.close()
    lines = stream.getvalue().splitlines()
    failure = lines.index("crossdock: h1/s:1 -> h2/s:1: no such tag")
    assert lines.pop(failure + 1) == "  check the tag"
    assert (f"copied h1/r:1 -> h2/r:1  {A}  0 B in 1.0 s" in lines) == (mode == "plain")
    assert mode == "plain" or len(lines) - ("moved" in stream.getvalue()) == 1


def test_json_events_of_many_say_which_copy_they_belong_to() -> None:
    stream = io.StringIO()
    display = open_display("json", many_of(MANY), stream)
    for copy, event in MANY:
        display(event, copy)
    display.close()
    documents = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert documents.pop()["event"] == "totals"
    assert [each["copy"] for each in documents] == [copy for copy, _ in MANY]
    assert documents[-1]["event"] == "copy_failed"
    assert documents[-1]["error"]["class"] == "not found"
    assert "copy" not in event_document(MANY[0][1], 0)


def test_the_live_picture_of_many_shows_totals_and_prints_failures() -> None:
    stream = Terminal()
    tally = many_of(MANY[:9])
    display = LiveDisplay(tally, stream)
    display(FAILED, 1)
    display.close()
    assert "crossdock: h1/s:1 -> h2/s:1: no such tag\r\n  check the tag\r\n" in printed(stream)
    title, first, second, total = (" ".join(line.split()) for line in display.lines(120, 40))
    assert title == "0 of 3 copies done, 2 under way"
    assert first == "h2/r:1 layer aaaaaaaaaaaa [==== ] 40% 4.0/10.0 MiB waits"
    assert second == "h2/s:1 layer aaaaaaaaaaaa [= ] 10% 1.0/10.0 MiB waits"
    assert total.startswith("25% 5.0/20.0 MiB ")


@pytest.mark.parametrize("ticks", [0, 1])
def test_json_gives_the_totals_every_few_seconds_and_at_the_end(ticks: int) -> None:
    stream = io.StringIO()
    display = JsonDisplay(many_of(MANY), stream, interval=3600, clock=lambda: 1.5)
    for _ in range(ticks):
        display.tick()
    display.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == ticks + 1
    document = json.loads(lines[-1])
    assert (document["event"], document["time"]) == ("totals", 1.5)
    assert set(document) == {"event", "time", *FIGURES}
    assert (document["images_found"], document["images_done"], document["images_failed"]) == (3, 1, 1)

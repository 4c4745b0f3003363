"""The choice of tags."""

from __future__ import annotations

import pytest

from crossdock.errors import InvalidInput
from crossdock.mirroring.choice import TagChoice, pushed_since
from crossdock.mirroring.patterns import Patterns

NOW = 1_000_000.0
SIGNATURE = f"sha256-{'a' * 64}.sig"
REFERRERS = f"sha256-{'b' * 64}"


def choose(choice: TagChoice, *tags: str) -> list[str]:
    return choice.choose(dict.fromkeys(tags), NOW)


@pytest.mark.parametrize(
    ("choice", "tags", "chosen"),
    [
        (TagChoice(), "latest v1 v2-rc1", "latest v1 v2-rc1"),
        (TagChoice(patterns=Patterns(("*",), ("/-rc[0-9]+$/",))), "v2-rc1 v1 latest", "v1 latest"),
        (TagChoice(patterns=Patterns(("v*", "latest"))), "v1 w1 latest", "v1 latest"),
        (TagChoice(semver=">=1.2 <3"), "latest 1.1 1.2 2.5 3.0 2.5.1-rc.1", "1.2 2.5"),
        (TagChoice(newest=2), "1.9 latest 1.10 1.2 main", "1.9 1.10"),
        (TagChoice(newest=1), "1.0.0-rc.2 1.0.0 1.0.0-rc.10", "1.0.0"),
        (TagChoice(newest=2), "1.0.0-rc.2 1.0.0 1.0.0-rc.10", "1.0.0 1.0.0-rc.10"),
        (TagChoice(newest=3), "latest", ""),
        (TagChoice(newest=2, sort="name"), "2026-01 latest 2026-03 2026-02", "latest 2026-03"),
        (TagChoice(newest=1, patterns=Patterns((), ("3.*",))), "1.0 2.0 3.0", "2.0"),
        (TagChoice(newest=1, semver="<3"), "1.0 2.0 3.0", "2.0"),
        (TagChoice(newest=1), "1.2 1.2.0", "1.2.0"),
    ],
)
def test_filters_come_first_then_newest(choice: TagChoice, tags: str, chosen: str) -> None:
    assert choose(choice, *tags.split()) == chosen.split()


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        (TagChoice(pushed_after=NOW - 50), ["new"]),
        (TagChoice(pushed_within=100), ["new", "mid"]),
        (TagChoice(min_age=50), ["old", "mid"]),
        (TagChoice(min_age=50, pushed_within=150), ["mid"]),
        (TagChoice(newest=2, sort="pushed"), ["new", "mid"]),
        (TagChoice(newest=1, sort="pushed", min_age=50), ["mid"]),
    ],
)
def test_tags_are_chosen_by_push_time(choice: TagChoice, chosen: list[str]) -> None:
    assert choice.needs_times
    assert choice.choose({"new": NOW - 10, "old": NOW - 1000, "mid": NOW - 100}, NOW) == chosen


def test_a_push_time_that_is_not_known_is_an_error_where_it_is_needed() -> None:
    choice = TagChoice(patterns=Patterns(("v*",)), min_age=50)
    with pytest.raises(InvalidInput, match="does not say when it got the manifest of the tag 'v1'") as caught:
        choice.choose({"v1": None, "v2": NOW}, NOW)
    assert caught.value.advice is not None
    assert choice.choose({"main": None, "v2": NOW - 100}, NOW) == ["v2"]
    assert not TagChoice(newest=1).needs_times


def test_push_times_are_written_as_a_date_or_a_duration() -> None:
    assert pushed_since("90d") == {"pushed_within": 90 * 86400.0}
    assert pushed_since("1970-01-02") == {"pushed_after": 86400.0}
    assert pushed_since("1970-01-01T01:00:00+01:00") == {"pushed_after": 0.0}
    for text in ("yesterday", "1970-13-01", "1970-1-1", ""):
        with pytest.raises(InvalidInput, match="date"):
            pushed_since(text)


def test_tags_of_digests_go_with_their_image_where_tags_are_filtered() -> None:
    tags = (SIGNATURE, "1.0", "2.0", REFERRERS)
    assert choose(TagChoice(), *tags) == list(tags)
    assert choose(TagChoice(patterns=Patterns(("*",))), *tags) == list(tags)
    for choice in (
        TagChoice(newest=5),
        TagChoice(newest=5, sort="name"),
        TagChoice(semver=">=1"),
        TagChoice(patterns=Patterns(("*",), ("latest",))),
        TagChoice(patterns=Patterns(("?.0",))),
    ):
        assert choose(choice, *tags) == ["1.0", "2.0"], choice
    assert choose(TagChoice(patterns=Patterns(("sha256-*",))), *tags) == [SIGNATURE, REFERRERS]
    assert choose(TagChoice(patterns=Patterns(("*.sig", "1.0"))), *tags) == [SIGNATURE, "1.0"]
    assert choose(TagChoice(patterns=Patterns(("*.sig",)), newest=2), *tags) == []


@pytest.mark.parametrize(
    "choice", [TagChoice(semver=">2 <1"), TagChoice(semver="x.y"), TagChoice(patterns=Patterns(("/(/",)))]
)
def test_a_choice_that_cannot_work_is_refused(choice: TagChoice) -> None:
    with pytest.raises(InvalidInput):
        choice.check()

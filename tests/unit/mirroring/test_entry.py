"""Entries of the command line and the library."""

from __future__ import annotations

import pytest

from crossdock.errors import InvalidInput
from crossdock.mirroring.choice import TagChoice
from crossdock.mirroring.entry import Entry, ReferrersMode
from crossdock.mirroring.names import Namespace
from crossdock.mirroring.patterns import Patterns
from crossdock.mirroring.rename import Naming, Rename
from crossdock.mirroring.run import MirrorOptions, entry_of
from crossdock.options import CopyOptions

SIGNATURE = f"sha256-{'a' * 64}.sig"
LIST = f"sha256-{'b' * 64}"


def entry(**chosen: object) -> Entry:
    return Entry(
        name="a", source=Namespace("host.example", "team"), targets=(Namespace("b.example"),), **chosen
    )


def test_names_without_patterns_need_no_catalog() -> None:
    assert entry(repositories=Patterns(("a", "b/c", "a"), ("b/*",))).named == ["a"]
    assert entry(repositories=Patterns(("a", "b*"))).named is None
    assert entry().named is None
    official = Entry(
        name="a",
        source=Namespace("docker.io"),
        targets=(Namespace("b.example"),),
        repositories=Patterns(("alpine", "me/own")),
    )
    assert official.named == ["library/alpine", "me/own"]


@pytest.mark.parametrize(
    ("referrers", "patterns", "chosen"),
    [
        ("warn", Patterns(), ["v1", SIGNATURE, LIST]),
        ("off", Patterns(), ["v1"]),
        ("off", Patterns(("*",)), ["v1"]),
        ("off", Patterns(("*", "*.sig")), ["v1", SIGNATURE]),
        ("off", Patterns(("sha256-*",), ("*.sig",)), [LIST]),
    ],
)
def test_tags_of_digests_have_to_be_asked_for_without_referrers(
    referrers: ReferrersMode, patterns: Patterns, chosen: list[str]
) -> None:
    tags = dict.fromkeys(("v1", SIGNATURE, LIST))
    assert entry(referrers=referrers, tags=TagChoice(patterns=patterns)).choose(tags, 0) == chosen


def test_all_arguments_of_a_mirror_are_in_its_entry() -> None:
    chosen: MirrorOptions = {
        "repositories": ["app-*"],
        "exclude": ["*-tmp"],
        "tags": ["v*"],
        "exclude_tags": ["/-rc/"],
        "semver": ">=1",
        "newest": 3,
        "sort": "pushed",
        "pushed_within": 60.0,
        "min_age": 30.0,
        "untagged": True,
        "rename": [("^a", "b")],
        "flatten": 1,
    }
    options = CopyOptions(platforms=("linux/amd64",), referrers=True, existing="refuse")
    assert entry_of("host.example/team", "b.example", options, chosen) == Entry(
        name="host.example/team",
        source=Namespace("host.example", "team"),
        targets=(Namespace("b.example"),),
        repositories=Patterns(("app-*",), ("*-tmp",)),
        tags=TagChoice(
            patterns=Patterns(("v*",), ("/-rc/",)),
            semver=">=1",
            newest=3,
            sort="pushed",
            pushed_within=60.0,
            min_age=30.0,
        ),
        untagged=True,
        platforms=("linux/amd64",),
        referrers="required",
        naming=Naming(renames=(Rename("^a", "b"),), flatten=1),
        existing="refuse",
    )
    plain = entry_of("host.example/team", ["b.example"], CopyOptions(), {})
    assert plain == Entry(
        name="host.example/team", source=Namespace("host.example", "team"), targets=(Namespace("b.example"),)
    )


@pytest.mark.parametrize(
    "chosen",
    [
        {"repositories": ["Upper"]},
        {"repositories": ["/(/"]},
        {"exclude_tags": ["/(/"]},
        {"semver": ">2 <1"},
        {"rename": [("(", "a")]},
    ],
)
def test_impossible_settings_are_refused(chosen: MirrorOptions) -> None:
    with pytest.raises(InvalidInput):
        entry_of("host.example", "b.example", CopyOptions(), chosen)

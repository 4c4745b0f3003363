"""Places and patterns of a mirror."""

from __future__ import annotations

import pytest

from crossdock.errors import InvalidInput
from crossdock.mirroring.names import Namespace, check


@pytest.mark.parametrize(
    ("text", "registry", "prefix"),
    [
        ("host.example", "host.example", ""),
        ("host.example/", "host.example", ""),
        ("docker://127.0.0.1:5000/team/a", "127.0.0.1:5000", "team/a"),
        ("localhost", "localhost", ""),
        ("[::1]:5000/a", "[::1]:5000", "a"),
        ("docker.io/library", "docker.io", "library"),
        ("index.docker.io", "docker.io", ""),
    ],
)
def test_a_place_is_a_host_and_perhaps_a_prefix(text: str, registry: str, prefix: str) -> None:
    assert Namespace.parse(text) == Namespace(registry, prefix)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "host",
        "team/a",
        "host.example/a:tag",
        "host.example/A",
        "host.example//a",
        "oci:dir",
        "a b.c",
    ],
)
def test_an_invalid_location_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Namespace.parse(text)


def test_repositories_are_named_below_the_prefix() -> None:
    place = Namespace("host.example", "team")
    assert place.name_of("team/a/b") == "a/b"
    assert place.name_of("team") is place.name_of("team/") is place.name_of("teams/a") is None
    assert Namespace("host.example").name_of("team/a") == "team/a"
    assert str(place.reference("a/b", "v1")) == "host.example/team/a/b:v1"


@pytest.mark.parametrize(
    ("source", "targets", "fits"),
    [
        ("a.example", ["b.example"], True),
        ("a.example/x", ["a.example/y", "a.example/xy"], True),
        ("a.example", ["A.example/x"], False),
        ("a.example/x/y", ["a.example/x"], False),
        ("a.example", ["b.example", "b.example"], False),
        ("a.example", [], False),
    ],
)
def test_places_hold_no_part_of_each_other(source: str, targets: list[str], fits: bool) -> None:
    places = Namespace.parse(source), [Namespace.parse(each) for each in targets]
    if fits:
        check(*places)
    else:
        with pytest.raises(InvalidInput):
            check(*places)

"""What paths and range headers mean."""

from __future__ import annotations

import pytest

from crossdock.embedded.answers import Refused
from crossdock.embedded.ranges import Unsatisfiable, asked_range, chunk_range
from crossdock.embedded.routing import Route, is_name, is_tag, route
from crossdock.errors import InvalidOption
from crossdock.listening import is_loopback, parse_listen


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("bytes=0-0", (0, 1)),
        ("bytes=0-99", (0, 100)),
        ("bytes=0-100", (0, 100)),
        ("bytes=99-", (99, 100)),
        ("bytes=-1", (99, 100)),
        ("bytes=-1000", (0, 100)),
        ("Bytes = 5 - 6", (5, 7)),
        ("bytes=6-5", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=1-2,4-5", None),
        ("bytes=٣-٤", None),
        ("bytes=" + "9" * 5000 + "-", None),
        ("items=0-1", None),
    ],
)
def test_a_range_is_understood_or_ignored(header: str | None, expected: tuple[int, int] | None) -> None:
    assert asked_range(header, 100) == expected


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-5", 0)]
)
def test_a_range_outside_the_content_cannot_be_satisfied(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        asked_range(header, size)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("0-0", (0, 1)),
        ("5-9", (5, 10)),
        ("9-5", None),
        ("bytes 0-1", None),
        ("0-", None),
        ("x", None),
        ("", None),
    ],
)
def test_a_chunks_range_has_no_unit(header: str, expected: tuple[int, int] | None) -> None:
    assert chunk_range(header) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2/", Route("base")),
        ("/v2", Route("base")),
        ("/v2/_catalog", Route("catalog")),
        ("/v2/a/tags/list", Route("tags", "a")),
        ("/v2/a/b/c/manifests/v1", Route("manifest", "a/b/c", "v1")),
        ("/v2/a/blobs/sha256:00", Route("blob", "a", "sha256:00")),
        ("/v2/blobs/blobs/sha256:00", Route("blob", "blobs", "sha256:00")),
        ("/v2/manifests/manifests/manifests", Route("manifest", "manifests", "manifests")),
        ("/v2/a/tags/list/tags/list", Route("tags", "a/tags/list")),
        ("/v2/a/referrers/sha256:00", Route("referrers", "a", "sha256:00")),
    ],
)
def test_a_path_leads_to_its_endpoint(path: str, expected: Route) -> None:
    assert route("GET", path) == expected


def test_uploads_are_told_from_blobs() -> None:
    assert route("POST", "/v2/a/blobs/uploads/") == Route("uploads", "a")
    assert route("POST", "/v2/a/blobs/uploads") == Route("uploads", "a")
    assert route("PATCH", "/v2/a/blobs/uploads/id") == Route("upload", "a", "id")


@pytest.mark.parametrize(
    "path", ["/", "/v1/", "/v2/a", "/v2/a/manifests/", "/v2//manifests/x/y/z", "/v2/a/b/c"]
)
def test_a_path_outside_the_api_is_404(path: str) -> None:
    with pytest.raises(Refused) as caught:
        route("GET", path)
    assert caught.value.status in (400, 404)


def test_a_wrong_method_names_the_right_ones() -> None:
    with pytest.raises(Refused) as caught:
        route("PUT", "/v2/a/blobs/sha256:00")
    assert (caught.value.status, caught.value.headers) == (405, {"Allow": "GET, HEAD, DELETE"})


@pytest.mark.parametrize(
    "name",
    ["..", "a/..", "a//b", "/a", "a/", "A", "a_", "-a", "a..b", "a/.b", "a" * 256, "a\n", "", "a b", "ä"],
)
def test_what_is_no_name_is_refused(name: str) -> None:
    assert not is_name(name)


@pytest.mark.parametrize("name", ["a", "a/b", "a.b_c__d-e---f", "0", "blobs", "a" * 255])
def test_what_is_a_name_is_taken(name: str) -> None:
    assert is_name(name)


def test_a_tag_has_at_most_128_characters_and_no_dot_first() -> None:
    assert is_tag("_x.y-Z")
    assert is_tag("a" * 128)
    assert not any(map(is_tag, ("a" * 129, ".a", "-a", "", "a/b", "a\n")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:5000", ("127.0.0.1", 5000)), ("localhost:0", ("localhost", 0)), ("[::1]:80", ("::1", 80))],
)
def test_an_address_to_listen_on(text: str, expected: tuple[str, int]) -> None:
    assert parse_listen(text) == expected


@pytest.mark.parametrize(
    "text", ["", "5000", "host", ":5000", "host:", "host:x", "::1:80", "h:65536", "h:-1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption):
        parse_listen(text)


def test_loopback_addresses_are_known() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.0.2.1", "example.test", "")))

"""Paths of the endpoint table."""

from __future__ import annotations

import pytest

from crossdock.protocol import endpoints
from crossdock.url import Url

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (endpoints.base(), "/v2/"),
        (endpoints.blob("library/x", DIGEST), f"/v2/library/x/blobs/{DIGEST}"),
        (endpoints.manifest("a/b-c/d_e", "v1.0"), "/v2/a/b-c/d_e/manifests/v1.0"),
        (endpoints.manifest("x", DIGEST), f"/v2/x/manifests/{DIGEST}"),
        (endpoints.uploads("x"), "/v2/x/blobs/uploads/"),
        (endpoints.uploads("x", "sha256"), "/v2/x/blobs/uploads/"),
        (endpoints.uploads("x", "sha512"), "/v2/x/blobs/uploads/?digest-algorithm=sha512"),
        (endpoints.single_post("x", "sha256:ab"), "/v2/x/blobs/uploads/?digest=sha256%3Aab"),
        (endpoints.tags("x"), "/v2/x/tags/list"),
        (endpoints.tags("x", 1000), "/v2/x/tags/list?n=1000"),
        (endpoints.tags("x", 2, "a b"), "/v2/x/tags/list?n=2&last=a+b"),
        (endpoints.mount("x", "sha256:ab", "y/z"), "/v2/x/blobs/uploads/?mount=sha256%3Aab&from=y%2Fz"),
        (endpoints.referrers("x", DIGEST), f"/v2/x/referrers/{DIGEST}"),
        (
            endpoints.referrers("x", DIGEST, "application/spdx+json"),
            f"/v2/x/referrers/{DIGEST}?artifactType=application%2Fspdx%2Bjson",
        ),
    ],
)
def test_each_row_has_its_path(path: str, expected: str) -> None:
    assert path == expected


def test_nothing_in_a_name_can_leave_its_place_in_the_path() -> None:
    assert endpoints.manifest("x", "../?a#b") == "/v2/x/manifests/..%2F%3Fa%23b"
    assert endpoints.blob("x y", "sha256:a b") == "/v2/x%20y/blobs/sha256:a%20b"


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("http://h:5000/v2/x/blobs/uploads/1", "http://h:5000/v2/x/blobs/uploads/1?digest=sha256%3Aab"),
        ("https://h/u/1?_state=Zg%3D%3D", "https://h/u/1?_state=Zg%3D%3D&digest=sha256%3Aab"),
        ("https://h/u/1?", "https://h/u/1?digest=sha256%3Aab"),
        ("https://h/u/1?a=b#fragment", "https://h/u/1?a=b&digest=sha256%3Aab"),
    ],
)
def test_the_closing_put_keeps_the_query_of_its_location(location: str, expected: str) -> None:
    assert endpoints.commit_location(Url.parse(location), "sha256:ab").text == expected

"""From paths to endpoints."""

from __future__ import annotations

import pytest

from crossdock.embedded.responses import Refused
from crossdock.embedded.routes import Route, find_route


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
    assert find_route("GET", path) == expected


def test_uploads_are_distinguished_from_blobs() -> None:
    assert find_route("POST", "/v2/a/blobs/uploads/") == Route("uploads", "a")
    assert find_route("POST", "/v2/a/blobs/uploads") == Route("uploads", "a")
    assert find_route("PATCH", "/v2/a/blobs/uploads/id") == Route("upload", "a", "id")


@pytest.mark.parametrize(
    "path", ["/x", "/v1/", "/v2/a", "/v2/a/manifests/", "/v2//manifests/x/y/z", "/v2/a/b/c"]
)
def test_a_path_outside_the_api_is_404(path: str) -> None:
    with pytest.raises(Refused) as caught:
        find_route("GET", path)
    assert caught.value.status in (400, 404)


def test_a_wrong_method_names_the_right_ones() -> None:
    with pytest.raises(Refused) as caught:
        find_route("PUT", "/v2/a/blobs/sha256:00")
    assert (caught.value.status, caught.value.headers) == (405, {"Allow": "GET, HEAD, DELETE"})

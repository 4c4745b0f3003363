"""Tags that are made of digests."""

from __future__ import annotations

import pytest

from crossdock.oci.attachedtag import fallback_tag, is_attached_tag, listed_subject
from crossdock.oci.digest import Digest

HEX = "ab" * 32


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        (f"sha256-{HEX}.sig", True),
        (f"sha256-{HEX}.att", True),
        (f"sha256-{HEX}.imgpkg", True),
        (f"sha256-{HEX}", True),
        (f"sha512-{HEX}", True),
        (f"sha256-{HEX}x", False),
        (f"sha256-{HEX[1:]}.sig", False),
        (f"v-sha256-{HEX}.sig", False),
        ("v1", False),
        (None, False),
    ],
)
def test_tags_of_digests(tag: str | None, expected: bool) -> None:
    assert is_attached_tag(tag) is expected


@pytest.mark.parametrize(
    ("digest", "tag"),
    [
        (Digest.of(b"x"), f"sha256-{Digest.of(b'x').encoded}"),
        (Digest.of(b"x", "sha512"), f"sha512-{Digest.of(b'x', 'sha512').encoded[:64]}"),
    ],
)
def test_the_fallback_tag_is_cut_as_the_specification_says(digest: Digest, tag: str) -> None:
    assert fallback_tag(digest) == tag


def test_lists_of_referrers_are_known_by_their_tag() -> None:
    assert listed_subject(f"sha256-{HEX}") == Digest(f"sha256:{HEX}")
    for tag in (f"sha256-{HEX}.sig", f"sha512-{HEX}", "sha256-ab", "latest"):
        assert listed_subject(tag) is None

"""A tag of a digest under which source and target have different manifests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crossdock.transfer.attachedtags import compare

SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
DSSE = "application/vnd.dsse.envelope.v1+json"
HEX = "ab" * 32


def signature(name: str, media_type: str = SIMPLE) -> dict[str, Any]:
    """One signature. All have the same payload, as those of one digest by different keys have."""
    return {
        "mediaType": media_type,
        "digest": f"sha256:{HEX}",
        "size": 7,
        "annotations": {"dev.cosignproject.cosign/signature": name},
    }


def image(*layers: dict[str, Any], config: str = "c") -> bytes:
    return json.dumps({"schemaVersion": 2, "config": {"digest": config}, "layers": layers}).encode()


def index(*digests: str) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": [{"digest": each} for each in digests]}).encode()


A, B, C = signature("a"), signature("b"), signature("c")


@pytest.mark.parametrize(
    ("source", "target", "means"),
    [
        (image(A), image(A, B), "target"),  # signed again at the target, by cosign itself
        (image(A), image(A, config="other"), "source"),
        (index("1", "2"), index("2", "1"), "source"),
        (image(A, B), image(A), "source"),  # signed again at the source
        (image(A), image(), "source"),
        (index("1"), index("1", "2"), "target"),
        (index("1", "2"), index("1"), "source"),
    ],
)
def test_the_side_that_has_more_wins(source: bytes, target: bytes, means: str) -> None:
    result = compare(source, target)
    assert (result.means, result.data, result.added, result.own) == (means, b"", 0, 0)


@pytest.mark.parametrize("media_type", [SIMPLE, DSSE])
def test_entries_of_either_side_are_merged_once(media_type: str) -> None:
    common, ours, theirs = (signature(name, media_type) for name in "xyz")
    merged = compare(image(common, ours), image(theirs, common, config="target"))
    assert (merged.means, merged.added, merged.own) == ("merged", 1, 1)
    document = json.loads(merged.data)
    assert document["layers"] == [theirs, common, ours]
    assert document["config"] == {"digest": "target"}
    again = compare(image(common, ours), merged.data)
    assert (again.means, again.own) == ("target", 0)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (image({"mediaType": "text/spdx"}), image({"mediaType": "text/spdx+json"})),  # SBOMs
        (image(A), image(B, {"mediaType": "text/spdx"})),
        (image(A), index("1")),
        (index("1"), image(A)),
        (index("1"), index("2")),
        (image(A), b"no JSON"),
        (image(A), b"[]"),
        (image(A), b'{"layers": 1}'),
        (image(A), b'{"layers": [1]}'),
        (image(A), b'{"layers": [], "manifests": []}'),
        (b"{}", image(A)),
        (b"[" * 100_000, image(A)),
    ],
)
def test_a_list_that_cannot_be_merged_stays_the_targets(source: bytes, target: bytes) -> None:
    result = compare(source, target)
    assert (result.means, result.data) == ("target", b"")
    assert result.own

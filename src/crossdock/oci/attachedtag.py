"""Tags that are made of a digest, by which clients attach content to the manifest of that digest.

cosign writes ``sha256-HEX.sig``, ``.att`` and ``.sbom``. For a registry without the referrers API clients
keep the list of a manifest's referrers themselves, under ``sha256-HEX`` (distribution-spec, "Referrers Tag
Schema").
"""

from __future__ import annotations

import re

from crossdock.oci.digest import Digest

STEM = "sha256-"
"""The start of such tags; those of other algorithms are not looked for."""

# Compiled when they are needed: most copies meet no such tag.
_ATTACHED = r"sha(?:256-[0-9a-f]{64}|512-[0-9a-f]{64,128})(?:\.[A-Za-z0-9_.-]+)?"
_LIST = r"sha256-([0-9a-f]{64})"  # of a sha512 the tag has but a part
_NOT_IN_TAG = r"[^A-Za-z0-9_.-]"
_MOST_ALGORITHM = 32  # characters
_MOST_ENCODED = 64


def is_attached_tag(tag: str | None) -> bool:
    """Whether clients attach content to a manifest by such a tag."""
    return tag is not None and tag.startswith("sha") and re.fullmatch(_ATTACHED, tag) is not None


def subject_of(tag: str) -> Digest | None:
    """The manifest that content under a tag like ``sha256-HEX.sig`` is attached to; None for other tags."""
    if not tag.startswith(STEM) or not is_attached_tag(tag):
        return None
    return Digest(f"sha256:{tag[len(STEM) :].partition('.')[0]}")


def fallback_tag(subject: Digest) -> str:
    """The tag of the list of `subject`'s referrers: ``sha256-<hex>``, cut and cleaned as the spec says."""
    algorithm, encoded = subject.algorithm[:_MOST_ALGORITHM], subject.encoded[:_MOST_ENCODED]
    return f"{re.sub(_NOT_IN_TAG, '-', algorithm)}-{re.sub(_NOT_IN_TAG, '-', encoded)}"


def listed_subject(tag: str) -> Digest | None:
    """The subject whose list of referrers is under `tag`; None if it is not such a tag."""
    if not tag.startswith(STEM):
        return None
    parts = re.fullmatch(_LIST, tag)
    return Digest(f"sha256:{parts[1]}") if parts is not None else None

"""Platforms: which operating system and processor a manifest is for.

Names are those of image-spec image-index.md, which are Go's. Other spellings of the same thing are brought to
one form as containerd does: ``linux/aarch64``, ``linux/arm64`` and ``linux/arm64/v8`` are one platform.
"""

from __future__ import annotations

import re

from msgspec import Struct
from msgspec.structs import replace

from crossdock.errors import (
    Advice,
    InvalidOption,
)
from crossdock.oci.text import quote

_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
# `re` compiles it when it is first used: most copies choose no platform.
_PLATFORM = rf"(?P<os>{_PART})/(?P<architecture>{_PART})(?:/(?P<variant>{_PART}))?"

_OS = {"macos": "darwin"}
_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386"}
_SOFT_FLOAT = {"armhf": "v7", "armel": "v6"}  # Debian's names of two ARM ABIs, each with one variant
_BASELINES = {"amd64": "v1", "arm64": "v8"}  # the variant that is meant when none is written
_NUMBERED = r"v?([0-9]+(?:\.[1-9][0-9]*)?)(?:\.0)?"
_UNKNOWN = "unknown"


class Platform(Struct, frozen=True):
    """An operating system and processor. An index may state more than the first three; nothing is made up."""

    os: str
    architecture: str
    variant: str = ""  # of the processor, as ``v7`` of arm; empty: the architecture's baseline
    os_version: str = ""  # Windows build, as ``10.0.17763.1577``
    os_features: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Platform:
        """The platform written as ``os/architecture[/variant]``, normalised. Raises `InvalidOption`."""
        parts = re.fullmatch(_PLATFORM, text)
        if not parts:
            advice = Advice("write-each-platform" if "," in text else "write-platform")
            raise InvalidOption(f"{quote(text)} is not a platform", advice=advice)
        platform = cls(parts["os"], parts["architecture"], parts["variant"] or "").normalised()
        if platform.is_unknown:
            raise InvalidOption(f"{quote(text)} marks attestations in an index and is not a platform")
        return platform

    @property
    def is_unknown(self) -> bool:
        """Whether this is the ``unknown/unknown`` under which build tools list attestations."""
        return _UNKNOWN in (self.os, self.architecture)

    def normalised(self) -> Platform:
        """The same platform in its one spelling; version and features stay."""
        os, architecture, variant = self.os.lower(), self.architecture.lower(), self.variant.lower()
        os = _OS.get(os, os)
        if architecture in _SOFT_FLOAT:
            architecture, variant = "arm", _SOFT_FLOAT[architecture]
        architecture = _ARCHITECTURES.get(architecture, architecture)
        return replace(self, os=os, architecture=architecture, variant=_variant(architecture, variant))

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def _variant(architecture: str, variant: str) -> str:
    """The one spelling of a variant: with its ``v``, without ``.0``, empty for the baseline."""
    if architecture in ("arm", "arm64", "amd64") and (number := re.fullmatch(_NUMBERED, variant)):
        variant = f"v{number[1]}"
    if architecture == "arm":
        return variant or "v7"
    if architecture == "386" or variant == _BASELINES.get(architecture):
        return ""
    return variant


def matches(wanted: Platform, offered: Platform) -> bool:
    """Whether `offered` satisfies `wanted`.

    System and architecture must be the same. A variant or system version that `wanted` states must be the
    offered one (``10.0.17763`` is the version of ``10.0.17763.1577``); what it leaves open may be anything:
    an index with nothing but ``amd64/v3`` serves ``amd64``. Attestations (``unknown``) never match.
    """
    wanted, offered = wanted.normalised(), offered.normalised()
    if offered.is_unknown or (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        return False
    if wanted.variant and wanted.variant != offered.variant:
        return False
    return not wanted.os_version or f"{offered.os_version}.".startswith(f"{wanted.os_version}.")

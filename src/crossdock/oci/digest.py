"""Digests: the names of content.

image-spec descriptor.md, "Digests": ``algorithm ":" encoded``. Of the registered algorithms sha256 and sha512
are accepted, each with its exact number of lower-case hex digits: an unknown algorithm cannot be verified,
and content that cannot be verified is not copied.
"""

from __future__ import annotations

import hashlib
import re

from crossdock.errors import InvalidDigest
from crossdock.oci.text import quote

_HEX_DIGITS = {"sha256": 64, "sha512": 128}
_DIGEST = re.compile("|".join(f"{name}:[0-9a-f]{{{length}}}" for name, length in _HEX_DIGITS.items()))

ALGORITHMS = tuple(_HEX_DIGITS)


class Digest(str):
    """A validated digest. It is its text: it compares, formats and encodes as the string.

    Raises `InvalidDigest` for anything but ``sha256:`` or ``sha512:`` and the full number of lower-case hex
    digits.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Digest:
        if isinstance(text, cls):
            return text
        if not _DIGEST.fullmatch(text):
            raise InvalidDigest(f"{quote(text)} is not a digest: {_reason(text)}")
        return super().__new__(cls, text)

    @classmethod
    def parse(cls, text: str) -> Digest:
        """The digest written in `text`. Raises `InvalidDigest`."""
        return cls(text)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview, algorithm: str = "sha256") -> Digest:
        """The digest of `data`. Raises `InvalidDigest` for an unknown algorithm."""
        if algorithm not in _HEX_DIGITS:
            raise InvalidDigest(_unknown(algorithm))
        text = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        return super().__new__(cls, text)  # valid by how it is made

    def matches(self, data: bytes | bytearray | memoryview) -> bool:
        """Whether it is the digest of `data`."""
        return Digest.of(data, self.algorithm) == self

    @property
    def algorithm(self) -> str:
        """The part before the colon: ``sha256`` or ``sha512``."""
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        """The hex digits after the colon."""
        return self.partition(":")[2]

    @property
    def short(self) -> str:
        """``sha256:ab12cd34ef56…``, for people."""
        return f"{self.algorithm}:{self.encoded[:12]}…"


def _reason(text: str) -> str:
    """Why a text is not a digest."""
    algorithm, colon, encoded = text.partition(":")
    if not colon:
        return "it has the form algorithm:hex"
    if algorithm not in _HEX_DIGITS:
        return _unknown(algorithm)
    digits = _HEX_DIGITS[algorithm]
    if len(encoded) != digits:
        return f"{algorithm} has {digits} hex digits, not {len(encoded)}"
    return "only the hex digits 0-9 and a-f, in lower case, may follow the algorithm"


def _unknown(algorithm: str) -> str:
    return f"unknown algorithm {quote(algorithm)}, known are {' and '.join(ALGORITHMS)}"

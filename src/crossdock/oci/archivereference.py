"""References to images in archives, in skopeo's syntax. ``-`` as FILE is stdin or stdout.

``oci-archive:FILE[:TAG][@DIGEST]`` is a layout in a tar file, ``docker-archive:FILE[:NAME[:TAG]]`` what
``docker save`` writes. ``docker-archive:FILE:@N`` is the image at position N of the archive, from 0.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from crossdock.errors import InvalidReference
from crossdock.oci.digest import Digest
from crossdock.oci.reference import Location, Reference, file_reference_problem, invalid, split_file_reference

STREAM = "-"
_POSITION = r"@[0-9]{1,6}"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class OciArchiveReference(Location):
    """An image in an OCI archive. Making a wrong one raises `InvalidReference`."""

    path: str
    tag: str | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        if problem := file_reference_problem(self.path, self.tag, "file"):
            raise invalid(str(self), problem)

    @classmethod
    def parse(cls, text: str) -> OciArchiveReference:
        """The reference in ``oci-archive:FILE[:TAG][@DIGEST]``, as `LayoutReference.parse` reads it."""
        return cls(*split_file_reference(text, "oci-archive:", "file"))

    @property
    def place(self) -> tuple[str, str]:
        """As `Location.place`."""
        return "oci-archive:", _place(self.path)

    def describe(self) -> str:
        """How errors and results name it."""
        return str(self)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        return f"oci-archive:{self.path}{tag}" + (f"@{self.digest}" if self.digest is not None else "")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DockerArchiveReference(Location):
    """An image in an archive of docker; `tag` is its ``NAME[:TAG]``, or ``@N``.

    Making a wrong one raises `InvalidReference`.
    """

    path: str
    tag: str | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        problem = file_reference_problem(self.path, None, "file")
        if self.tag is not None and not problem and not re.fullmatch(_POSITION, self.tag):
            problem = _name_problem(self.tag)
        if problem:
            raise invalid(str(self), problem)

    @classmethod
    def parse(cls, text: str) -> DockerArchiveReference:
        """The reference in ``docker-archive:FILE[:NAME[:TAG]|:@N]``. Raises `InvalidReference`."""
        path, colon, name = text.removeprefix("docker-archive:").partition(":")
        return cls(path, name if colon else None)

    @property
    def position(self) -> int | None:
        """N of ``@N``; None when the image is named otherwise."""
        return int(self.tag[1:]) if self.tag is not None and self.tag.startswith("@") else None

    @property
    def place(self) -> tuple[str, str]:
        """As `Location.place`."""
        return "docker-archive:", _place(self.path)

    def describe(self) -> str:
        """How errors and results name it."""
        return str(self)

    def __str__(self) -> str:
        return f"docker-archive:{self.path}" + (f":{self.tag}" if self.tag is not None else "")


def whole_name(name: str) -> str:
    """``registry/repository:tag`` of an image's name, as docker reads it. Raises `InvalidReference`."""
    return str(Reference.parse(name))


def _name_problem(name: str) -> str:
    if not name:
        return "the image's name after : is missing"
    try:
        found = Reference.parse(name)
    except InvalidReference as error:
        return str(error)
    return "an archive of docker knows no digests" if found.digest is not None else ""


def _place(path: str) -> str:
    return path if path == STREAM else os.path.abspath(path)

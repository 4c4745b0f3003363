"""References: how people name content.

`Reference` reads registry references as Docker does. The grammar, from github.com/distribution/reference::

    reference  := name [ ":" tag ] [ "@" digest ]        name := [domain "/"] path
    domain     := host [":" port]                        host := domain-name | IPv4 | "[" IPv6 "]"
    path       := component ("/" component)*             component := [a-z0-9]+ (separator [a-z0-9]+)*
    separator  := "." | "_" | "__" | "-"+                tag := [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}

The text before the first slash is a domain when it is ``localhost`` or holds a dot, a colon or an upper-case
letter; else the name belongs to Docker Hub. Stricter than Docker's: a port and an IPv6 address must exist,
and ``a.b_c/d`` is refused, where Docker's parser finds a name without a registry.
`LayoutReference` names an image in a folder, as skopeo writes it. A kind of source or target that is not a
registry is a row of `SCHEMES`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from operator import attrgetter
from typing import Any

from msgspec import Struct

from crossdock.errors import (
    Advice,
    InvalidDigest,
    InvalidReference,
    Side,
)
from crossdock.frozen import Frozen
from crossdock.oci.digest import ALGORITHMS, Digest
from crossdock.oci.registryname import DOCKER_HUB, HUB_API_HOST, is_public_registry, registry_key
from crossdock.oci.text import quote

DEFAULT_TAG = "latest"

_HUB_OFFICIAL = "library/"
_LONGEST_REPOSITORY = 255  # characters; Docker's RepositoryNameTotalLengthMax
_LONGEST_TAG = 128

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?P<ipv6>[0-9A-Fa-f:]+)\])(?::(?P<port>[0-9]+))?")
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{_LONGEST_TAG - 1}}}")

# Patterns that most references do not need are texts: `re` compiles one when it is first used.
_SCHEME = r"([A-Za-z][A-Za-z0-9+.-]*)://"

# The characters of org.opencontainers.image.ref.name (image-spec annotations.md) and the underscore. Its
# grammar joins words by one of them, and lacks tags of registries that other tools write: a__b, _x, v1., 1-.
_REF_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.:@+/-]*"

# A registry whose repository was forgotten: an address, localhost, or a host's name with a port. Docker reads
# the port as the tag of an image of Docker Hub. A dotted name alone (app.v2) is an image, unless the registry
# is well known.
_HOST_ALONE = (
    r"(?:localhost|\[[0-9A-Fa-f:]+\]|[0-9]{1,3}(?:\.[0-9]{1,3}){3})(?::[0-9]{1,5})?"
    rf"|(?:{_LABEL}\.)+[A-Za-z]+:[0-9]{{1,5}}"
)

# What follows an "@" and is meant as a digest, right or wrong.
_LIKE_DIGEST = rf"(?:{'|'.join(ALGORITHMS)}):[^@]*|[A-Za-z][A-Za-z0-9+._-]*:[0-9A-Fa-f]{{32,}}"

# Words before the first colon that mean something to other tools, and so are not read as an image's name.
_OTHER_TRANSPORTS = frozenset(
    [
        "atomic",
        "containers-storage",
        "dir",
        "docker-daemon",
        "oci-layout",
        "ostree",
        "sif",
        "tarball",
    ]
)


ARCHIVE_HINT = "give an archive as oci-archive:FILE, or docker-archive:FILE if docker or podman saved it"
_CONVERTED = {"dir:": "convert it with `skopeo copy dir:DIR oci:NEW` and give oci:NEW"}


class Location(Frozen):
    """Where an image is: a `Reference`, or what a row of `SCHEMES` parses. ``str()`` can be parsed again."""

    __slots__ = ()
    tag: str | None
    digest: Digest | None

    @property
    def place(self) -> tuple[str, str]:
        """The repository or layout that its tag belongs to; equal for all spellings."""
        raise NotImplementedError


class Scheme(Struct, frozen=True):
    """A kind of source or target that is not a registry. Functions are named ``module:name``.

    They are imported when they are needed: a copy between registries loads no store.
    """

    parse: str
    """Takes the text, scheme included, and returns a `Location`. Raises `InvalidReference`."""
    open: str
    """Takes a location, the side and `CopyOptions`; returns a `content.Source` or `Target`. May block."""
    sides: tuple[Side, ...] = ("source", "target")


SCHEMES: dict[str, Scheme] = {
    "oci:": Scheme("crossdock.oci.reference:LayoutReference.parse", "crossdock.store.layout:open_layout"),
    "oci-archive:": Scheme(
        "crossdock.oci.archivereference:OciArchiveReference.parse",
        "crossdock.store.ociarchive:open_archive",
    ),
    "docker-archive:": Scheme(
        "crossdock.oci.archivereference:DockerArchiveReference.parse",
        "crossdock.store.dockerarchive:open_archive",
    ),
}
"""The prefixes of locations, with their colon, besides the ``docker://`` of registries."""


def scheme_of(text: str) -> Scheme | None:
    """The row of `SCHEMES` for `text`; None for a registry's reference."""
    prefix, colon, _ = text.partition(":")
    return SCHEMES.get(prefix + colon)


def named(name: str) -> Any:
    """The location that a `Scheme` names."""
    module, _, function = name.partition(":")
    return attrgetter(function)(import_module(module))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Reference(Location):
    """Content of a repository, by tag, digest or both. Making a wrong one raises `InvalidReference`.

    With both, the digest says what the content is and the tag must point at it.
    """

    registry: str  # host[:port] as people write it; Docker Hub is docker.io
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        if problem := _problem(self.registry, self.repository, self.tag):
            raise invalid(str(self), problem)

    @classmethod
    def parse(cls, text: str, *, default_tag: str | None = DEFAULT_TAG) -> Reference:
        """The reference in `text`, normalised as Docker does; ``docker://`` may stand before it.

        `default_tag` is the tag of a reference without tag and digest; None leaves it without. Raises
        `InvalidReference`, whose message says which part is wrong.
        """
        rest = text.removeprefix("docker://")
        if problem := _unreadable(rest):
            raise invalid(text, problem)
        if "://" in rest and (scheme := re.match(_SCHEME, rest)):
            raise _unsupported(text, scheme[0])
        name, at, digest_text = rest.partition("@")
        if not at and len(name) == 64 and not name.strip("0123456789abcdef"):
            problem = "64 hexadecimal digits alone could be an image's id and are no name"
            raise invalid(
                text, problem, advice=Advice("correct-reference", "a digest is written name@sha256:…")
            )
        try:
            digest = Digest(digest_text) if at else None
        except InvalidDigest as error:
            raise invalid(text, "what follows @ is not a digest" if _hidden(text) else str(error)) from None
        registry, remainder = _split_registry(name)
        repository, colon, written_tag = remainder.partition(":")
        tag = written_tag if colon else None
        if problem := _problem(registry, repository, tag):
            raise invalid(text, problem)
        if tag is None and digest is None:
            tag = default_tag
        return cls(registry, repository, tag, digest)

    @property
    def api_host(self) -> str:
        """``host[:port]`` to connect to. Docker Hub's registry has another name than its images."""
        return HUB_API_HOST if registry_key(self.registry) == DOCKER_HUB else self.registry

    @property
    def place(self) -> tuple[str, str]:
        """As `Location.place`."""
        return registry_key(self.registry), self.repository

    @property
    def locator(self) -> str:
        """``host[:port]/repository``, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    def with_tag(self, tag: str) -> Reference:
        """The same with this tag; a digest stays. Raises `InvalidReference`."""
        return replace(self, tag=tag)

    def with_digest(self, digest: Digest) -> Reference:
        """The same with this digest; a tag stays."""
        return replace(self, digest=digest)

    def describe(self) -> str:
        """How errors and results name it."""
        return str(self)

    def __str__(self) -> str:
        return self.locator + _suffix(self.tag, self.digest)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LayoutReference(Location):
    """An image in an OCI image layout on disk: ``oci:DIR``, ``oci:DIR:tag``, ``oci:DIR@digest``.

    Making a wrong one raises `InvalidReference`. The tag is the value of the annotation
    ``org.opencontainers.image.ref.name`` and may hold more than a registry's tag: ``/ : @ +``.
    """

    path: str
    tag: str | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        if problem := file_reference_problem(self.path, self.tag, "folder"):
            raise invalid(str(self), problem)

    @classmethod
    def parse(cls, text: str) -> LayoutReference:
        """The reference in ``oci:DIR[:tag][@digest]``. Raises `InvalidReference`.

        The path ends at the first colon, as in skopeo, so that tags may hold colons and slashes; a folder
        whose name holds a colon is reached through a link. What follows the last ``@`` is a digest when it
        starts with an algorithm; any other ``@`` belongs to the path or tag.
        """
        return cls(*split_file_reference(text, "oci:", "folder"))

    @property
    def place(self) -> tuple[str, str]:
        """As `Location.place`."""
        return "oci:", os.path.abspath(self.path)

    def describe(self) -> str:
        """How errors and results name it."""
        return str(self)

    def __str__(self) -> str:
        return f"oci:{self.path}" + _suffix(self.tag, self.digest)


def parse_location(text: str, *, default_tag: str | None = DEFAULT_TAG) -> Location:
    """Parse a source or target. Raises `InvalidReference`, which names the accepted forms.

    `default_tag` is for registries; a layout without tag means its only image.
    """
    if (scheme := scheme_of(text)) is not None:
        location: Location = named(scheme.parse)(text)
        return location
    first, colon, _ = text.partition(":")
    if colon and first in _OTHER_TRANSPORTS:
        raise _unsupported(text, f"{first}:")
    host = text.removeprefix("docker://").removesuffix("/")
    if "/" not in host and (re.fullmatch(_HOST_ALONE, host) or is_public_registry(host)):
        raise invalid(
            text,
            "it is a registry, without a repository",
            advice=Advice("correct-reference", f"write {host}/REPOSITORY[:TAG]"),
        )
    return Reference.parse(text, default_tag=default_tag)


def as_location(given: str | Location) -> Location:
    """`given` itself when it is parsed already. Raises as `parse_location`."""
    return parse_location(given) if isinstance(given, str) else given


def split_file_reference(text: str, scheme: str, kind: str) -> tuple[str, str | None, Digest | None]:
    """Path, tag and digest of ``SCHEME PATH[:tag][@digest]``; `kind` is what the path leads to.

    Raises `InvalidReference`.
    """
    rest = text.removeprefix(scheme)
    if rest.startswith("//"):
        shown = "DIR" if kind == "folder" else "FILE"
        words = f"leave {scheme}// away for a repository of a registry; write {scheme}/{shown} for a {kind}"
        raise invalid(text, f"{scheme} takes a {kind}, not a URL", Advice("correct-reference", words))
    body, at, tail = rest.rpartition("@")
    digest = None
    if at and re.fullmatch(_LIKE_DIGEST, tail):
        try:
            rest, digest = body, Digest(tail)
        except InvalidDigest as error:
            raise invalid(text, str(error)) from None
    path, colon, tag = rest.partition(":")
    if problem := file_reference_problem(path, tag if colon else None, kind):
        raise invalid(text, problem)
    return path, tag if colon else None, digest


def file_reference_problem(path: str, tag: str | None, kind: str) -> str:
    """The fault in the parts of a reference to a folder or file; empty if there is none."""
    if not path:
        return f"the {kind}'s path is missing"
    if not path.isprintable():
        return f"the {kind}'s path contains control characters or is not UTF-8"
    if ":" in path:
        return f"a {kind}'s path cannot contain a colon, which starts the tag"
    if tag == "":
        return "the tag after : is missing"
    if tag is not None and not re.fullmatch(_REF_NAME, tag):
        return (
            f"{quote(tag)} is not a tag of a layout: letters, digits and _ . : @ + / - are allowed, "
            "and a letter, digit or _ comes first"
        )
    return ""


def invalid(text: str, problem: str, advice: Advice | None = None) -> InvalidReference:
    """The error for a `text` that is no reference. A password in it is not shown."""
    hidden = _hidden(text)
    shown = f"***{text[hidden:]}" if hidden else text
    return InvalidReference(
        f"invalid reference {quote(shown)}: {problem}", operation="parse", reference=shown, advice=advice
    )


def is_tag(text: str) -> bool:
    """Whether it can be a tag of a registry."""
    return _TAG.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    """Whether it can be the name of a repository."""
    return len(text) <= _LONGEST_REPOSITORY and _REPOSITORY.fullmatch(text) is not None


def _suffix(tag: str | None, digest: Digest | None) -> str:
    return (f":{tag}" if tag is not None else "") + (f"@{digest}" if digest is not None else "")


def _split_registry(name: str) -> tuple[str, str]:
    """``name[:tag]`` as registry and the rest, by Docker's rules. Nothing is checked yet."""
    first, slash, rest = name.partition("/")
    if not slash:
        return DOCKER_HUB, _HUB_OFFICIAL + name
    if registry_key(first) == DOCKER_HUB:
        registry, remainder = DOCKER_HUB, rest
    elif first == "localhost" or "." in first or ":" in first or first.lower() != first:
        registry, remainder = first, rest
    else:
        registry, remainder = DOCKER_HUB, name
    if registry == DOCKER_HUB and "/" not in remainder:
        remainder = _HUB_OFFICIAL + remainder
    return registry, remainder


def _unreadable(text: str) -> str:
    """Why a text cannot be a reference, before it is parsed; empty if it can."""
    if not text:
        return "it is empty"
    if text.split() != [text]:
        return "it contains white space"
    if not text.isprintable():
        return "it contains control characters"
    return ""


def _problem(registry: str, repository: str, tag: str | None) -> str:
    """The fault in the parts of a reference; empty if there is none."""
    if problem := _registry_problem(registry):
        return problem
    if not repository or repository == _HUB_OFFICIAL:
        return "the repository's name is missing"
    if repository.lower() != repository:
        return f"the repository's name must be lower case, as in {quote(repository.lower())}"
    if len(repository) > _LONGEST_REPOSITORY:
        return f"the repository's name has {len(repository)} characters, more than {_LONGEST_REPOSITORY}"
    if not _REPOSITORY.fullmatch(repository):
        return (
            f"{quote(repository)} is not a repository's name: parts of a-z and 0-9 are joined by one . or _, "
            "by __, by - or by /"
        )
    if tag is not None and len(tag) > _LONGEST_TAG:
        return f"the tag has {len(tag)} characters, more than {_LONGEST_TAG}"
    if tag is not None and not _TAG.fullmatch(tag):
        return (
            f"{quote(tag)} is not a tag: letters, digits and _ . - are allowed, no . or - in front"
            if tag
            else "the tag after : is missing"
        )
    return ""


@lru_cache(maxsize=64)  # a list of thousands names a handful
def _registry_problem(registry: str) -> str:
    parts = _REGISTRY.fullmatch(registry)
    if not parts:
        before, at, host = registry.rpartition("@")  # what stands before it may be a password
        return f"{quote(f'***@{host}' if at and before else registry)} is not a registry's host[:port]"
    if parts["port"] and not 0 < int(parts["port"][:9]) < 1 << 16:
        return f"{quote(parts['port'])} is not a port"
    if parts["ipv6"]:
        from ipaddress import AddressValueError, IPv6Address  # rare, and slow to import

        try:
            IPv6Address(parts["ipv6"])
        except AddressValueError:
            return f"{quote(parts['ipv6'])} is not an IPv6 address"
    return ""


def _unsupported(text: str, scheme: str) -> InvalidReference:
    words = _CONVERTED.get(scheme)
    advice = Advice("correct-reference", words) if words else Advice("write-reference")
    if scheme in ("http://", "https://"):
        advice = Advice("omit-scheme")
    known = f"docker://, {', '.join(list(SCHEMES)[:-1])} and {list(SCHEMES)[-1]}"
    return invalid(text, f"{scheme} is not supported; {known} are", advice)


def _hidden(text: str) -> int:
    """How many characters in front are not shown: what looks like a user and password before a host."""
    if any(text.startswith(prefix) and not text.startswith(f"{prefix}//") for prefix in SCHEMES):
        return 0
    name, at, tail = text.rpartition("@")
    if not (at and re.fullmatch(_LIKE_DIGEST, tail)):
        name = text
    before, at, after = name.rpartition("@")
    return len(before) if at and (":" in before or "/" in after) else 0

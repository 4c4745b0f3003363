"""The names that ``az acr import`` accepts, with its checks and their messages."""

from __future__ import annotations

import re

from msgspec import Struct

from crossdock.errors import Advice, InvalidInput, InvalidReference
from crossdock.inventory.values import ACR_SUFFIX
from crossdock.oci.digest import Digest
from crossdock.oci.reference import DEFAULT_TAG, Reference
from crossdock.oci.registryname import registry_key

NAME_RULE = "Registry names may contain only alpha numeric characters and must be between 5 and 50 characters"
WRONG_SUFFIX = (
    f"The login server suffix is not valid for the current cloud. Please try again using '{ACR_SUFFIX}'."
)
NO_SOURCE = (
    "Source cannot be found. Please provide a valid image and source registry or a fully qualified source."
)
NOT_QUALIFIED = "Login server of the registry is not valid because it is not a fully qualified domain name."
REGIONAL = (
    "ACR imports do not support regional endpoint selection. "
    "This import will use the source registry's home region."
)

_SOMEWHERE = "registry.invalid/"
_OTHERS = "list a registry with another login server in the inventory"
_NAME = re.compile(r"[a-zA-Z0-9-]{5,50}")
_HASHED = re.compile(r"-[a-z0-9]+$")  # the label that a registry's DNS name scope adds
_REGIONAL = re.compile(r"([^.]+)\.[^.]+\.geo(\.azurecr\.io)")


def registry_name(text: str) -> tuple[str, str]:
    """The registry name in a name or login server, and a warning or an empty string.

    A login server of the cloud means its name. Raises `InvalidInput` with the messages of checks 1 to 4.
    """
    name, warning = text, ""
    if "." in text:
        if not text.lower().endswith(ACR_SUFFIX):
            raise InvalidInput(WRONG_SUFFIX, advice=Advice("give-inventory-entry", _OTHERS))
        name = _HASHED.sub("", text[: -len(ACR_SUFFIX)])
        warning = f"Registry name is '{name}'. The following suffix '{ACR_SUFFIX}' is automatically omitted."
    if ("-" in text and not warning) or not _NAME.fullmatch(name):
        raise InvalidInput(NAME_RULE, advice=Advice("give-inventory-entry", _OTHERS))
    return name, warning


def split_source(text: str) -> tuple[str, str]:
    """Registry and image of a fully qualified source. Raises `InvalidInput` (checks 10 and 11)."""
    registry, slash, image = text.partition("/")
    if not slash or not registry:
        raise InvalidInput(NO_SOURCE, advice=Advice("name-source-registry"))
    if "." not in registry:
        text = "127.0.0.1:5000 is one for a registry on this machine"
        if image.startswith("/") and registry.endswith(":"):
            text = f"leave {registry}// out"
        raise InvalidInput(NOT_QUALIFIED, advice=Advice("correct-reference", text))
    return registry, image


def home_of(registry: str) -> str:
    """The login server behind a regional endpoint; empty for any other host (az-contract 1.2, check 12)."""
    match = _REGIONAL.fullmatch(registry_key(registry))
    return match[1] + match[2] if match else ""


class SourceImage(Struct, frozen=True):
    """The image of ``sourceImage``. With tag and digest, the tag must point at the digest."""

    repository: str
    tag: str | None
    digest: Digest | None

    @classmethod
    def parse(cls, text: str) -> SourceImage:
        """``repo``, ``repo:tag``, ``repo@digest`` or ``repo:tag@digest``. Raises `InvalidReference`."""
        named = _read(text, None)
        return cls(named.repository, named.tag, named.digest)

    def at(self, registry: str) -> Reference:
        """The image in a registry: Docker Hub's short names are completed, a missing tag is ``latest``."""
        text = f"{self.repository}{f':{self.tag}' if self.tag else ''}"
        return Reference.parse(f"{registry}/{text}{f'@{self.digest}' if self.digest else ''}")


def default_target(image: str) -> str:
    """The target tag of an import without targets: the source's image without its digest."""
    return image.partition("@")[0]


def target_tag(text: str, source: SourceImage, login_server: str) -> Reference:
    """The target of a ``repo[:tag]`` of ``targetTags``; a missing tag is the source's, else ``latest``.

    Raises `InvalidInput` for a target with a digest, and `InvalidReference`.
    """
    named = _read(text, source.tag or DEFAULT_TAG)
    if named.digest is not None:
        raise InvalidInput("a target tag has a digest", advice=Advice("untag-target"))
    return Reference(login_server, named.repository, named.tag)


def _read(text: str, default_tag: str | None) -> Reference:
    """The reference of `text` at an arbitrary registry. Raises `InvalidReference`, quoting only `text`."""
    try:
        return Reference.parse(f"{_SOMEWHERE}{text}", default_tag=default_tag)
    except InvalidReference as error:
        raise InvalidReference(str(error).replace(_SOMEWHERE, "", 1), advice=error.advice) from None


def untagged_target(text: str, login_server: str) -> Reference:
    """The target of one entry of ``untaggedTargetRepositories``. Raises `InvalidInput`."""
    named = _read(text, None)
    if named.tag is not None or named.digest is not None:
        raise InvalidInput(
            f"{text!r} is to be a repository and has a tag or digest", advice=Advice("tag-target")
        )
    return Reference(login_server, named.repository)

"""``importImage``'s body as a value (``ImportImageParameters``, api-version 2019-05-01 and later)."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from crossdock.errors import Advice, InvalidInput
from crossdock.oci.text import half_pair
from crossdock.options import Credentials

Mode = Literal["NoForce", "Force"]

MOST_TARGETS = 100  # of one import of the service; a person gives a handful


class SourceCredentials(Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Credentials for the source. Without a user name the password is a token."""

    password: str
    username: str | None = None

    def __repr__(self) -> str:
        return f"SourceCredentials(username={self.username!r})"

    def plain(self) -> Credentials:
        """As the library's credentials."""
        return Credentials(username=self.username or "", password=self.password)


class ImportSource(Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """The source image, in exactly one of ``resource_id`` and ``registry_uri``."""

    source_image: str
    resource_id: str | None = None
    registry_uri: str | None = None
    credentials: SourceCredentials | None = None


class _Credentials(Struct, forbid_unknown_fields=True):
    username: str | None = None
    password: str | None = None


class _Source(Struct, rename="camel", forbid_unknown_fields=True):
    source_image: str
    resource_id: str | None = None
    registry_uri: str | None = None
    credentials: _Credentials | None = None


class _Body(Struct, rename="camel", forbid_unknown_fields=True):
    """``importImage``'s body. Some serializers write null for members that are not given."""

    source: _Source
    target_tags: tuple[str, ...] | None = None
    untagged_target_repositories: tuple[str, ...] | None = None
    mode: Mode | None = None


class ImportRequest(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One import. Without either list the target has the name of the source."""

    source: ImportSource
    target_tags: tuple[str, ...] = ()
    untagged_target_repositories: tuple[str, ...] = ()
    mode: Mode = "NoForce"

    @classmethod
    def from_json(cls, body: bytes) -> ImportRequest:
        """The request in a body; null counts as absent.

        Raises `InvalidInput`, also for unknown members: ignoring a misspelled one would start another import
        than the caller meant.
        """
        try:
            given = msgspec.json.decode(body, type=_Body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInput(f"the body is not an import: {_words(error, body)}") from None
        source = ImportSource(
            source_image=given.source.source_image,
            resource_id=given.source.resource_id,
            registry_uri=given.source.registry_uri,
            credentials=_credentials(given.source.credentials),
        )
        if (source.resource_id is None) == (source.registry_uri is None):
            raise InvalidInput("the source must have exactly one of resourceId and registryUri")
        if source.credentials is not None and source.registry_uri is None:
            raise InvalidInput("credentials go with registryUri only")
        if source.credentials is not None and not source.credentials.password:
            raise InvalidInput("the credentials have an empty password")
        return cls(
            source=source,
            target_tags=given.target_tags or (),
            untagged_target_repositories=given.untagged_target_repositories or (),
            mode=given.mode or "NoForce",
        )

    def check_targets(self) -> None:
        """Raise `InvalidInput` for more than `MOST_TARGETS` targets."""
        count = len(self.target_tags) + len(self.untagged_target_repositories)
        if count > MOST_TARGETS:
            raise InvalidInput(
                f"the import has {count} targets, more than {MOST_TARGETS}",
                advice=Advice(
                    "split-import", "post several imports: what is at the target is not copied again"
                ),
            )


def _credentials(given: _Credentials | None) -> SourceCredentials | None:
    if given is None or (given.username is None and given.password is None):
        return None
    if given.password is None:
        raise InvalidInput("the credentials have no password")
    return SourceCredentials(given.password, given.username)


def _words(error: Exception, body: bytes) -> str:
    # msgspec calls such a body malformed or truncated, depending on where the half is.
    if half := half_pair(body):
        return f"{half} in a string is half of a surrogate pair, not a character"
    return str(error)

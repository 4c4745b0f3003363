"""Users and their rights: the users file of ``crossdock registry``.

It is JSON, for tests and labs, with passwords in clear text (docs/identities.md has an example). Scopes are
those of the token protocol; ``*`` matches any text in a name, and every action. Without ``scopes`` a user has
all rights. ``access_tokens`` are the Entra ID tokens that are exchanged for the user's refresh token. The
file is reloaded when it changes: a removed password is refused from then on, while issued tokens stay valid
until they expire, as at Azure. ``issuers`` are identity providers whose tokens are verified and exchanged as
well; their bearers get the issuer's ``scopes``.
"""

from __future__ import annotations

import hmac
import logging
import stat
from collections.abc import Iterable
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Struct

from crossdock.errors import (
    Advice,
    InvalidInput,
    InvalidOption,
    StoreError,
)

if TYPE_CHECKING:
    from crossdock.webtokens.verify import Verifier

log = logging.getLogger(__name__)

# Bits of the file's mode that cause a warning; a group may read it, as containers require.
_FORBIDDEN = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO

CATALOG = "registry:catalog:*"
EVERYTHING = ("repository:*:*", CATALOG)

AUDIENCE = "https://containerregistry.azure.net"
"""The audience of the tokens with which az and Azure's SDKs log in to a registry."""

Seconds = Annotated[int, Meta(ge=1)]


class Account(Struct, frozen=True, forbid_unknown_fields=True):
    """One user. ``repr`` shows only the name, because the rest is secret."""

    name: str
    password: str = ""
    access_tokens: tuple[str, ...] = ()
    scopes: tuple[str, ...] = EVERYTHING

    def __repr__(self) -> str:
        return f"<Account {self.name}>"


class Provider(Struct, frozen=True, forbid_unknown_fields=True):
    """An identity provider, and the scopes that its tokens give."""

    issuer: str
    scopes: tuple[str, ...]
    audiences: Annotated[tuple[str, ...], Meta(min_length=1)] = (AUDIENCE,)
    jwks_uri: str = ""
    ca: str = ""  # a file with CA certificates; relative to the users file's folder


class Accounts(Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of the file. Lifetimes are seconds; the defaults are Azure's, 75 minutes and 3 hours."""

    users: tuple[Account, ...] = ()
    issuers: tuple[Provider, ...] = ()
    anonymous: tuple[str, ...] = ()
    access_token_s: Seconds = 4500
    refresh_token_s: Seconds = 10_800

    def named(self, name: str) -> Account | None:
        """The user with this name; the empty name is the anonymous user."""
        if not name:
            return Account("", scopes=self.anonymous)
        return next((each for each in self.users if each.name == name), None)

    def with_password(self, name: str, password: str) -> Account | None:
        """The user with this name, if the password is correct."""
        user = self.named(name) if name and password else None
        return user if user is not None and _is_same(user.password, password) else None

    def with_access_token(self, token: str) -> Account | None:
        """The user who has this access token."""
        owners = (user for user in self.users for each in user.access_tokens if _is_same(each, token))
        return next(owners, None)

    def of_issuer(self, issuer: str, name: str) -> Account | None:
        """The bearer of an identity provider's token, if the file lists the provider."""
        provider = next((each for each in self.issuers if each.issuer == issuer), None)
        return Account(name, scopes=provider.scopes) if provider is not None else None


class AccountsFile:
    """The file behind `Accounts`."""

    def __init__(self, path: Path) -> None:
        """Reads it. Raises `InvalidOption` for mistakes in it, `StoreError` when it cannot be read."""
        self._path = path
        self._stamp: tuple[int, ...] = ()
        self._accounts = self._read()
        self._verifier = self._verifying(self._accounts)

    @property
    def verifier(self) -> Verifier | None:
        """Verifies the tokens of the file's issuers; None without issuers."""
        return self._verifier

    def current(self) -> Accounts:
        """The current contents; while the file is unusable, the last good ones, which is logged once.
        Blocks."""
        if _stamp(self._path) != self._stamp:
            try:
                self.reload()
            except (InvalidInput, OSError) as error:
                log.error("the users are unchanged: %s", error)
        return self._accounts

    def reload(self) -> None:
        """Reload the file and the CA files of its issuers. Blocks.

        Raises as `__init__`, which leaves the contents unchanged.
        """
        accounts = self._read()
        if accounts.issuers != self._accounts.issuers:
            self._verifier = self._verifying(accounts)
        elif self._verifier is not None:  # the keys that were fetched are kept
            self._verifier.reload_trust()
        self._accounts = accounts

    def _verifying(self, accounts: Accounts) -> Verifier | None:
        if not accounts.issuers:
            return None
        try:
            from crossdock.webtokens.values import Issuer
            from crossdock.webtokens.verify import Verifier
        except ImportError:
            raise InvalidOption(
                f"users file {self._path}: issuers need packages that are not installed",
                advice=Advice("install", "pip install 'crossdock[service]'"),
            ) from None
        try:
            return Verifier(
                Issuer(
                    issuer=each.issuer,
                    audiences=each.audiences,
                    jwks_uri=each.jwks_uri,
                    ca_file=self._path.parent / each.ca if each.ca else None,
                )
                for each in accounts.issuers
            )
        except InvalidInput as error:
            raise InvalidOption(f"users file {self._path}: {error}") from None

    def _read(self) -> Accounts:
        # taken before the content, so that a change in between is noticed next time
        self._stamp = _stamp(self._path)
        try:
            mode = self._path.stat().st_mode
            content = self._path.read_bytes()
        except OSError as error:
            raise StoreError(f"users file {self._path} cannot be read: {error.strerror}") from None
        try:
            accounts = msgspec.json.decode(content, type=Accounts)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:  # the message contains paths, not values
            raise InvalidOption(f"users file {self._path}: {error}") from None
        if mode & _FORBIDDEN:
            log.warning(
                "users file %s has the mode %o: others can read or change its passwords; chmod 600 it",
                self._path,
                stat.S_IMODE(mode),
            )
        held = [each.scopes for each in accounts.users] + [each.scopes for each in accounts.issuers]
        for scope in chain(accounts.anonymous, *held):
            if not all(split_scope(scope)):
                raise InvalidOption(
                    f"users file {self._path}: {scope!r} is not a scope",
                    advice=Advice("correct-file", "give TYPE:NAME:ACTION,ACTION"),
                )
        return accounts


def split_scope(scope: str) -> tuple[str, str, tuple[str, ...]]:
    """Type, name and actions of ``repository:team/app:pull,push``; parts are empty if it is not a scope."""
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return kind, name, tuple(filter(None, actions.split(",")))


def granted(held: Iterable[str], requested: str) -> tuple[str, ...]:
    """The actions of the scope `requested` that the scopes `held` include."""
    kind, name, actions = split_scope(requested)
    patterns = [each for each in map(split_scope, held) if each[0] == kind and fnmatchcase(name, each[1])]
    allowed = {action for _, _, has in patterns for action in has}
    return tuple(action for action in actions if "*" in allowed or action in allowed)


def _is_same(secret: str, given: str) -> bool:
    return bool(secret) and hmac.compare_digest(secret.encode(), given.encode())


def _stamp(path: Path) -> tuple[int, ...]:
    """Identifies a version of the file; empty while it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino

"""Who we are at a registry: the first of these places that knows the host.

1. The caller's own (`RegistryOptions.credentials`, then its ``helper``; the command's flags, the inventory).
2. ``CROSSDOCK_SOURCE_USERNAME`` and ``_PASSWORD``, or ``CROSSDOCK_SOURCE_IDENTITY_TOKEN`` or
   ``_ACCESS_TOKEN`` (of Entra ID, for Azure registries); else the helper ``_CREDENTIAL_HELPER``; ``_TARGET_``
   for the other side.
3. Files named by the person: ``$REGISTRY_AUTH_FILE`` (podman, skopeo), then ``$DOCKER_CONFIG/config.json``.
4. Files in their usual places, in skopeo's order: ``$XDG_RUNTIME_DIR/containers/auth.json``,
   ``$XDG_CONFIG_HOME/containers/auth.json`` (``~/.config`` when unset), ``~/.docker/config.json``.
   ``REGISTRY_AUTH_FILE`` stands in for the first two, ``DOCKER_CONFIG`` for the last.

Within one file, as docker does: the host's helper (``credHelpers``, else ``credsStore``) before ``auths``.
Keys of ``auths`` are ``host``, ``https://host/v1/`` (docker login's old form) or ``host/namespace``
(podman), of which the longest that fits wins. Docker Hub is known as ``https://index.docker.io/v1/``.

The files are read when a registry demands credentials, not before. Nothing here shows a credential in an
error.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import Struct

from crossdock.errors import CredentialsError, Side
from crossdock.options import Credentials
from crossdock.registry.flight import SingleFlight

MAX_FILE = 8 << 20  # bytes; a config with a thousand logins is under 1 MiB

DOCKER_HUB = "index.docker.io"
DOCKER_HUB_KEY = "https://index.docker.io/v1/"
AZURE_HELPERS = {"azure-identity": "DefaultAzureCredential", "azure-cli": "AzureCliCredential"}
"""What can be named instead of a helper, and the class of the package ``azure-identity`` behind it."""
HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


class CredentialFile(Struct, frozen=True):
    """Where to look. ``required``: named by the person as a file, so its absence is an error."""

    path: Path
    required: bool = False


def credential_files(environ: Mapping[str, str]) -> tuple[CredentialFile, ...]:
    """The files to look into, in order."""
    home = environ.get("HOME", "")
    files = []
    if named := environ.get("REGISTRY_AUTH_FILE"):
        files.append(CredentialFile(Path(named), required=True))
    if docker := environ.get("DOCKER_CONFIG"):
        files.append(CredentialFile(Path(docker, "config.json")))
    if not named:
        if runtime := environ.get("XDG_RUNTIME_DIR"):
            files.append(CredentialFile(Path(runtime, "containers", "auth.json")))
        if config := environ.get("XDG_CONFIG_HOME") or (home and f"{home}/.config"):
            files.append(CredentialFile(Path(config, "containers", "auth.json")))
    if home and not docker:
        files.append(CredentialFile(Path(home, ".docker", "config.json")))
    return tuple(files)


def from_environ(environ: Mapping[str, str], side: Side) -> Credentials | None:
    """The side's credentials in the environment. Raises `CredentialsError` when half of a pair is set."""
    prefix = f"CROSSDOCK_{side.upper()}_"
    username = environ.get(f"{prefix}USERNAME", "")
    password = environ.get(f"{prefix}PASSWORD", "")
    identity_token = environ.get(f"{prefix}IDENTITY_TOKEN", "")
    access_token = environ.get(f"{prefix}ACCESS_TOKEN", "")
    if not (username or password or identity_token or access_token):
        return None
    if not (identity_token or access_token) and not (username and password):
        present, absent = ("USERNAME", "PASSWORD") if username else ("PASSWORD", "USERNAME")
        raise CredentialsError(f"{prefix}{present} is set but {prefix}{absent} is not")
    return Credentials(
        username=username,
        password=password,
        identity_token=identity_token,
        access_token=access_token,
    )


def as_token(given: Credentials) -> Credentials:
    """A password that the caller gives without a user name is an access token, as az takes it."""
    if not given.password or given.username:
        return given
    return replace(given, password="", access_token=given.access_token or given.password)


class CredentialStore:
    """Finds the credentials of one side for one registry; every answer is found once and kept."""

    def __init__(
        self,
        host: str,
        *,
        given: Credentials | None,
        environ: Mapping[str, str],
        side: Side,
        helper: str = "",
    ) -> None:
        """`host` with its port, as in references; `helper` is asked first. No I/O."""
        self._host = DOCKER_HUB if host.lower() in HUB_NAMES else host.lower()
        self._given = given
        self._first_helper = helper
        self._environ = environ
        self._side = side
        self._found: dict[str, Credentials | None] = {}
        self._answers: dict[str, Credentials | None] = {}  # of helpers, by name
        self._past: list[Credentials] = []  # no longer used, still secret
        self._flights: SingleFlight[Credentials | None] = SingleFlight()

    async def find(self, repository: str) -> Credentials | None:
        """Credentials for `repository` (empty: for the registry as such); None: go anonymously.

        Raises `CredentialsError` when a file or helper that must be asked cannot be used.
        """
        if repository not in self._found:
            self._found[repository] = await self._flights.run(repository, lambda: self._search(repository))
        return self._found[repository]

    async def renew(self, repository: str) -> bool:
        """Ask helpers again for credentials that are refused now. Whether there are others than before.

        What cloud helpers give lives for an hour to half a day; a run of many copies may take longer. Raises
        as `find` does.
        """
        if not any(self._answers.values()):
            return False
        old = self._found.get(repository)
        self._answers.clear()
        new = await self._flights.run(repository, lambda: self._search(repository))
        self._past += filter(None, self._found.values())
        self._found = {repository: new}
        return new != old

    def known(self, repository: str) -> Credentials | None:
        """What `find` found before."""
        return self._found.get(repository)

    def all_known(self) -> Iterator[Credentials]:
        """Every credential found so far."""
        return filter(None, (*self._past, *self._found.values()))

    async def _search(self, repository: str) -> Credentials | None:
        if self._given is not None:
            return as_token(self._given)
        if self._first_helper and (found := await self._ask_first(self._first_helper, "the inventory")):
            return found
        if (found := from_environ(self._environ, self._side)) is not None:
            return found
        variable = f"CROSSDOCK_{self._side.upper()}_CREDENTIAL_HELPER"
        helper = self._environ.get(variable, "")
        if helper and (found := await self._ask_first(helper, variable)):
            return found
        for file in credential_files(self._environ):
            config = read_config(file)
            if config is not None and (found := await self._search_file(config, file.path, repository)):
                return found
        return None

    async def _search_file(
        self, config: Mapping[str, Any], path: Path, repository: str
    ) -> Credentials | None:
        entry = _find_auth(_mapping(config, "auths", path), self._host, repository)
        in_file = _from_entry(entry[1], entry[0], path) if entry else None
        helper = self._helper(config, path)
        if not helper:
            return in_file
        try:
            return await self._ask(helper, path) or in_file
        except CredentialsError:
            if in_file is None:
                raise
            return in_file  # a helper of another machine (credsStore: desktop) beside a usable entry

    async def _ask_first(self, helper: str, named_by: str) -> Credentials | None:
        """A helper that was named for this side or registry, and not in a file of docker's."""
        if helper not in AZURE_HELPERS:
            return await self._ask(helper, named_by)
        from crossdock.registry.azure import ask_azure

        async def ask() -> Credentials:
            return Credentials(access_token=await ask_azure(helper))

        return await self._once(helper, ask)

    async def _ask(self, helper: str, named_by: Path | str) -> Credentials | None:
        # few have one; it loads what runs processes
        from crossdock.registry.credential_helper import ask_helper

        server = DOCKER_HUB_KEY if self._host == DOCKER_HUB else self._host
        return await self._once(
            helper, lambda: ask_helper(helper, server, environ=self._environ, named_by=named_by)
        )

    async def _once(
        self, helper: str, ask: Callable[[], Coroutine[Any, Any, Credentials | None]]
    ) -> Credentials | None:
        """The helper's answer, which is the same for all repositories."""
        if helper not in self._answers:
            self._answers[helper] = await self._flights.run(("helper", helper), ask)
        return self._answers[helper]

    def _helper(self, config: Mapping[str, Any], path: Path) -> str:
        helpers = _mapping(config, "credHelpers", path)
        for key, value in helpers.items():
            if _key_host(key)[0] == self._host and isinstance(value, str):
                return value
        default = config.get("credsStore", "")
        return default if isinstance(default, str) else ""


def read_config(file: CredentialFile) -> Mapping[str, Any] | None:
    """The file's document; None when there is no file. Raises `CredentialsError`."""
    path = file.path
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        if file.required:
            raise CredentialsError(
                f"credential file {path} does not exist", hint="REGISTRY_AUTH_FILE names it"
            ) from None
        return None
    except OSError as error:
        raise CredentialsError(f"credential file {path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise CredentialsError(f"credential file {path} is over {MAX_FILE} bytes")
    if not data.strip():
        return {}
    try:
        document = json.loads(data)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise CredentialsError(f"credential file {path} is not valid JSON: {place}") from None
    except (ValueError, RecursionError):  # no UTF-8, a number of thousands of digits, too deep
        raise CredentialsError(f"credential file {path} is not valid JSON") from None
    if not isinstance(document, dict):
        raise CredentialsError(f"credential file {path} is not a JSON object")
    return document


def _mapping(config: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    value = config.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CredentialsError(f'credential file {path}: "{name}" is not an object')
    return value


def _find_auth(auths: Mapping[str, Any], host: str, repository: str) -> tuple[str, Any] | None:
    """The entry whose key covers most of ``host/repository``, and that key. Entries without content are
    passed over: docker login leaves them behind when a helper keeps the secret."""
    best: tuple[int, str, Any] | None = None
    for key, entry in auths.items():
        key_host, namespace = _key_host(key)
        if key_host != host or entry in (None, {}):
            continue
        fits = not namespace or repository == namespace or repository.startswith(f"{namespace}/")
        if fits and (best is None or len(namespace) > best[0]):
            best = (len(namespace), key, entry)
    return best[1:] if best else None


def _key_host(key: str) -> tuple[str, str]:
    """Host (with port) and namespace of a key. A key with a scheme names a host alone, whatever its path."""
    bare = key.removeprefix("https://").removeprefix("http://")
    host, _, namespace = bare.partition("/")
    host = host.lower()
    if bare != key or namespace.strip("/") in ("v1", "v2"):
        namespace = ""
    return DOCKER_HUB if host in HUB_NAMES else host, namespace.strip("/")


def _from_entry(entry: Any, key: str, path: Path) -> Credentials | None:
    if not isinstance(entry, dict):
        raise CredentialsError(f'credential file {path}: the entry for "{key}" is not an object')
    username, password = _text(entry, "username"), _text(entry, "password")
    if encoded := _text(entry, "auth"):
        username, password = _decode_auth(encoded, key, path)
    found = Credentials(
        username=username,
        password=password,
        identity_token=_text(entry, "identitytoken"),
        registry_token=_text(entry, "registrytoken"),
    )
    return found if any(_secrets(found)) else None


def _decode_auth(encoded: str, key: str, path: Path) -> tuple[str, str]:
    wrong = f'credential file {path}: "auth" of "{key}" is not base64 of user:password'
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        raise CredentialsError(wrong) from None
    username, colon, password = decoded.partition(":")
    if not colon:
        raise CredentialsError(wrong)
    return username, password.strip("\0")  # docker pads old entries with NUL


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""


def _secrets(credentials: Credentials) -> Iterator[str]:
    yield credentials.password
    yield credentials.identity_token
    yield credentials.registry_token

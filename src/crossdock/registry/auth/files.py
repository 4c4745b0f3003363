"""The JSON files in which docker and podman keep logins: ``config.json`` and ``auth.json``.

Keys of ``auths`` are ``host``, ``https://host/v1/`` (docker login's old form) or ``host/namespace`` (podman).
The longest matching namespace wins; among the keys for a whole host the one that is exactly ``host``, as in
containers/image, since docker and podman may have written one each. Docker Hub is
``https://index.docker.io/v1/`` for docker and ``docker.io`` for podman.

No error shows a credential.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crossdock.errors import (
    Advice,
    CredentialsError,
)
from crossdock.oci.registryname import DOCKER_HUB, registry_key
from crossdock.options import Credentials
from crossdock.transport.reason import os_reason

MAX_FILE = 8 << 20  # bytes; a config with a thousand logins is under 1 MiB
LOCK_S = 10.0  # a login holds the lock only while it writes one small file

DOCKER_HUB_KEY = "https://index.docker.io/v1/"

Config = Mapping[str, Any]

_REPAIR = Advice("repair-authfile")


class Unreadable(CredentialsError):
    """A credential file is missing or may not be read."""


def server_key(host: str) -> str:
    """The key under which docker stores a login for `host`, in files and in credential helpers."""
    key = registry_key(host)
    return DOCKER_HUB_KEY if key == DOCKER_HUB else key


# -- reading -----------------------------------------------------------------------------------------


def read_config(path: Path) -> Config | None:
    """The file's document; None if there is no file. Raises `Unreadable`, `CredentialsError`."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unreadable(
            f"credential file {path} cannot be read: {os_reason(error)}", advice=_REPAIR
        ) from None
    if len(data) > MAX_FILE:
        raise CredentialsError(f"credential file {path} is over {MAX_FILE} bytes", advice=_REPAIR)
    return parse_config(data, f"credential file {path}")


def parse_config(data: bytes | str, name: str) -> Config:
    """Parse the text of a ``config.json``. Raises `CredentialsError`, whose message calls it `name`."""
    if not data.strip():
        return {}
    try:
        document = json.loads(data)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise CredentialsError(f"{name} is not valid JSON: {place}", advice=_REPAIR) from None
    except (ValueError, RecursionError):  # not UTF-8, a number of thousands of digits, too deep
        raise CredentialsError(f"{name} is not valid JSON", advice=_REPAIR) from None
    if not isinstance(document, dict):
        raise CredentialsError(f"{name} is not a JSON object", advice=_REPAIR)
    return document


def find_login(config: Config, host: str, repository: str, name: str) -> Credentials | None:
    """The login in ``auths`` for ``host/repository``, `host` by `registry_key`. Raises `CredentialsError`.

    Empty entries are skipped: docker login leaves them in the file when a helper keeps the secret.
    """
    best: tuple[tuple[int, bool], str, Any] | None = None
    for key, entry in _mapping(config, "auths", name).items():
        key_host, namespace = _key_host(key)
        if key_host != host or entry in (None, {}):
            continue
        if namespace and repository != namespace and not repository.startswith(f"{namespace}/"):
            continue
        rank = (len(namespace), _is_exact(key))
        if best is None or rank > best[0]:
            best = (rank, key, entry)
    return _from_entry(best[2], best[1], name) if best else None


def has_entry(config: Config, host: str) -> bool:
    """Whether ``auths`` has an entry, even an empty one, for all of `host` (a `registry_key`)."""
    auths = config.get("auths")
    return isinstance(auths, dict) and any(_key_host(key) == (host, "") for key in auths)


def find_helper(config: Config, host: str, name: str) -> str:
    """The credential helper for `host` (a `registry_key`), else the default one; empty if there is
    neither."""
    for key, value in _mapping(config, "credHelpers", name).items():
        if _key_host(key)[0] == host and isinstance(value, str):
            return value
    default = config.get("credsStore", "")
    return default if isinstance(default, str) else ""


def _mapping(config: Config, member: str, name: str) -> Mapping[str, Any]:
    value = config.get(member)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CredentialsError(f'{name}: "{member}" is not an object', advice=_REPAIR)
    return value


def _key_host(key: str) -> tuple[str, str]:
    """Host (with port) and namespace of a key. A key with a scheme names only a host, whatever its path."""
    bare = key.removeprefix("https://").removeprefix("http://")
    host, _, namespace = bare.partition("/")
    if bare != key or namespace.strip("/") in ("v1", "v2"):
        namespace = ""
    return registry_key(host), namespace.strip("/")


def _is_exact(key: str) -> bool:
    """The key is a bare host, as podman and skopeo write it."""
    return "/" not in key and key.lower() == registry_key(key)


def _from_entry(entry: Any, key: str, name: str) -> Credentials | None:
    if not isinstance(entry, dict):
        raise CredentialsError(f'{name}: the entry for "{key}" is not an object')
    username, password = _text(entry, "username"), _text(entry, "password")
    if encoded := _text(entry, "auth"):
        username, password = _decode_auth(encoded, key, name)
    found = Credentials(
        username=username,
        password=password,
        identity_token=_text(entry, "identitytoken"),
        registry_token=_text(entry, "registrytoken"),
    )
    return found if found.password or found.identity_token or found.registry_token else None


def _decode_auth(encoded: str, key: str, name: str) -> tuple[str, str]:
    wrong = f'{name}: "auth" of "{key}" is not base64 of user:password'
    try:
        # Go's decoder, which docker and podman use, skips line breaks: `base64` wraps at 76 characters.
        text = "".join(encoded.split())
        padding = "=" * (-len(text) % 4)  # some scripts strip it
        decoded = base64.b64decode(text + padding, validate=True).decode()
    except (binascii.Error, ValueError):
        raise CredentialsError(wrong) from None
    username, colon, password = decoded.partition(":")
    if not colon:
        raise CredentialsError(wrong)
    return username, password.strip("\0")  # docker pads old entries with NUL


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""


# -- writing -----------------------------------------------------------------------------------------


def login_entry(credentials: Credentials) -> dict[str, str]:
    """The value in ``auths`` for `credentials`, as docker login writes it."""
    auth = base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()
    entry = {"auth": auth}
    if credentials.identity_token:
        entry["identitytoken"] = credentials.identity_token
    return entry


def put_entry(path: Path, host: str, entry: Mapping[str, str] | None) -> bool:
    """Set the entry for a whole host in ``auths``, or remove it (None). Returns whether there was one.
    Blocks.

    Other members of the file are kept. The file is replaced atomically, is readable by its owner only, and is
    created if needed. Other spellings of the host's key are removed, so that no older login is found instead
    of this one. Raises `CredentialsError`.
    """
    place = Path(os.path.realpath(path))  # a link to the file stays a link
    try:
        if entry is not None:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not place.exists():
            return False
        with _locked(place.parent):
            config = dict(read_config(place) or {})
            auths = dict(_mapping(config, "auths", f"credential file {path}"))
            old = [key for key in auths if _key_host(key) == (registry_key(host), "")]
            for key in old:
                del auths[key]
            if entry is not None:
                auths[server_key(host)] = dict(entry)
            if old or entry is not None:
                _replace(place, {**config, "auths": auths})
            return bool(old)
    except OSError as error:
        raise CredentialsError(
            f"credential file {path} cannot be written: {os_reason(error)}", advice=_REPAIR
        ) from None
    except ValueError:  # a number that JSON cannot hold
        raise CredentialsError(f"credential file {path} is not valid JSON", advice=_REPAIR) from None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Exclude other crossdock logins in this folder: one of two concurrent ones would be lost."""
    import fcntl  # few commands write a login

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    until = time.monotonic() + LOCK_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, config: Config) -> None:
    data = json.dumps(config, indent="\t", allow_nan=False).encode() + b"\n"
    temporary = path.with_name(f".{path.name}-{os.urandom(8).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as stream:
            with contextlib.suppress(OSError):  # a file that root rewrites still belongs to the user
                owner = path.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise

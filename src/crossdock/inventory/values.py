"""The inventory as frozen values, and its look-ups."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import force_setattr

from crossdock.errors import Advice, CredentialsError, InvalidInput
from crossdock.oci.registryname import canonical_host, joined, registry_key, split_key
from crossdock.oci.text import quote
from crossdock.options import CreateOptions, Credentials, InventoryEntry, RegistryOptions

ACR_SUFFIX = ".azurecr.io"
MAX_SECRET = 1 << 20  # bytes of a file; JSON keys of clouds have some 4,000

_RESOURCE_ID = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.ContainerRegistry/registries/(?P<name>[^/]+)/?",
    re.IGNORECASE,
)


class ResourceId(Struct, frozen=True):
    """A registry by its Azure resource ID."""

    subscription: str
    resource_group: str
    name: str

    @classmethod
    def parse(cls, text: str) -> ResourceId | None:
        """The parts of a registry's resource ID, in any case; None when `text` is not one."""
        match = _RESOURCE_ID.fullmatch(text)
        return cls(match["subscription"], match["group"], match["name"]) if match else None

    def __str__(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.ContainerRegistry/registries/{self.name}"
        )


class EntryCredentials(Struct, frozen=True):
    """The place of an entry's secret. Paths are absolute, or relative to the working directory."""

    username: str = ""
    password_env: str = ""
    password_file: Path | None = None
    token_file: Path | None = None
    helper: str = ""

    def read(self, whose: str, environ: Mapping[str, str]) -> Credentials | None:
        """The credentials, read now; None: they come from a helper.

        Raises `CredentialsError` when variable or file is missing or empty; `whose` names the entry in it.
        """
        if self.helper:
            return None
        if self.token_file is not None:
            return Credentials(password=_secret_in(self.token_file, whose))
        if self.password_file is not None:
            return Credentials(username=self.username, password=_secret_in(self.password_file, whose))
        password = environ.get(self.password_env, "")
        if not password:
            raise CredentialsError(
                f"{whose}: {self.password_env}, the environment variable of its password, is not set",
                advice=Advice("set-variable", f"set {self.password_env}", variable=self.password_env),
            )
        return Credentials(username=self.username, password=password)


class Entry(Struct, frozen=True, kw_only=True):
    """One registry of the inventory; `ENTRY_DEFAULTS` are the service's own."""

    name: str
    login_server: str  # host[:port] of its references, lower case
    subscription: str = ""  # empty: unknown
    resource_group: str = ""
    location: str = ""
    credentials: EntryCredentials | None = None
    ca_file: Path | None = None
    plain_http: bool = False
    kind: str = ""  # of registry, by name; empty: by its host and what it answers
    values: tuple[tuple[str, Any], ...] = ()  # in place of the kind's, as in `RegistryOptions`
    create: CreateOptions | None = None  # missing repositories; None: they are not created
    public_network_access: Literal["Enabled", "Disabled"] = "Enabled"
    network_rule_bypass_options: Literal["AzureServices", "None"] = "AzureServices"
    export_policy: Literal["enabled", "disabled"] = "enabled"
    place: str = ""  # file:line, for messages

    @property
    def resource_id(self) -> str:
        """Its Azure resource ID; empty when subscription or group are unknown."""
        if not (self.subscription and self.resource_group):
            return ""
        return str(ResourceId(self.subscription, self.resource_group, self.name))

    def is_at(self, key: str) -> bool:
        """Whether `key`, from `registryname.registry_key`, is that of its login server."""
        own = registry_key(self.login_server)
        return key == own or (self.plain_http and key == f"{own}:80")

    def options(self, environ: Mapping[str, str], *, with_credentials: bool = True) -> RegistryOptions:
        """The options for its registry, with its secret read now. Raises `CredentialsError`."""
        who = self.credentials if with_credentials else None
        whose = f"{self.place}: registry {self.name}" if self.place else f"registry {self.name}"
        entry = InventoryEntry(self.place.rpartition(":")[0], self.name) if self.place else None
        return RegistryOptions(
            credentials=who.read(whose, environ) if who else None,
            helper=who.helper if who else "",
            ca_file=self.ca_file,
            plain_http=True if self.plain_http else None,
            kind=self.kind,
            values=self.values,
            create=self.create,
            login_entry=entry if who else None,
            tls_entry=entry,
        )


class Inventory(Struct, frozen=True):
    """Registries known by name, and hosts that are served at another address.

    Every look-up compares registries by their keys (`registryname.registry_key`), so all spellings of a
    name find the same entry.
    """

    registries: tuple[Entry, ...] = ()
    hosts: Mapping[str, str] = {}  # host[:port], by `place_key` → host[:port]
    place: str = ""  # the file, for messages
    kinds: Mapping[str, Mapping[str, Any]] = {}  # of registries, by name; values by theirs

    def __post_init__(self) -> None:
        force_setattr(self, "hosts", {place_key(name): served for name, served in self.hosts.items()})

    def find(self, text: str, *, subscription: str = "", resource_group: str = "") -> Entry | None:
        """The entry with this name, login server or resource ID, or None.

        ``NAME.azurecr.io`` finds the entry of that name, wherever it is served. `subscription` and
        `resource_group` choose among entries of one name; an entry without its own matches any, unless
        another matches exactly. Raises `InvalidInput` when several entries match.
        """
        if (by_id := ResourceId.parse(text)) is not None:
            found = self.named(by_id.name)
            subscription, resource_group = by_id.subscription, by_id.resource_group
        else:
            found = self.named(text)
        found = _narrowed(_narrowed(found, "subscription", subscription), "resource_group", resource_group)
        if len(found) > 1:
            raise InvalidInput(
                f"More than one registries were found by {text}: {', '.join(each.place for each in found)}",
                advice=Advice("choose-registry"),
            )
        return found[0] if found else None

    @classmethod
    def of(cls, registries: object) -> Inventory:
        """`registries` of a session's options, if they are an inventory; else an empty one."""
        return registries if isinstance(registries, cls) else cls()

    def addressed(self, text: str) -> str:
        """``HOST[:PORT][/PREFIX]`` for ``NAME[/PREFIX]`` with the name of an entry; any other text as it is.

        Raises `InvalidInput` when several entries have the name.
        """
        host, slash, prefix = text.partition("/")
        entry = self.find(host)
        return f"{entry.login_server}{slash}{prefix}" if entry is not None else text

    def prefer(self, text: str, subscription: str) -> Entry | None:
        """The entry of `text` in `subscription`; without one there, as `find` of `text` alone."""
        return (self.find(text, subscription=subscription) if subscription else None) or self.find(text)

    def named(self, text: str) -> tuple[Entry, ...]:
        """All entries with this name or login server."""
        if found := self.served_by(text):
            return found
        key = registry_key(text)
        if not key.endswith(ACR_SUFFIX) and split_key(text)[1]:
            return ()  # a host with a port is not a name
        bare = key.removesuffix(ACR_SUFFIX)
        return tuple(each for each in self.registries if each.name.lower() == bare)

    def served_by(self, registry: str) -> tuple[Entry, ...]:
        """All entries whose login server is the ``host[:port]`` `registry`, in any spelling."""
        key = self.key_of(registry)
        return tuple(
            each for each in self.registries if each.is_at(key) or self.key_of(each.login_server) == key
        )

    def key_of(self, registry: str) -> str:
        """The key of the registry at ``host[:port]``.

        If `hosts` sends every port of a host to one address, its ports are one registry.
        """
        host, port = split_key(registry)
        whole = joined(host, "")
        served = self.hosts.get(whole, "")
        if port and split_key(served)[1] and not {joined(host, port), f"{whole}:443"} & self.hosts.keys():
            return whole
        return registry_key(registry)

    # -- crossdock.options.Registries -----------------------------------------------------------------

    def options_for(
        self, registry: str, environ: Mapping[str, str], *, with_credentials: bool = True
    ) -> RegistryOptions | None:
        """The options for the ``host[:port]`` of a reference; None when no entry serves it.

        Raises `CredentialsError`, and `InvalidInput` when entries with one login server differ.
        """
        found = self.served_by(registry)
        if len({(each.credentials, each.ca_file, each.plain_http) for each in found}) > 1:
            raise InvalidInput(
                f"{registry} is the login server of several registries with different credentials: "
                f"{', '.join(each.place for each in found)}",
                advice=Advice(
                    "use-resource-id",
                    "name the registry by its resource ID, or give the entries different login servers",
                ),
            )
        return found[0].options(environ, with_credentials=with_credentials) if found else None

    def home_of(self, registry: str) -> str:
        """The login server of the entry that ``NAME.azurecr.io`` stands for; else `registry` itself.

        Also `registry` itself if ``hosts`` maps it, or an entry has it as its login server. Raises
        `InvalidInput` when entries of one name have different login servers.
        """
        if not registry_key(registry).endswith(ACR_SUFFIX) or self.served_at(registry, 443) is not None:
            return registry
        found = self.named(registry)
        servers = {each.login_server for each in found}
        if len(servers) > 1:
            raise InvalidInput(
                f"{registry} is one of several registries: {', '.join(each.place for each in found)}",
                advice=Advice("use-login-server", "use the login server of the one you mean"),
            )
        return servers.pop() if servers else registry

    def served_at(self, host: str, port: int) -> tuple[str, int] | None:
        """The address to connect to for `host` and `port` of a URL; None: the URL's own.

        An entry for docker.io also applies to the host name of Docker Hub's API.
        """
        if not self.hosts:
            return None
        name = canonical_host(host)
        place = self.hosts.get(joined(name, port)) or self.hosts.get(joined(name, ""))
        return _split(place, port) if place is not None else None


def place_key(text: str) -> str:
    """The key of a ``host[:port]`` in `Inventory.hosts`; without a port it covers every port of the host."""
    return joined(*split_key(text))


def _narrowed(
    entries: tuple[Entry, ...], field: Literal["subscription", "resource_group"], wanted: str
) -> tuple[Entry, ...]:
    """The entries whose field is `wanted`, else those without a value; all entries without `wanted`."""
    if not wanted:
        return entries
    exact = tuple(each for each in entries if getattr(each, field).lower() == wanted.lower())
    return exact or tuple(each for each in entries if not getattr(each, field))


def _split(place: str, port: int) -> tuple[str, int]:
    host, colon, own = place.rpartition(":")
    if not colon or place.endswith("]"):
        return place.strip("[]"), port
    return host.strip("[]"), int(own)


def _secret_in(path: Path, whose: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SECRET + 1)
    except OSError as error:
        raise CredentialsError(f"{whose}: {quote(str(path))} cannot be read: {error.strerror}") from None
    try:
        text = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        text = ""
    if not text or len(data) > MAX_SECRET or "\0" in text:
        raise CredentialsError(f"{whose}: {quote(str(path))} does not contain a single secret in UTF-8")
    return text

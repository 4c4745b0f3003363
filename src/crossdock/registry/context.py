"""State that all clients of a session share, whichever registry they talk to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct, field

from crossdock.oci.registryname import registry_key
from crossdock.options import NetworkOptions
from crossdock.protocol.acrtoken import is_azure_host
from crossdock.registry.auth.credentials import CredentialStore
from crossdock.registry.http.retry import Clock
from crossdock.registry.kinds import Kinds

if TYPE_CHECKING:
    from crossdock.errors import Side
    from crossdock.limits import Limits
    from crossdock.options import AddressGuard, RegistryOptions
    from crossdock.registry.auth.cloudlogin import CloudLogin
    from crossdock.registry.auth.clouds import Cloud
    from crossdock.transport.base import ServedAt

_IN_NAMES = ("ecr", "gcr.io", "pkg.dev")  # one of them is in the name of each host that `clouds` knows


class HostFacts(Protocol):
    """Keeps facts learned about registries; `crossdock.kept.hosts` keeps them on disk."""

    def read(self, host: str) -> Mapping[str, Any]:
        """Facts by name (`memory.Learned`). Never raises."""

    def learned(self, host: str, name: str, value: Any) -> None:
        """Keep a fact. Never raises, and does not block."""


class Context(Struct, kw_only=True, eq=False):
    """Shared by the clients of a session.

    `environ` stands for the process's environment. Connections go where `served_at` says, and `guard` is
    called before each. `on_retry` is called with side, operation and reason of retries that no request's own
    listener hears of, such as a token's; `on_warning` for places of logins that cannot be used.
    """

    network: NetworkOptions = field(default_factory=NetworkOptions)
    environ: Mapping[str, str]
    served_at: ServedAt | None = None
    guard: AddressGuard | None = None
    user_agent: str = "crossdock"
    on_retry: Callable[[Side, str, str], None] | None = None
    on_warning: Callable[[str], None] = lambda message: None
    clock: Clock = field(default_factory=Clock)
    limits: Limits | None = None
    kinds: Kinds = field(default_factory=Kinds)
    facts: HostFacts | None = None
    """Facts that earlier processes learned about registries."""
    unnamed: dict[Side, set[str]] = field(default_factory=lambda: {"source": set(), "target": set()})
    """Keys of the registries whose options name no login. The variables of a side can mean one registry."""

    clouds: dict[Cloud, CloudLogin] = field(default_factory=dict)
    """The logins of the clouds' identities: both sides and all registries of one share it."""

    def credentials_of(self, host: str, side: Side, options: RegistryOptions) -> CredentialStore:
        """The store of the logins for the registry at `host`."""
        unnamed = self.unnamed[side]
        if not options.knows_who:
            unnamed.add(registry_key(host))
        return CredentialStore(
            host,
            given=options.credentials,
            environ=self.environ,
            side=side,
            helper=options.helper,
            own_only=options.own_only,
            is_sole=lambda: len(unnamed) <= 1,
            az_login=options.az_login if is_azure_host(host.partition(":")[0]) else "",
            authfile=options.authfile,
            on_trouble=self.on_warning,
            cloud=None if options.own_only else self._cloud_login(host, options.kind),
        )

    def _cloud_login(self, host: str, kind: str) -> CloudLogin | None:
        if not kind and not any(part in host.lower() for part in _IN_NAMES):
            return None
        from crossdock.registry.auth.clouds import cloud_of  # of these registries alone

        cloud = cloud_of(host, kind, self.environ.get("AWS_REGION", ""))
        if cloud is not None and cloud not in self.clouds:
            from crossdock.registry.auth.cloudlogin import CloudLogin

            self.clouds[cloud] = CloudLogin(cloud, self.clock)
        return self.clouds[cloud] if cloud is not None else None

    def network_of(self, host: str) -> NetworkOptions:
        """`network`, with as many connections as there may be to the registry at `host`."""
        most = self.limits.connections(host) if self.limits is not None else None
        return self.network if most is None else replace(self.network, connections_per_host=most)

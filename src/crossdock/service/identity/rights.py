"""The rights of principals on registries of the inventory. Messages are Azure Resource Manager's."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from crossdock.acr.documents import TYPE
from crossdock.inventory.values import Entry
from crossdock.oci.registryname import registry_key
from crossdock.service.config import Action, PrincipalSettings
from crossdock.service.problems import Refused
from crossdock.service.values import ANYBODY, Principal, Problem

# Azure's names for them, below the registries' type.
_ACTIONS: dict[Action, str] = {"importImage": "importImage/action", "read": "read", "pull": "pull/read"}


class Rights:
    """The rights of all principals. `ANYBODY`, the caller of a service without identity settings, has all."""

    def __init__(self, principals: Iterable[PrincipalSettings]) -> None:
        self._principals = tuple(principals)

    def may(self, principal: Principal, action: Action, registry: Entry) -> bool:
        """Whether the principal has the right."""
        if principal is ANYBODY:
            return True
        return any(
            action in role.actions and any(_fits(pattern, registry) for pattern in role.registries)
            for each in self._principals
            if _is(each, principal)
            for role in each.roles
        )

    def check(self, principal: Principal, action: Action, registry: Entry) -> None:
        """Raise `Refused` (403 ``AuthorizationFailed``) unless the principal has the right."""
        if not self.may(principal, action, registry):
            message = (
                f"{_client(principal)} does not have authorization to perform action "
                f"'{TYPE}/{_ACTIONS[action]}' over scope '{_scope(registry)}' or the scope is invalid. "
                "If access was recently granted, please refresh your credentials."
            )
            raise _forbidden("AuthorizationFailed", message)

    def check_import(self, principal: Principal, target: Entry, source: Entry | None) -> None:
        """Raise `Refused` (403) unless the principal may import to `target`, and read and pull from `source`.

        `source` is a registry of the inventory that is read with the service's own credentials; None for
        other registries, or if the caller supplies credentials. Its refusal is a
        ``LinkedAuthorizationFailed``.
        """
        self.check(principal, "importImage", target)
        if source is None:
            return
        missing = self._missing(principal, source)
        if missing:
            message = (
                f"{_client(principal)} has permission to perform action "
                f"'{TYPE}/{_ACTIONS['importImage']}' on scope '{_scope(target)}'; however, it does not have "
                f"permission to perform action '{_ACTIONS[missing[0]]}' on the linked scope(s) "
                f"'{_scope(source)}'."
            )
            raise _forbidden("LinkedAuthorizationFailed", message)

    def may_read(self, principal: Principal, source: Entry) -> bool:
        """Whether the principal may import from `source` with the service's credentials."""
        return not self._missing(principal, source)

    def _missing(self, principal: Principal, source: Entry) -> tuple[Action, ...]:
        needed: tuple[Action, ...] = ("read", "pull")
        return tuple(action for action in needed if not self.may(principal, action, source))


def _is(settings: PrincipalSettings, principal: Principal) -> bool:
    """Whether the settings apply to this principal.

    Without an issuer they also apply to the only issuer's principal of this id. With several issuers they
    must name one (`crossdock.service.config`), and a static token's name is reserved (`Identity`).
    """
    if settings.issuer and settings.issuer != principal.issuer:
        return False
    return settings.id == principal.id or settings.id in principal.others


def _fits(pattern: str, registry: Entry) -> bool:
    """Whether name or login server match the pattern, where only ``*`` is special."""
    if registry.is_at(registry_key(pattern)):
        return True
    plain = pattern.lower().replace("[", "[[]")  # an IPv6 address, not a set of characters
    return any(fnmatchcase(name.lower(), plain) for name in (registry.name, registry.login_server))


def _client(principal: Principal) -> str:
    return f"The client '{principal.name or principal.id}' with object id '{principal.id}'"


def _scope(registry: Entry) -> str:
    return registry.resource_id or registry.login_server


def _forbidden(code: str, message: str) -> Refused:
    return Refused(Problem(status=403, code=code, message=message))

"""Subscriptions, registries and their provider, as Azure Resource Manager lists them."""

from __future__ import annotations

from collections.abc import Mapping

from crossdock.acr.documents import LOCATION, TYPE, registry_document
from crossdock.inventory.values import Entry, ResourceId
from crossdock.service.problems import refuse
from crossdock.service.web.arm import PROVIDER, VERSIONS
from crossdock.service.web.paging import next_link, page_of, read_filter
from crossdock.service.web.service import Call, Document, Service

TENANT = "00000000-0000-0000-0000-000000000000"  # of callers whose token names none


async def subscriptions(service: Service, call: Call) -> Document:
    """Every subscription of the inventory."""
    return {"value": [_subscription_document(each, call) for each in _subscriptions(service)]}


async def subscription(service: Service, call: Call) -> Document:
    """One subscription."""
    return _subscription_document(_subscription(service, call), call)


async def resources(service: Service, call: Call) -> Document:
    """The registries as resources, by ``$filter`` and ``$top``."""
    wanted = read_filter(call.query.get("$filter", ""))
    found = [
        {key: document[key] for key in ("id", "name", "type", "location", "sku", "tags")}
        for document in map(registry_document, _readable(service, call))
        if _fits(document, wanted)
    ]
    page, following = page_of(found, call.query)
    return {"value": page, **next_link(call.url(), following)}


async def registries(service: Service, call: Call) -> Document:
    """The registries of a subscription or group."""
    found = _readable(service, call, call.values.get("resourceGroupName", ""))
    page, following = page_of(found, call.query)
    return {"value": [registry_document(each) for each in page], **next_link(call.url(), following)}


async def registry(service: Service, call: Call) -> Document:
    """One registry."""
    entry = find_entry(service, call)
    service.rights.check(call.principal, "read", entry)
    return registry_document(entry)


async def provider(service: Service, call: Call) -> Document:
    """The provider of registries, which is always registered."""
    known = _subscription(service, call)
    locations = dict.fromkeys(each.location or LOCATION for each in service.inventory.registries)
    return {
        "id": f"/subscriptions/{known}/providers/{PROVIDER}",
        "namespace": PROVIDER,
        "registrationState": "Registered",
        "registrationPolicy": "RegistrationRequired",
        "resourceTypes": [
            {
                "resourceType": "registries",
                "locations": list(locations),
                "apiVersions": VERSIONS.split(", "),
                "capabilities": "None",
            },
        ],
    }


def find_entry(service: Service, call: Call) -> Entry:
    """The registry that the path names. Raises `Refused` (404)."""
    group, name = call.values["resourceGroupName"], call.values["registryName"]
    for each in _entries(service, _subscription(service, call), group):
        if each.name.lower() == name.lower():
            return each
    refuse(
        404,
        "ResourceNotFound",
        f"The Resource '{TYPE}/{name}' under resource group '{group}' was not found. "
        "For more details please go to https://aka.ms/ARMResourceNotFoundFix",
    )


def _subscriptions(service: Service) -> list[str]:
    return list(
        {each.subscription.lower(): each.subscription for each in service.inventory.registries}.values()
    )


def _subscription(service: Service, call: Call) -> str:
    """The subscription that the path names, as the inventory spells it. Raises `Refused` (404)."""
    wanted = call.values["subscriptionId"]
    for each in _subscriptions(service):
        if each.lower() == wanted.lower():
            return each
    refuse(404, "SubscriptionNotFound", f"The subscription '{wanted}' could not be found.")


def _subscription_document(subscription: str, call: Call) -> Document:
    """A subscription in the caller's tenant (az-contract 3.1)."""
    return {
        "id": f"/subscriptions/{subscription}",
        "subscriptionId": subscription,
        "tenantId": call.principal.tenant or TENANT,
        "displayName": subscription,
        "state": "Enabled",
    }


def _entries(service: Service, subscription: str, group: str = "") -> list[Entry]:
    """The entries of a subscription, or of one of its resource groups."""
    return [
        each
        for each in service.inventory.registries
        if each.subscription.lower() == subscription.lower()
        and group.lower() in ("", each.resource_group.lower())
    ]


def _readable(service: Service, call: Call, group: str = "") -> list[Entry]:
    """The registries of the path's subscription, or of a group, that the caller may read."""
    found = _entries(service, _subscription(service, call), group)
    return [each for each in found if service.rights.may(call.principal, "read", each)]


def _fits(document: Document, wanted: Mapping[str, str]) -> bool:
    """Whether a registry's document passes what `paging.read_filter` read."""
    parsed = ResourceId.parse(document["id"])
    values = {
        "resourceType": document["type"],
        "name": document["name"],
        "location": document["location"],
        "resourceGroup": parsed.resource_group if parsed else "",
    }
    return all(values[field].lower() == value for field, value in wanted.items())

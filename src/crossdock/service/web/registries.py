"""Subscriptions, registries and their provider, as Azure Resource Manager lists them."""

from __future__ import annotations

from aiohttp import web

from crossdock.acr.documents import LOCATION, registry_document
from crossdock.inventory.values import Entry, ResourceId
from crossdock.service.identity.tokens import Refused
from crossdock.service.values import Principal
from crossdock.service.web import arm
from crossdock.service.web.answers import json_answer
from crossdock.service.web.paging import next_link, page_of, read_filter
from crossdock.service.web.refusal import refuse
from crossdock.service.web.service import Call, Document, Service


async def subscriptions(service: Service, call: Call) -> web.Response:
    """Every subscription of the inventory."""
    tenant = call.principal.tenant
    known = [arm.subscription_document(each, tenant) for each in _subscriptions(service)]
    return json_answer({"value": known})


async def subscription(service: Service, call: Call) -> web.Response:
    """One subscription."""
    return json_answer(arm.subscription_document(_subscription(service, call), call.principal.tenant))


async def resources(service: Service, call: Call) -> web.Response:
    """The registries as resources, by ``$filter`` and ``$top``."""
    wanted = read_filter(call.query.get("$filter", ""))
    found = _registries(service, call.principal, _subscription(service, call))
    short = [
        {key: document[key] for key in ("id", "name", "type", "location", "sku", "tags")}
        for document in map(registry_document, found)
        if arm.fits(document, wanted)
    ]
    page, following = page_of(short, call.query)
    return json_answer({"value": page, **next_link(call.url(), following)})


async def registries(service: Service, call: Call) -> web.Response:
    """The registries of a subscription or group."""
    group = call.values.get("resourceGroupName", "")
    found = _registries(service, call.principal, _subscription(service, call), group)
    page, following = page_of(found, call.query)
    documents = [registry_document(each) for each in page]
    return json_answer({"value": documents, **next_link(call.url(), following)})


async def registry(service: Service, call: Call) -> web.Response:
    """One registry."""
    entry = find_entry(service, call)
    service.rights.check(call.principal, "read", entry)
    return json_answer(registry_document(entry))


async def provider(service: Service, call: Call) -> web.Response:
    """The provider of registries: it is registered with every subscription."""
    return json_answer(_provider(service, call))


async def register(service: Service, call: Call) -> web.Response:
    """Register the provider, which it is."""
    return json_answer(_provider(service, call))


def find_entry(service: Service, call: Call) -> Entry:
    """The registry that the path names. Raises `Refused` (404)."""
    known = _subscription(service, call)
    wanted = ResourceId(known, call.values["resourceGroupName"], call.values["registryName"])
    entry = arm.find_registry(service.inventory, wanted)
    if entry is None:
        raise Refused(arm.not_found(wanted), {})
    return entry


def _provider(service: Service, call: Call) -> Document:
    known = _subscription(service, call)
    locations = dict.fromkeys(each.location or LOCATION for each in service.inventory.registries)
    return arm.provider_document(known, list(locations))


def _subscriptions(service: Service) -> list[str]:
    return list(
        {each.subscription.lower(): each.subscription for each in service.inventory.registries}.values()
    )


def _subscription(service: Service, call: Call) -> str:
    wanted = call.values["subscriptionId"]
    for each in _subscriptions(service):
        if each.lower() == wanted.lower():
            return each
    refuse(404, "SubscriptionNotFound", f"The subscription '{wanted}' could not be found.")


def _registries(service: Service, principal: Principal, subscription: str, group: str = "") -> list[Entry]:
    found = arm.registries_of(service.inventory, subscription, group)
    return [each for each in found if service.rights.may(principal, "read", each)]

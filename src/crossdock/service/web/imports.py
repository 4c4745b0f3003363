"""``importImage`` and its results, and crossdock's own list of imports."""

from __future__ import annotations

import asyncio
from typing import get_args

from aiohttp import web

from crossdock.acr.plan import find_source, make_plan
from crossdock.acr.request import ImportRequest
from crossdock.errors import InvalidInput
from crossdock.inventory.values import Entry, ResourceId
from crossdock.service.problems import refuse
from crossdock.service.values import Operation, Order, Principal, State
from crossdock.service.web import arm
from crossdock.service.web.importdocument import import_document
from crossdock.service.web.paging import next_link, page_of
from crossdock.service.web.registries import find_entry
from crossdock.service.web.service import Call, Document, Reply, Service, client_request_id

MAX_BODY = 256 * 1024  # bytes of an import's JSON; passwords may be JSON keys of some 4,000
BODY_TIMEOUT = 30.0  # seconds for the whole body
SHOWN_IN_LISTS = 10  # targets, and manifests, per import in a list
RETRY_AFTER = "1"  # seconds, a whole number (az-contract 2.4)


async def import_image(service: Service, call: Call) -> Reply:
    """Accept an import: 202, with the URL of its result. Everything that can be rejected up front is rejected
    here.

    The caller's rights are checked first, so that errors do not reveal registries.
    """
    target = find_entry(service, call)
    service.rights.check(call.principal, "importImage", target)
    if service.is_stopping:
        refuse(503, "ServiceStopping", "The service is stopping and accepts no new imports; retry soon.")
    body = await read_body(call.request)
    try:
        wanted = ImportRequest.from_json(body)
    except InvalidInput as error:
        refuse(400, "InvalidRequestContent", f"The request content was invalid: {error}.", target="request")
    call.wanted = wanted
    wanted.check_targets()
    if wanted.source.registry_uri is not None:
        service.guard.check_source(wanted.source.registry_uri)
    source = find_source(wanted, target, service.inventory)
    # A registry of the inventory is read with the service's own credentials, unless the caller supplies some.
    # These
    # replace rights only if the registry demands them, which its first response shows.
    linked = source if wanted.source.credentials is None else None
    service.rights.check_import(call.principal, target, linked)
    plan = make_plan(wanted, target, source)
    order = Order(
        registry=ResourceId(target.subscription, target.resource_group, target.name),
        request=wanted,
        principal=call.principal,
        request_id=client_request_id(call.request.headers),
        client=call.request.remote or "",
        by_login=source is not None and not service.rights.may_read(call.principal, source),
    )
    operation = await service.imports.submit(order, plan)
    return _accepted(call, operation, target)


async def operation_results(service: Service, call: Call) -> Reply | Document:
    """The progress of an import, or its end: 202, 200, or its error (az-contract 2.4)."""
    operation = service.imports.find(arm.result_id(call.values["operationId"]))
    subscription = call.values["subscriptionId"].lower()
    if operation is None or operation.order.registry.subscription.lower() != subscription:
        refuse(404, "OperationNotFound", "There is no such operation, or its result is no longer kept.")
    target = _target(service, call.principal, operation)
    if operation.problem is not None:
        return Reply(operation.problem.as_dict(), operation.problem.status)
    document = arm.result_document(operation)
    if operation.state == "Succeeded":
        return document
    return _accepted(call, operation, target, document)


async def list_imports(service: Service, call: Call) -> Document:
    """The imports that the caller may see, the newest first."""
    state = call.query.get("state")
    if state is not None and state not in get_args(State):
        refuse(
            400,
            "InvalidQueryParameter",
            f"The query parameter state is not one of {', '.join(get_args(State))}.",
            target="state",
        )
    found = [each for each in service.seen_by(call.principal) if state in (None, each.state)]
    page, following = page_of(found, call.query, top="top", skip="skip")
    documents = [import_document(each, call.base, shown=SHOWN_IN_LISTS) for each in page]
    return {"value": documents, **next_link(call.url(), following)}


async def one_import(service: Service, call: Call) -> Document:
    """One import."""
    operation, _ = find_import(service, call)
    return import_document(operation, call.base)


async def cancel_import(service: Service, call: Call) -> Document:
    """Cancel an import. One that has ended is not changed."""
    operation, target = find_import(service, call)
    return import_document(await cancel(service, call, operation, target), call.base)


async def cancel(service: Service, call: Call, operation: Operation, target: Entry | None) -> Operation:
    """Cancel what `find_import` found. Raises `Refused` if the caller may not."""
    if target is not None and not service.may_cancel(call.principal, operation):
        service.rights.check(call.principal, "importImage", target)
    return await service.imports.cancel(operation.id) or operation


def find_import(service: Service, call: Call) -> tuple[Operation, Entry | None]:
    """The import that the path names, and its target. Raises `Refused`."""
    operation = service.imports.find(arm.import_id(call.values["importId"]))
    if operation is None:
        refuse(404, "ImportNotFound", "There is no such import, or it is no longer kept.")
    return operation, _target(service, call.principal, operation)


def _target(service: Service, principal: Principal, operation: Operation) -> Entry | None:
    """The target of an import; None if it is no longer in the inventory.

    Raises `Refused` when the caller may not see the import.
    """
    target = service.inventory.find(str(operation.order.registry))
    if not service.may_see(principal, operation):
        if target is None:
            refuse(
                403, "AuthorizationFailed", "The import belongs to another caller, and its registry is gone."
            )
        service.rights.check(principal, "read", target)
    return target


def _accepted(call: Call, operation: Operation, target: Entry | None, body: Document | bytes = b"") -> Reply:
    version = call.query.get("api-version", "")
    where = call.base + arm.result_path(operation, target.location if target else "", version)
    return Reply(
        body,
        202,
        {
            "Location": where,
            "Retry-After": RETRY_AFTER,
            "x-ms-operation-identifier": arm.operation_identifier(operation, target),
        },
    )


async def read_body(request: web.Request) -> bytes:
    """The body of a request. Raises `Refused` for one that is too large or too slow."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        refuse(413, "RequestEntityTooLarge", f"The body is over {MAX_BODY} bytes.")
    except TimeoutError:
        # Not 408, which makes clients repeat the POST.
        refuse(400, "RequestBodyTimeout", f"The body did not arrive within {BODY_TIMEOUT:g} seconds.")

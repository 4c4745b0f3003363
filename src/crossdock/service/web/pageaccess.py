"""Access to the status page and its buttons: by a token, or by the link of the development cloud."""

from __future__ import annotations

import base64
import hashlib
import hmac
from html import escape

from aiohttp import web

from crossdock.protocol.redirect import is_loopback
from crossdock.service.problems import Refused
from crossdock.service.values import Operation, Principal, Problem
from crossdock.service.web.service import Service
from crossdock.webpage import document

CHALLENGE = 'Basic realm="crossdock: any user, a token as password", charset="UTF-8"'
LINK_KEY = "key"  # of the query


async def authenticate(service: Service, request: web.Request) -> Principal:
    """The caller of the page. A browser can only send a token as the password of ``Basic``.

    The user name is ignored. Browsers send `Basic` and cookies automatically, so they are accepted only here,
    and the request of a button needs its `button_token` as well. Raises `Refused`.
    """
    if opens_link(service, request) or _has_cookie(service, request):
        assert service.link is not None
        return service.link.principal
    authorization = request.headers.get("Authorization", "")
    kind, _, rest = authorization.strip().partition(" ")
    if kind.lower() == "basic":
        authorization = f"Bearer {_password(rest)}"
    try:
        return await service.identity.authenticate(authorization)
    except Refused as refused:
        if refused.problem.status != 401:
            raise
        raise Refused(refused.problem, {"WWW-Authenticate": CHALLENGE}) from None


def _password(encoded: str) -> str:
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def opens_link(service: Service, request: web.Request) -> bool:
    """Whether the request has the key of the development cloud's link. That works only on loopback."""
    return _is_key(service, request, request.query.get(LINK_KEY, ""))


def _has_cookie(service: Service, request: web.Request) -> bool:
    return service.link is not None and _is_key(
        service, request, request.cookies.get(_cookie_name(service), "")
    )


def _is_key(service: Service, request: web.Request, given: str) -> bool:
    link = service.link
    if link is None or not is_loopback(request.remote or ""):
        return False
    return hmac.compare_digest(link.key.encode(), given.encode("utf-8", "surrogatepass"))


def set_cookie(service: Service) -> str:
    """The ``Set-Cookie`` of the response to the link: the key then does not stay in the address bar."""
    assert service.link is not None
    return f"{_cookie_name(service)}={service.link.key}; Path=/; Secure; HttpOnly; SameSite=Strict"


def _cookie_name(service: Service) -> str:
    """The name of its cookie. Cookies are shared by all ports of a host: each service has its own."""
    assert service.link is not None
    return "__Host-crossdock-" + hashlib.sha256(service.link.key.encode()).hexdigest()[:8]


def button_token(service: Service, principal: Principal, operation: Operation) -> str:
    """Proves that a request to cancel the import comes from the page that the principal was shown."""
    said = "\0".join((principal.issuer, principal.id, operation.id))
    return hmac.new(service.page_key, said.encode(), hashlib.sha256).hexdigest()


def refusal(problem: Problem) -> bytes:
    """The page that a caller without a valid token gets."""
    return document(
        "crossdock imports",
        f"<main><p>{escape(problem.message)}</p><p>Reload this page, and give a token as the password; the "
        "user name does not matter. A development service prints a link that needs none.</p></main>",
    ).encode()

"""From a response that refuses to its error, in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import quote, quote_plus

from crossdock.errors import (
    Advice,
    Denied,
    NotFound,
    RateLimited,
    RegistryError,
    ServerBusy,
    TokenExpired,
    Unauthorized,
    Unsupported,
    UploadRejected,
)
from crossdock.protocol.errorcode import ErrorBody, one_line, parse_error
from crossdock.protocol.redirect import REDIRECTS, RESENT
from crossdock.redact import redact_text, redact_url
from crossdock.registry.http.retry import MAX_RETRY_AFTER_S
from crossdock.url import Url

EXPIRED = frozenset({400, 403})
"""The statuses besides 401 of a login or token that has run out; the body says that it is this."""
BUSY = frozenset({408, 500, 502, 503, 504})
# Distribution answers 500 to manifests it will never take, with these codes beside UNKNOWN.
_FINAL = frozenset({"MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID"})
_INCOMPLETE = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"})
_UNSUPPORTED = frozenset({405, 415, 501})
_SENDING = frozenset({"POST", "PATCH", "PUT"})
_MIN_SECRET = 4  # characters; hiding shorter ones would only garble messages

LOCKED = "REGISTRY_DISALLOWED_OPERATION"
"""The code of Azure's registries for something that a lock forbids, or when they are full."""

_REASONS = {
    400: "bad request",
    401: "not authorized",
    403: "forbidden",
    404: "not found",
    405: "method not allowed",
    407: "the proxy demands a login",
    408: "request timed out",
    413: "body too large for this server or a proxy before it",
    415: "media type not supported",
    416: "range not satisfiable",
    429: "too many requests",
    500: "internal error",
    502: "bad gateway",
    503: "service unavailable",
    504: "gateway timed out",
}


def hide_secrets(text: str, secrets: Iterable[str]) -> str:
    """`text` without the secrets, in case a server echoes a request; URLs in it are redacted."""
    forms = {form for secret in secrets for form in (secret, quote(secret, safe=""), quote_plus(secret))}
    for secret in sorted(forms, key=len, reverse=True):
        if len(secret) >= _MIN_SECRET:
            text = text.replace(secret, "***")
    return redact_text(text)


def refusal(
    method: str,
    url: Url,
    status: int,
    body: bytes,
    *,
    retry_after: float | None = None,
    secrets: Iterable[str] = (),
    advice: Advice | None = None,
    kind: type[RegistryError] | None = None,
    location: str = "",
    may_pass: bool = False,
) -> RegistryError:
    """The error for a response: ``GET https://host/v2/…: 404 MANIFEST_UNKNOWN: manifest unknown``.

    `kind` is its class where more is known than status and codes tell; `may_pass`: the same request may fare
    better in a moment. `location` is where a redirect led.
    """
    known = tuple(secrets)
    said = parse_error(body, lambda text: hide_secrets(text, known))
    shown_url = str(url)
    words = said.message or _REASONS.get(status, "unexpected response")
    if status in REDIRECTS:  # its body is a page about the Location
        words = f"redirected to {one_line(redact_url(location))}" if location else "redirected to nowhere"
        if status not in RESENT:
            words += f", which is not followed for a {method}"
            advice = advice or Advice("redirect-by-307")
    if LOCKED in said.codes:
        advice = advice or Advice("unlock")
    if method in ("PUT", "DELETE") and "/manifests/" in url.path and _is_immutable(said):
        advice = advice or Advice("immutable-tag")
    codes = f" {', '.join(said.codes)}" if said.codes else ""
    retryable: bool | None = may_pass or None
    if retry_after is not None and retry_after > MAX_RETRY_AFTER_S:
        retryable = False
        words += f" (the server asks to wait {retry_after:.0f} s)"
    return (kind or _kind(method, url.path, status, said))(
        f"{method} {shown_url}: {status}{codes}: {words}",
        advice=Advice("proxy-login") if status == 407 else advice,
        retryable=retryable,
        status=status,
        codes=said.codes,
        digests=said.digests,
        retry_after=retry_after,
        method=method,
        url=shown_url,
    )


def _is_immutable(said: ErrorBody) -> bool:
    """Whether a rule of the registry keeps the tag as it is.

    There is no code for it: ECR answers TAG_INVALID, Harbor 412 PRECONDITION, others TAG_IMMUTABLE. All say
    "immutable" or "immutability".
    """
    return any("IMMUTAB" in text.upper() for text in (*said.codes, said.message))


def _kind(method: str, path: str, status: int, said: ErrorBody) -> Callable[..., RegistryError]:
    if said.is_rate_limit(status):
        return RateLimited
    if status in EXPIRED and said.is_expired:
        return TokenExpired
    if status == 401:
        return Unauthorized
    if status == 403:
        return Denied
    if method == "PUT" and status in (400, 404) and not _INCOMPLETE.isdisjoint(said.codes):
        return RegistryError  # what the manifest lists is missing, not what the URL names
    if status == 404 or (status == 400 and said.is_not_found):
        return NotFound
    if status in BUSY and _FINAL.isdisjoint(said.codes):
        return ServerBusy
    if status in _UNSUPPORTED or "UNSUPPORTED" in said.codes:
        return Unsupported
    if method in _SENDING and "/blobs/uploads" in path:
        return UploadRejected
    return RegistryError

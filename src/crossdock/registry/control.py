"""Small requests, answered whole: one try over aiohttp, its failures turned into crossdock's errors.

No redirects, cookies, decompression or retries happen here, and nothing is read from the process's
environment. Blob bodies do not come this way (`transport`).
"""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp
from yarl import URL

from crossdock.errors import (
    ConnectFailed,
    CrossdockError,
    LimitExceeded,
    ProtocolError,
    ReadFailed,
    Side,
    TimedOut,
    TlsFailed,
)
from crossdock.options import NetworkOptions
from crossdock.protocol.errorcode import MAX_BODY, one_line
from crossdock.protocol.redirect import origin
from crossdock.registry.gate import CONTROL_CONCURRENCY, Gates
from crossdock.registry.proxies import ProxySettings
from crossdock.registry.refusal import PROXY_HINT
from crossdock.registry.scheme import os_reason
from crossdock.registry.tls import FLAG_PREFIX, TlsContexts
from crossdock.transport.redact import redact_text, redact_url

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

MAX_HEADER = 64 * 1024  # bytes of one header line; aiohttp's 8 KiB is too short for some signed Locations
PATIENCE = 10  # `timeout`s; a small answer that has not arrived whole after so many is being dripped


@dataclass(frozen=True, slots=True)
class Reply:
    """A small answer, whole in memory. ``url`` is where it finally came from, not redacted."""

    status: int
    headers: CIMultiDictProxy[str] = field(repr=False)  # a Location or a cookie may be a secret
    body: bytes = field(repr=False)
    url: str = field(repr=False)


class ControlHttp:
    """One aiohttp session with one client's TLS settings, proxies and gates."""

    def __init__(
        self,
        *,
        network: NetworkOptions,
        tls: TlsContexts,
        proxies: ProxySettings,
        gates: Gates,
        side: Side,
        user_agent: str,
    ) -> None:
        """No I/O, and no event loop needed yet."""
        self._network = network
        self._tls = tls
        self._proxies = proxies
        self._gates = gates
        self._flag = FLAG_PREFIX[side]
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        limit: int,
        body: bytes | None = None,
        timeout: float | None = None,
    ) -> Reply:
        """One request, one answer of any status. `timeout`: seconds until the answer begins. # network

        Waits for the host's gate first and tells it what came. Raises `ConnectFailed`, `TlsFailed`,
        `TimedOut`, `ReadFailed`, `ProtocolError`, `LimitExceeded` (a body over `limit` bytes),
        `RateLimited` (the gate).
        """
        gate = self._gates.of(url)
        async with gate.slot():
            try:
                reply = await self._exchange(method, url, headers, body, limit, timeout)
            except CrossdockError:
                raise
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self._raise_converted(error, method, url)
            except ValueError:  # an address or header value made from the server's words
                raise ProtocolError(
                    f"{method} {redact_url(url)}: the server's words make no valid request", retryable=False
                ) from None
        gate.saw(reply.status, reply.headers)
        return reply

    async def close(self) -> None:
        """Close the session and its connections."""
        if self._session is not None:
            await self._session.close()

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        limit: int,
        wait: float | None,
    ) -> Reply:
        scheme, host, port = origin(url)
        first_byte = self._network.timeout if wait is None else wait
        sent = {"Accept-Encoding": "identity", "User-Agent": self._user_agent, **headers}
        proxy, proxy_headers = _proxy_arguments(self._proxies.proxy_for(scheme, host, port))
        if proxy is not None and scheme == "http":
            sent |= proxy_headers  # no tunnel: the request itself is the proxy's
        async with self._opened().request(
            method,
            URL(url, encoded=True),
            headers=sent,
            data=body,
            allow_redirects=False,
            ssl=self._tls.context_for(host, port) if scheme == "https" else True,
            proxy=proxy,
            proxy_headers=proxy_headers or None,
            timeout=aiohttp.ClientTimeout(
                total=self._network.connect_timeout + first_byte + PATIENCE * self._network.timeout,
                connect=self._network.connect_timeout,
                sock_read=first_byte,
            ),
        ) as response:
            data = await _read(response, method, url, limit)
            return Reply(response.status, response.headers, data, url)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # The gates bound what runs at once below the connector's bound, so nobody waits in its queue.
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=CONTROL_CONCURRENCY),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                max_line_size=MAX_HEADER,
                max_field_size=MAX_HEADER,
            )
        return self._session

    def _raise_converted(self, error: Exception, method: str, url: str) -> NoReturn:
        shown = redact_url(url)
        place: dict[str, Any] = {"method": method, "url": shown}
        reason = one_line(redact_text(str(error))) or type(error).__name__
        match error:
            case aiohttp.ClientConnectorCertificateError():
                raise TlsFailed(
                    f"{method} {shown}: certificate not trusted: {_tls_reason(error.certificate_error)}",
                    hint=f"give the CA that signed it with {self._flag}-ca",
                    **place,
                ) from error
            case aiohttp.ClientSSLError():
                hint = ""
                if _is_plain_server(error):
                    hint = f"the server does not speak TLS here; if that is meant, {self._flag}-plain-http"
                raise TlsFailed(
                    f"{method} {shown}: TLS failed: {_tls_reason(error)}", hint=hint, **place
                ) from error
            case aiohttp.ClientHttpProxyError():
                raise ConnectFailed(
                    f"{method} {shown}: the proxy answered {error.status}",
                    hint=PROXY_HINT if error.status == 407 else "",
                    retryable=error.status >= 500,
                    **place,
                ) from error
            case aiohttp.ClientConnectorError():
                what = (
                    "the proxy" if isinstance(error, aiohttp.ClientProxyConnectionError) else "no connection"
                )
                raise ConnectFailed(
                    f"{method} {shown}: {what}: {os_reason(error.os_error)}", **place
                ) from error
            case aiohttp.ConnectionTimeoutError():
                raise TimedOut(
                    f"{method} {shown}: no connection within {self._network.connect_timeout:g} s",
                    phase="connect",
                    **place,
                ) from error
            case TimeoutError():
                raise TimedOut(f"{method} {shown}: no answer in time", phase="first byte", **place) from error
            case aiohttp.ClientResponseError() | aiohttp.InvalidURL():
                # Not chained, and cut before what it quotes: the whole URL, and what the server sent, which
                # may be what it was sent.
                what = (getattr(error, "message", "") or "an address that is none").strip().splitlines()[0]
                what = what.partition(" b'")[0].partition(' b"')[0]
                raise ProtocolError(
                    f"{method} {shown}: no valid HTTP: {one_line(what).rstrip(':')}", **place
                ) from None
            case aiohttp.ClientPayloadError():
                raise ReadFailed(f"{method} {shown}: the answer is not whole", **place) from None
            case _:
                raise ReadFailed(f"{method} {shown}: the connection broke: {reason}", **place) from error


async def _read(response: aiohttp.ClientResponse, method: str, url: str, limit: int) -> bytes:
    if response.status >= 400:
        return await _read_refusal(response)
    shown = redact_url(url)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity") and method != "HEAD":
        raise ProtocolError(
            f"{method} {shown}: answered in {one_line(encoding)} though identity was asked for"
        )
    if method != "HEAD" and (response.content_length or 0) > limit:
        raise LimitExceeded(
            f"{method} {shown}: {response.content_length} bytes are over the limit of {limit}"
        )
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > limit:
            raise LimitExceeded(f"{method} {shown}: the answer is over the limit of {limit} bytes")
    return bytes(body)


async def _read_refusal(response: aiohttp.ClientResponse) -> bytes:
    """The beginning of an error's body: its status counts, whatever the rest is."""
    body = bytearray()
    if response.headers.get("Content-Encoding", "identity").strip().lower() in ("", "identity"):
        async for piece in response.content.iter_any():
            body += piece
            if len(body) >= MAX_BODY:
                break
    return bytes(body[:MAX_BODY])


def _proxy_arguments(proxy: str | None) -> tuple[URL | None, dict[str, str]]:
    if proxy is None:
        return None, {}
    parts = urlsplit(proxy)
    user, at, place = parts.netloc.rpartition("@")
    headers = {}
    if at:
        name, _, password = user.partition(":")
        pair = f"{unquote(name)}:{unquote(password)}".encode()
        headers["Proxy-Authorization"] = f"Basic {b64encode(pair).decode()}"
    return URL(urlunsplit(parts._replace(netloc=place)), encoded=True), headers


def _is_plain_server(error: aiohttp.ClientSSLError) -> bool:
    cause = error.os_error
    reason = (getattr(cause, "reason", None) or "") if isinstance(cause, ssl.SSLError) else ""
    return reason in (
        "WRONG_VERSION_NUMBER",
        "RECORD_LAYER_FAILURE",
        "HTTP_REQUEST",
        "PACKET_LENGTH_TOO_LONG",
    )


def _tls_reason(error: object) -> str:
    cause = error.os_error if isinstance(error, aiohttp.ClientSSLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return one_line(cause.verify_message)
    if isinstance(cause, ssl.SSLError) and cause.reason:
        return cause.reason.lower().replace("_", " ")
    return one_line(str(cause))

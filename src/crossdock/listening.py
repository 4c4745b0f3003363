"""Code that all servers share: address, connections, TLS, signals, and running an application until it stops.

A peer that neither sends nor reads holds a connection at no cost to itself, so it is dropped after
`GIVEN_UP_AFTER` seconds. A request's head must arrive within that time, and sent bytes must be acknowledged
(TCP_USER_TIMEOUT of tcp(7), which counts a closed window, too). Handlers that read a body set its limits.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import resource
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from crossdock.errors import (
    Advice,
    CrossdockError,
    InvalidOption,
    StoreError,
)
from crossdock.stopping import catch_stop_signals

if TYPE_CHECKING:
    import ssl

    from aiohttp import web

log = logging.getLogger(__name__)

BACKLOG = 1024
OPEN_FILES = 65_536
GIVEN_UP_AFTER = 60.0  # seconds without a byte sent or read by the peer
CONNECTIONS = 16_384  # each may take three of OPEN_FILES
FIELD_SIZE = 8190  # bytes, aiohttp's own
HANDSHAKE = 10.0  # seconds for TLS
LINGERING = 10.0  # seconds for reading the rest of a refused body, so that its sender sees the response


def parse_listen(listen: str) -> tuple[str, int]:
    """``HOST:PORT`` as host and port; ``[::1]:5000`` for IPv6. Raises `InvalidOption`."""
    host, colon, port = listen.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare and bare == host) or not (port.isascii() and port.isdigit()):
        raise InvalidOption(
            f"{listen!r} is not an address to listen on",
            advice=Advice("correct-address", "give HOST:PORT, for example 127.0.0.1:5000"),
        )
    if int(port) > 65_535:
        raise InvalidOption(
            f"{port} is not a port",
            advice=Advice("correct-address", "ports go from 0 (any free one) to 65535"),
        )
    return bare, int(port)


async def serve_app(
    app: web.Application,
    host: str,
    port: int,
    *,
    on_ready: Callable[[int], None],
    stopping: asyncio.Event,
    ssl_context: ssl.SSLContext | None = None,
    grace: float,
    idle: float = GIVEN_UP_AFTER,
    connections: int = CONNECTIONS,
    field_size: int = FIELD_SIZE,
) -> None:
    """Serve `app` until `stopping` is set; requests under way then have `grace` seconds to finish.

    `on_ready` is called with the port once connections are accepted; `port` 0 takes a free one. A connection
    without a complete request head for `idle` seconds is closed. Beyond `connections` in all, or the share of
    one address (`Peers`), new connections are closed at once. A header field may have `field_size` bytes.
    Raises `StoreError` when the address is taken.
    """
    from aiohttp import web

    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=grace,
        keepalive_timeout=idle,
        max_field_size=field_size,
        lingering_time=LINGERING,
    )
    await runner.setup()
    server = None
    try:
        door, peers = runner.server, Peers(connections)
        assert door is not None, "it is made by setup()"
        try:
            server = await asyncio.get_running_loop().create_server(
                lambda: _Connection(door, peers),
                host,
                port,
                ssl=ssl_context,
                ssl_handshake_timeout=HANDSHAKE if ssl_context else None,
                backlog=BACKLOG,
            )
            _drop_peers_that_do_not_read(server)
        except OSError as error:
            raise StoreError(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                advice=Advice("listen-elsewhere"),
            ) from error
        on_ready(server.sockets[0].getsockname()[1])
        await stopping.wait()
    finally:
        if server is not None:
            server.close()
        await runner.cleanup()


class Peers:
    """Counts connections by address; there may be `most` in all.

    One address may have a quarter of them, so that some are left for others; a loopback address may have
    three quarters, since a proxy there may stand for many clients. For IPv6 a /64 network counts as one
    address, because one host has that many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: Counter[str] = Counter()
        self._all = 0

    def enter(self, address: str) -> str | None:
        """Count a connection; returns the key for `leave`, or None when it is one too many."""
        key, share = _peer(address, self._most)
        if self._all >= self._most or self._held[key] >= share:
            return None
        self._held[key] += 1
        self._all += 1
        return key

    def leave(self, key: str) -> None:
        """The connection has ended."""
        self._all -= 1
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]


def _peer(address: str, most: int) -> tuple[str, int]:
    """The key of a peer, and how many connections of `most` it may have."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address, most  # not an IP address: a Unix socket
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found
    if found.is_loopback:
        return str(found), most - most // 4
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, 64), strict=False)), max(1, most // 4)
    return str(found), max(1, most // 4)


class _Connection(asyncio.Protocol):
    """One connection: aiohttp's, or closed at once when it is one too many."""

    def __init__(self, door: web.Server, peers: Peers) -> None:
        self._door = door
        self._peers = peers
        self._key: str | None = None
        self._handler: asyncio.Protocol | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self._key = self._peers.enter(peer[0] if isinstance(peer, tuple) else "")
        if self._key is None:
            transport.close()
            return
        self._handler = self._door()
        self._handler.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._key is not None and self._handler is not None:
            self._peers.leave(self._key)
            self._handler.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._handler is not None:
            self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        return self._handler.eof_received() if self._handler is not None else None

    def pause_writing(self) -> None:
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        if self._handler is not None:
            self._handler.resume_writing()


def _drop_peers_that_do_not_read(server: asyncio.Server) -> None:
    """Set TCP_USER_TIMEOUT, which connections inherit from the listening socket. Only Linux has it."""
    if sys.platform == "linux":
        for listener in server.sockets:
            milliseconds = round(GIVEN_UP_AFTER * 1000)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def shown_address(host: str, port: int) -> str:
    """``host:port`` as in URLs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def server_tls(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    """The context of a server with this certificate; None without one. Raises `InvalidOption`."""
    if cert is None:
        if key is not None:
            raise InvalidOption("a key was given without its certificate", advice=Advice("add-certificate"))
        return None
    import ssl

    def no_passphrase() -> str:  # without it OpenSSL prompts on the terminal, and the server waits
        raise InvalidOption(
            f"the key in {key or cert} is encrypted",
            advice=Advice("decrypt-key", "give a key without a passphrase"),
        )

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key, password=no_passphrase)
    except ssl.SSLError as error:
        raise InvalidOption(
            _why_unusable(error, cert, key or cert),
            advice=Advice("give-pem", "give PEM files: the certificate chain and its unencrypted key"),
        ) from error
    except OSError as error:
        files = [path for path in (cert, key) if path is not None]
        # OpenSSL does not say which file it was.
        path = next((path for path in files if not (os.path.isfile(path) and os.access(path, os.R_OK))), cert)
        raise InvalidOption(f"cannot read {path}: {error.strerror or error}") from error
    return context


def _why_unusable(error: ssl.SSLError, cert: str, key: str) -> str:
    """Why the files cannot be used; OpenSSL's own message often names neither file nor reason."""
    import ssl

    if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
        return f"the key in {key} does not fit the certificate in {cert}"
    if error.reason:
        return f"cannot use the certificate in {cert}: {error.reason.lower().replace('_', ' ')}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cert)
    except ssl.SSLError:
        return f"no certificate in PEM can be read from {cert}"
    return f"no key in PEM can be read from {key}"


class ServerTls:
    """`server_tls` of files that can be reloaded while the server runs; ``context`` is None without any."""

    def __init__(self, cert: str | None, key: str | None) -> None:
        """Reads the files. Raises `InvalidOption`."""
        self._cert, self._key = cert, key
        self.context = self._now = server_tls(cert, key)
        if self.context is not None:
            # Each handshake takes the current context, so certificate and key change together, and open
            # connections keep theirs. OpenSSL also calls this for clients that send no server name.
            self.context.sni_callback = self._choose

    @property
    def reloads(self) -> dict[str, Callable[[], None]]:
        """For `reload_on_hangup`; empty without a certificate."""
        return {} if self.context is None else {"certificate": self.reload}

    def reload(self) -> None:
        """Use the files as they are now for new connections. On `InvalidOption` the old context stays."""
        self._now = server_tls(self._cert, self._key)

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        assert self._now is not None, "there was a certificate at the start"
        connection.context = self._now


def reload_on_hangup(stopping: asyncio.Event, reloads: Mapping[str, Callable[[], None]]) -> None:
    """Call `reloads` at each SIGHUP; their keys name them in the log.

    One that fails leaves its old value in place, with an error in the log; the others are still reloaded.

    A hangup of the terminal that the server was started in stops it, as without this.
    """
    had_terminal = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN and os.isatty(0)

    def hangup() -> None:
        if had_terminal and not os.isatty(0):  # the descriptor is open, the terminal is gone
            stopping.set()
            return
        done = []
        for name, reload in reloads.items():
            try:
                reload()
            except (CrossdockError, OSError) as error:
                log.error("reload at SIGHUP failed, %s unchanged: %s", name, error)
            else:
                done.append(name)
        if done:
            log.warning("reloaded at SIGHUP: %s", ", ".join(done))
        elif not reloads:
            log.warning("nothing to reload at SIGHUP")

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup)


def stopped_by_signal() -> asyncio.Event:
    """An event that SIGINT or SIGTERM sets; a signal a second later ends the process at once."""
    stopping = asyncio.Event()

    def abort(number: signal.Signals) -> None:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    catch_stop_signals(stopping.set, abort, (signal.SIGINT, signal.SIGTERM))
    return stopping


def allow_many_files() -> None:
    """Raise the limit on open files, usually 1024: a connection, its upload and its blob take three."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

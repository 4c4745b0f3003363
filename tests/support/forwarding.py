"""Forward proxies in threads that lead to one port, whatever the request names: CONNECT, SOCKS5."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from contextlib import suppress


class ForwardingProxy:
    """Listens on loopback until `close`. ``asked`` holds the requested ``host:port`` of each connection."""

    def __init__(self, upstream: int, kind: str, tls: ssl.SSLContext | None = None) -> None:
        """`kind` is ``connect`` or ``socks5``."""
        self.asked: list[str] = []
        self.authorizations: list[str] = []  # the Proxy-Authorization of each CONNECT
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    if kind == "socks5":
                        proxy.asked.append(_socks(self.request))
                    else:
                        proxy._connect(self.request)
                    with socket.create_connection(("127.0.0.1", upstream)) as there:
                        _both_ways(self.request, there)

        self._server = _Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _connect(self, sock: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += _read(sock, 1)
        first, *lines = head.decode().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.asked.append(first.split()[1])
        self.authorizations.append(fields.get("proxy-authorization", ""))
        sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """Clients may disconnect at any time."""


def _socks(sock: socket.socket) -> str:
    _read(sock, _read(sock, 2)[1])
    sock.sendall(b"\x05\x00")
    kind = _read(sock, 4)[3]
    host = _read(sock, _read(sock, 1)[0]).decode() if kind == 3 else socket.inet_ntoa(_read(sock, 4))
    port = int.from_bytes(_read(sock, 2), "big")
    sock.sendall(b"\x05\x00\x00\x01\0\0\0\0\0\0")
    return f"{host}:{port}"


def _read(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        if not (piece := sock.recv(count - len(data))):
            raise OSError("ended early")
        data += piece
    return data


def _both_ways(one: socket.socket, other: socket.socket) -> None:
    back = threading.Thread(target=_pump, args=(other, one), daemon=True)
    back.start()
    _pump(one, other)
    back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)

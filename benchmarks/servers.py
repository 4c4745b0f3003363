"""Both ends of a copy: nginx that serves files as a registry, distribution 3 as target, delay proxies."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.content import Images
from benchmarks.processes import ROOT, Server, find, free_port, need

_NGINX = """
daemon off; pid {dir}/pid; error_log {dir}/error.log warn; worker_processes 2; {user}
events {{ worker_connections 4096; }}
http {{
    log_format wire '$request_method\t$uri\t$status\t$body_bytes_sent\t$connection';
    access_log {dir}/access.log wire;
    client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
    uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
    sendfile on; tcp_nopush on; open_file_cache off; keepalive_requests 1000000; keepalive_timeout 60;
    map_hash_bucket_size 256; map_hash_max_size 131072;
    map $uri $manifest {{
        default none;
        ~^/v2/.+/manifests/sha256:(?<hex>[0-9a-f]+)$ $hex;
        include {dir}/tags.map;
    }}
    server {{
        listen 127.0.0.1:{port} backlog={backlog} {ssl}; {tls}
        add_header Docker-Distribution-Api-Version registry/2.0 always;
        location = /v2/ {{ types {{ }} default_type application/json; return 200 "{{}}"; }}
        location ~ ^/v2/.+/blobs/sha256:(?<blob>[0-9a-f]+)$ {{
            types {{ }} default_type application/octet-stream;
            alias {root}/blobs/sha256/$blob; }}
        location ~ ^/v2/.+/manifests/ {{
            types {{ }} default_type application/vnd.oci.image.manifest.v1+json;
            add_header Docker-Content-Digest sha256:$manifest;
            add_header Docker-Distribution-Api-Version registry/2.0;
            alias {root}/blobs/sha256/$manifest; }}
        location = /v2/_catalog {{ types {{ }} default_type application/json; alias {dir}/lists/catalog; }}
        location ~ ^/v2/(?<repository>.+)/tags/list$ {{
            types {{ }} default_type application/json;
            alias {dir}/lists/$repository; }}
        location / {{ return 404; }}
    }}
}}
"""
BACKLOG = 1024
_SO_MAX_PACING_RATE = 47  # asm-generic/socket.h; Python has no name for it before 3.14
_TLS = "ssl_certificate {0}/server.pem; ssl_certificate_key {0}/server.key; ssl_protocols TLSv1.3;"


@dataclass(frozen=True)
class Access:
    """One finished request in an access log; `sent` is the bytes of the response's body."""

    method: str
    path: str
    status: int
    sent: int
    connection: str  # a number per connection; empty if the server does not log it

    @property
    def is_blob(self) -> bool:
        return "/blobs/sha256:" in self.path

    @classmethod
    def of(cls, line: re.Match[str]) -> Access:
        """The request of a line of the log."""
        return cls(line["method"], line["path"], int(line["status"]), int(line["sent"]), line["connection"])


@dataclass
class End:
    """A running registry. Clients use `port`; `direct` is the registry itself, without delay."""

    server: Server
    port: int
    access_log: Path
    line: re.Pattern[str]
    tls: ssl.SSLContext | None
    read_to: int = field(default=0)

    @property
    def direct(self) -> int:
        return self.server.port

    def ask(self, method: str, path: str) -> http.client.HTTPResponse:
        """Send one request without delays, and read the body."""
        connection = self._connect()
        try:
            return self._ask(connection, method, path)
        finally:
            connection.close()

    def digests_of(self, references: list[tuple[str, str]]) -> list[str | None]:
        """The digest of each (repository, tag) at the registry, None if missing."""
        connection = self._connect()
        try:
            paths = [f"/v2/{repository}/manifests/{tag}" for repository, tag in references]
            return [self._ask(connection, "HEAD", path).getheader("Docker-Content-Digest") for path in paths]
        finally:
            connection.close()

    def accesses(self) -> list[Access]:
        """The requests finished since the last call. Servers log late, so one more is sent and awaited."""
        mark = f"/v2/mark-{time.monotonic_ns()}"
        self.ask("GET", mark)
        deadline = time.monotonic() + 10
        while mark not in self.access_log.read_text(errors="replace")[self.read_to :]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.access_log} was not written")
            time.sleep(0.01)
        text = self.access_log.read_text(errors="replace")
        every = [Access.of(line) for line in self.line.finditer(text, self.read_to)]
        self.read_to = len(text)
        return [access for access in every if "/v2/mark-" not in access.path]

    def _connect(self) -> http.client.HTTPConnection:
        if self.tls is not None:
            return http.client.HTTPSConnection("127.0.0.1", self.direct, timeout=30, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.direct, timeout=30)

    @staticmethod
    def _ask(connection: http.client.HTTPConnection, method: str, path: str) -> http.client.HTTPResponse:
        connection.request(method, path, headers={"Accept": "application/vnd.oci.image.manifest.v1+json"})
        answer = connection.getresponse()
        answer.read()
        return answer


@dataclass(frozen=True)
class Certificates:
    """Files of a CA and of a certificate from it for 127.0.0.1."""

    directory: Path

    @property
    def ca(self) -> Path:
        return self.directory / "ca.pem"

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)


def make_certificates(directory: Path) -> Certificates:
    """Write ca.pem, server.pem and server.key."""
    import trustme

    directory.mkdir(parents=True)
    ca = trustme.CA()
    server = ca.issue_cert("127.0.0.1", "localhost")
    ca.cert_pem.write_to_path(str(directory / "ca.pem"))
    server.private_key_pem.write_to_path(str(directory / "server.key"))
    for blob in server.cert_chain_pems:
        blob.write_to_path(str(directory / "server.pem"), append=True)
    return Certificates(directory)


@contextmanager
def delayed(
    port: int, directory: Path, round_trip_s: float, rate: int, *, together: bool = False
) -> Iterator[int]:
    """The port to use instead of `port`, with delay and a rate limit, of a connection or of all together."""
    if not round_trip_s and not rate:
        yield port
        return
    log = directory / f"delay-{port}.log"
    argv = [sys.executable, "-m", "benchmarks.delay", f"127.0.0.1:{port}"]
    argv += ["--round-trip", str(round_trip_s), "--rate", str(rate), *(["--together"] if together else [])]
    listening = free_port()
    server = Server([*argv, "--port", str(listening)], listening, log, {"PYTHONPATH": str(ROOT)})
    try:
        yield listening
    finally:
        server.stop()


@contextmanager
def source(
    directory: Path, content: Images, *, rate: int, round_trip_s: float, certificates: Certificates | None
) -> Iterator[End]:
    """nginx with the blobs as files: lists, ranges, right content types, a cap per connection, TLS."""
    program = need("nginx", "apt-get install nginx-light")
    directory.mkdir(parents=True)
    tags = [
        f"/v2/{image.repository}/manifests/{image.tag} {image.manifest.digest.removeprefix('sha256:')};\n"
        for image in content.images
    ]
    (directory / "tags.map").write_text("".join(tags))
    _write_lists(directory / "lists", content)
    with closing(_listen(rate)) as listener:
        port: int = listener.getsockname()[1]
        conf = directory / "nginx.conf"
        conf.write_text(
            _NGINX.format(
                dir=directory,
                root=content.root,
                port=port,
                backlog=BACKLOG,
                user="user root;" if os.geteuid() == 0 else "",
                ssl="ssl" if certificates else "",
                tls=_TLS.format(certificates.directory) if certificates else "",
            )
        )
        argv = [program, "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(conf)]
        # With this variable nginx inherits sockets from a predecessor, so we can set options on one.
        inherited = {"NGINX": f"{listener.fileno()};"}
        server = Server(argv, port, directory / "log", inherited, listener.fileno())
    server.wait()  # until now our own socket accepted connections
    line = re.compile(
        r"^(?P<method>[A-Z]+)\t(?P<path>\S+)\t(?P<status>\d+)\t(?P<sent>\d+)\t(?P<connection>\d+)$",
        re.MULTILINE,
    )
    try:
        with delayed(port, directory, round_trip_s, 0) as open_port:
            yield End(server, open_port, directory / "access.log", line, _context(certificates))
    finally:
        server.stop()


def _write_lists(directory: Path, content: Images) -> None:
    """The catalog and the lists of tags, each whole on one page."""
    tags: dict[str, list[str]] = {}
    for image in content.images:
        tags.setdefault(image.repository, []).append(image.tag)
    for repository, names in tags.items():
        path = directory / repository
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"name": repository, "tags": names}))
    (directory / "catalog").write_text(json.dumps({"repositories": sorted(tags)}))


def _listen(rate: int) -> socket.socket:
    """A listening socket whose connections send at most `rate` bytes per second from the first byte on.

    The kernel paces them. nginx's `limit_rate` and `proxy_download_rate` send the bytes of the first second
    at once, for every request or connection, so many short requests would be uncapped.
    """
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if rate:
            listener.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, rate)
            # The first ten segments are not paced, and on loopback they have 64 KiB.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
        listener.setblocking(False)  # nginx's workers share it, and each would block in accept
        listener.bind(("127.0.0.1", 0))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SystemExit(f"benchmarks: no socket for the source, capped at {rate} bytes/s: {error}") from None
    return listener


def measured_rate(end: End, path: str, size: int) -> float:
    """Bytes per second of one connection for a blob of `size` bytes, with up to 16 ranges of 1 MiB."""
    connection = http.client.HTTPConnection("127.0.0.1", end.port, timeout=60)
    piece, got = 1 << 20, 0
    with closing(connection):
        started = time.perf_counter()
        for start in range(0, min(size, 16 * piece), piece):
            connection.request("GET", path, headers={"Range": f"bytes={start}-{start + piece - 1}"})
            got += len(connection.getresponse().read())
        return got / (time.perf_counter() - started)


@contextmanager
def target(
    directory: Path,
    *,
    rate: int,
    round_trip_s: float,
    certificates: Certificates | None,
    together: bool = False,
) -> Iterator[End]:
    """distribution 3 with empty storage below `directory`, which is removed at the end."""
    program = find("registry") or need("docker-registry", "make rivals")
    directory.mkdir(parents=True)
    port = free_port()
    http_: dict[str, object] = {"addr": f"127.0.0.1:{port}", "secret": "unimportant"}
    if certificates is not None:
        folder = certificates.directory
        http_["tls"] = {"certificate": f"{folder}/server.pem", "key": f"{folder}/server.key"}
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "data"), "maxthreads": 100},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": http_,
    }
    (directory / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    line = re.compile(
        r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+" (?P<status>\d+) (?P<sent>\d+)(?P<connection>)'
    )
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        server = Server([program, "serve", str(directory / "config.yml")], port, directory / "log")
        stack.callback(server.stop)
        open_port = stack.enter_context(delayed(port, directory, round_trip_s, rate, together=together))
        yield End(server, open_port, directory / "log", line, _context(certificates))


def _context(certificates: Certificates | None) -> ssl.SSLContext | None:
    return certificates.context() if certificates else None

"""nginx as the proxies that registries stand behind: no ranges, redirects, body limits, TLS, slow."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from support.process import SETTLING, ServerProcess, free_port, listening, require, settle
from support.push import Remote

_MAIN = """
daemon off; pid {dir}/pid; error_log {dir}/error.log warn; worker_processes 1; {user}
events {{ worker_connections 512; }}
http {{
    log_format seen escape=json '{{"method":"$request_method","uri":"$request_uri","status":$status,'
        '"sent":$body_bytes_sent,"range":"$http_range","authorization":"$http_authorization"}}';
    access_log {dir}/access.log seen;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f;
    uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
    proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off; client_max_body_size 0;
    proxy_redirect off;
    proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;
    {servers}
}}
"""


@dataclass
class Nginx:
    """A running nginx with the listening ports that its configuration used."""

    directory: Path
    process: ServerProcess
    ports: tuple[int, ...]
    address: str = "127.0.0.1"

    @property
    def host(self) -> str:
        """``host:port`` of the first server."""
        return f"{self.address}:{self.ports[0]}"

    def accesses(self) -> list[dict[str, object]]:
        """The access log: method, uri, status, sent, range, authorization of every finished request."""
        log = self.directory / "access.log"
        settle(log, lambda path: Remote(self.host).request("GET", path).status)
        seen = [json.loads(line) for line in log.read_text().splitlines()]
        return [entry for entry in seen if SETTLING not in entry["uri"]]

    def stop(self) -> None:
        """End nginx and its worker."""
        self.process.stop()


def start_nginx(directory: Path, servers: str, ports: tuple[int, ...], address: str = "127.0.0.1") -> Nginx:
    """Start nginx with the given ``server { ... }`` blocks listening on `ports`."""
    program = require("nginx")
    directory.mkdir(parents=True, exist_ok=True)
    user = "user root;" if os.geteuid() == 0 else ""
    conf = directory / "nginx.conf"
    conf.write_text(_MAIN.format(dir=directory, user=user, servers=servers))
    process = ServerProcess(
        f"nginx :{ports[0]}",
        [program, "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(conf)],
        directory / "log",
        lambda: all(listening(port, address) for port in ports),
    )
    return Nginx(directory, process, ports, address)


def start_proxy(directory: Path, upstream: str, extra: str = "", tls: str = "") -> Nginx:
    """One reverse proxy before `upstream` (a URL); `extra` joins its location, `tls` its server."""
    port = free_port()
    server = f"""
    server {{ listen 127.0.0.1:{port} {"ssl" if tls else ""}; {tls}
        location / {{ proxy_pass {upstream}; {extra} }} }}"""
    return start_nginx(directory, server, (port,))


def start_range_stripper(directory: Path, upstream: str) -> Nginx:
    """A source without RFC 7233: the registry behind it never sees a Range."""
    return start_proxy(directory, upstream, 'proxy_set_header Range ""; proxy_hide_header Accept-Ranges;')


def start_connection_limit(directory: Path, upstream: str, connections: int, status: int) -> Nginx:
    """A source that serves so many blobs at once, slowly, and responds `status` to further requests."""
    port = free_port()
    server = f"""
    limit_conn_zone $server_port zone=all:1m;
    server {{ listen 127.0.0.1:{port};
        location / {{ proxy_pass {upstream}; }}
        location ~ /blobs/ {{ proxy_pass {upstream}; limit_rate 16m;
            limit_conn all {connections}; limit_conn_status {status}; }} }}"""
    return start_nginx(directory, server, (port,))


def start_body_limit(directory: Path, upstream: str, limit: str = "20m") -> Nginx:
    """A target whose proxy responds 413 to larger bodies."""
    return start_proxy(directory, upstream, f"client_max_body_size {limit};")


def start_tls_front(directory: Path, upstream: str, certificate: Path, key: Path) -> Nginx:
    """HTTPS before a plain registry."""
    pair = f"ssl_certificate {certificate}; ssl_certificate_key {key};"
    return start_proxy(directory, upstream, tls=pair)


def start_redirector(
    directory: Path, upstream: str, storage: Path, address: str = "127.0.0.1", tls: str = ""
) -> tuple[Nginx, Nginx]:
    """A private registry whose blobs are on another host and port.

    The first nginx asks for Basic credentials and answers a blob's GET and HEAD with 307; the second, at
    `address`, serves the files of the registry's `storage` and answers 500 to whoever brings an
    Authorization header. `tls` makes the first one speak it. `upstream` must check the credentials: the
    first nginx only insists on some.
    """
    port = free_port(address)
    files = f"""
    server {{ listen {address}:{port};
        location ~ ^/signed/sha256:(?<ab>[0-9a-f][0-9a-f])(?<rest>[0-9a-f]+)$ {{
            if ($http_authorization) {{ return 500; }}
            alias {storage}/blobs/sha256/$ab/$ab$rest/data; }} }}"""
    behind = start_nginx(directory / "storage", files, (port,), address)
    front_port = free_port()
    front = f"""
    server {{ listen 127.0.0.1:{front_port} {"ssl" if tls else ""}; {tls}
        location ~ ^/v2/.*/blobs/(?<digest>sha256:[0-9a-f]+)$ {{
            add_header WWW-Authenticate 'Basic realm="front"' always;
            if ($http_authorization = "") {{ return 401; }}
            return 307 http://{address}:{port}/signed/$digest?sig=not-to-be-logged; }}
        location / {{ proxy_pass {upstream}; }} }}"""
    return start_nginx(directory / "front", front, (front_port,)), behind

"""Second opinions: the same questions answered by other means, by the standard library where it can.

They are slow, naive and independent of the parsers that they judge.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import string
from itertools import groupby
from typing import Any

from crossdock.oci.registryname import PUBLIC_REGISTRIES

_ALNUM = set(string.ascii_lowercase + string.digits)
_TAG = set(string.ascii_letters + string.digits + "_.-")
_LABEL = set(string.ascii_letters + string.digits + "-")
_HEX = set("0123456789abcdef")


class _Socket:
    """The socket that `http.client.HTTPResponse` reads from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def http_answer(data: bytes) -> http.client.HTTPResponse | None:
    """The answer in `data` as http.client understands it; None when it does not."""
    response = http.client.HTTPResponse(_Socket(data), method="GET")  # type: ignore[arg-type]
    try:
        response.begin()
    except (http.client.HTTPException, ValueError):
        return None
    return response


def chunked_payload(data: bytes) -> bytes | None:
    """The payload of a chunked body, by http.client; None when it finds none."""
    response = http_answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    assert response is not None
    try:
        return response.read()
    except (http.client.HTTPException, ValueError):
        return None


def reference(text: str) -> tuple[str, str, str | None, str | None] | None:
    """Registry, repository, tag and digest, read from left to right; None: it is no reference.

    The grammar of github.com/distribution/reference, Docker's rules for short names, no regular expressions.
    """
    name, at, digest = text.removeprefix("docker://").partition("@")
    if at and not _is_digest(digest):
        return None
    if not at and len(name) == 64 and set(name) <= _HEX:
        return None  # could be an image's id
    if not at and _is_registry(name):
        return None  # its repository was forgotten
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or first != first.lower() or "." in first or ":" in first):
        registry, remainder = first, rest
    else:
        registry, remainder = "docker.io", name
    registry = "docker.io" if registry == "index.docker.io" else registry
    repository, colon, tag = remainder.partition(":")
    if registry == "docker.io" and "/" not in remainder:
        if not repository:
            return None
        repository = f"library/{repository}"
    if not _is_host(registry) or len(repository) > 255:
        return None
    if not all(map(_is_component, repository.split("/"))) or (colon and not _is_tag(tag)):
        return None
    return registry, repository, tag if colon else (None if at else "latest"), digest if at else None


def _is_registry(name: str) -> bool:
    """Whether people mean a registry by it, which Docker reads as the name of an image."""
    host, colon, port = name.partition(":")
    if colon and not (port.isascii() and port.isdigit() and len(port) < 6):
        return False
    labels = host.split(".")
    if len(labels) == 4 and all(each.isascii() and each.isdigit() and len(each) < 4 for each in labels):
        return True
    if host == "localhost":
        return True
    if colon:
        return len(labels) > 1 and _is_host(host) and labels[-1].isalpha()
    return any(host == each or host.endswith(f".{each}") for each in PUBLIC_REGISTRIES)


def _is_digest(text: str) -> bool:
    algorithm, _, encoded = text.partition(":")
    return {"sha256": 64, "sha512": 128}.get(algorithm) == len(encoded) and set(encoded) <= _HEX


def _is_tag(text: str) -> bool:
    return 0 < len(text) <= 128 and set(text) <= _TAG and text[0] not in ".-"


def _is_component(text: str) -> bool:
    """Runs of a-z0-9 with exactly one separator between them: ``.``, ``_``, ``__`` or any number of ``-``."""
    separators = ["".join(run) for is_alnum, run in groupby(text, _ALNUM.__contains__) if not is_alnum]
    ends = bool(text) and text[0] in _ALNUM and text[-1] in _ALNUM
    return ends and all(run in (".", "_", "__") or set(run) == {"-"} for run in separators)


def _is_host(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, "1"
    if not port.isascii() or not port.isdigit() or not 0 < int(port[:9]) < 65536:
        return False
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            return False
        return host.endswith("]") and "%" not in host
    labels = host.split(".")
    return all(label and set(label) <= _LABEL and "-" not in (label[0], label[-1]) for label in labels)


def content_range(text: str) -> tuple[int, int, int | None] | None:
    """First, last and total of ``bytes 0-9/10``, written exactly so; None: written otherwise or wrong."""
    unit, _, rest = text.partition(" ")
    span, slash, total = rest.partition("/")
    first, dash, last = span.partition("-")
    numbers = (first, last, *(() if total == "*" else (total,)))
    if unit != "bytes" or not slash or not dash:
        return None
    if not all(number.isascii() and number.isdigit() and len(number) < 20 for number in numbers):
        return None
    if int(last) < int(first):
        return None
    return int(first), int(last), None if total == "*" else int(total)


def digests(document: Any) -> list[str]:
    """The digests in a manifest's JSON, without any check."""
    config = [document["config"]] if document.get("config") else []
    entries = [*config, *(document.get("layers") or ())]
    entries += [*(document.get("blobs") or ()), *(document.get("manifests") or ())]
    return list(dict.fromkeys(entry["digest"] for entry in entries))

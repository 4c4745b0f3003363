"""Fixtures of copies that meet faults."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from support.command import Crossdock
from support.docker_registry import DockerRegistry
from support.interrupted import Passage, make_passage, start_target


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A private certificate authority."""
    return trustme.CA()


@pytest.fixture
def proxy_over(
    fault_proxy: Callable[..., FaultProxy], authority: trustme.CA, tmp_path: Path
) -> Callable[[str, str, str], tuple[FaultProxy, tuple[str, ...]]]:
    """Starts a proxy before a host, over ``plain`` HTTP or ``tls``; the flags that trust it come with it."""

    def start(way: str, host: str, flag: str) -> tuple[FaultProxy, tuple[str, ...]]:
        if way == "plain":
            return fault_proxy(host, tls=None), ()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        return fault_proxy(host, tls=context), (flag, str(tmp_path / "ca.pem"))

    return start


@pytest.fixture
def passage(
    kind: str,
    crossdock: Crossdock,
    source: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
    closing: ExitStack,
) -> Passage:
    """A copy to a registry of the kind."""
    host = start_target(kind, tmp_path / "target", closing)
    return make_passage(crossdock, source, host, repository, builder, tmp_path / "state", closing)

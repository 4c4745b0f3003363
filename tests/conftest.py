"""Fixtures of real servers, and their logs beside a failed test."""

from __future__ import annotations

import os
import re
import signal
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from crossdock.imagebuilder import Content, ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from support.command import WITHOUT_CLOUD, Crossdock
from support.docker_registry import DockerRegistry, start_docker_registry
from support.images import add_layout, real_image
from support.process import ServerProcess

# A machine that is busy is no counterexample: no test asserts a time.
hypothesis.settings.register_profile("crossdock", deadline=None)
hypothesis.settings.load_profile("crossdock")

os.environ.update(WITHOUT_CLOUD)

# A shell starts background jobs with SIGINT ignored, and nohup its command with SIGHUP ignored: the commands
# that tests interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Show the end of every running server's log with the test that failed."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for server in ServerProcess.running:
            report.sections.append((f"log of {server.name}", server.tail()))


@pytest.fixture
def crossdock(tmp_path: Path) -> Crossdock:
    """The command, with an empty home."""
    home = tmp_path / "home"
    home.mkdir()
    return Crossdock(home)


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """Whatever a test opens is closed after it, last opened first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def shared_registries(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[DockerRegistry, DockerRegistry]]:
    """Two plain docker-registries for the whole run: tests use repositories of their own in them."""
    with ExitStack() as stack:
        pair = []
        for name in ("source", "target"):
            pair.append(start_docker_registry(tmp_path_factory.mktemp(name)))
            stack.callback(pair[-1].stop)
        yield pair[0], pair[1]


@pytest.fixture
def source(shared_registries: tuple[DockerRegistry, DockerRegistry]) -> DockerRegistry:
    """The plain registry that tests copy from."""
    return shared_registries[0]


@pytest.fixture
def target(shared_registries: tuple[DockerRegistry, DockerRegistry]) -> DockerRegistry:
    """The plain registry that tests copy to."""
    return shared_registries[1]


@pytest.fixture
def new_registry(tmp_path: Path, closing: ExitStack) -> Callable[..., DockerRegistry]:
    """Starts a docker-registry for this test alone; takes a name and `start_docker_registry`'s options."""

    def start(name: str = "registry", **options: Any) -> DockerRegistry:
        registry = start_docker_registry(tmp_path / name, **options)
        closing.callback(registry.stop)
        return registry

    return start


@pytest.fixture
def fault_proxy(closing: ExitStack) -> Callable[..., FaultProxy]:
    """Starts a fault proxy before ``host:port``. Requests that no client may send fail the test."""

    def stop(proxy: FaultProxy) -> None:
        proxy.close()
        assert proxy.violations == []

    def start(upstream: str, **options: Any) -> FaultProxy:
        proxy = FaultProxy(upstream, **options)
        closing.callback(stop, proxy)
        return proxy

    return start


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository name that no other test uses."""
    return "it/" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:100].strip("-")


@pytest.fixture
def builder(request: pytest.FixtureRequest) -> ImageBuilder:
    """Makes content that no other test has: the seed comes from the test's name."""
    return ImageBuilder(seed=zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(scope="session")
def real_index(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageBuilder, Content]:
    """A multi-platform image of real Debian files: two by umoci, a windows one, two attestations."""
    directory = tmp_path_factory.mktemp("real")
    builder = ImageBuilder()
    images = []
    for architecture, program in (("amd64", "/bin/bash"), ("arm64", "/bin/sed")):
        files = [
            ("/etc/os-release", "/etc/os-release"),
            ("/usr/share/common-licenses", "/licenses"),
            (program, program),
        ]
        layout = real_image(directory, architecture, f"linux/{architecture}", files)
        platform = {"os": "linux", "architecture": architecture}
        images.append(add_layout(builder, layout).having(platform=platform))
    licence = builder.tar_layer({"Files/licence.txt": Path("/usr/share/common-licenses/Apache-2.0")})
    windows = builder.image([licence], "windows/amd64", os_version="10.0.20348.2113")
    attestations = [builder.attestation(image) for image in images]
    return builder, builder.index([*images, windows, *attestations])


@pytest.fixture
def source_faults(source: DockerRegistry, fault_proxy: Callable[..., FaultProxy]) -> FaultProxy:
    """The source behind a fault proxy."""
    return fault_proxy(source.host)


@pytest.fixture
def target_faults(target: DockerRegistry, fault_proxy: Callable[..., FaultProxy]) -> FaultProxy:
    """The target behind a fault proxy."""
    return fault_proxy(target.host)

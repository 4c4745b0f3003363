"""Two registries under one suite: the embedded one, and Debian's docker-registry as judge of the suite."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from conformance.subject import Embedded, Subject
from support.docker_registry import start_docker_registry
from support.push import Remote


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """The embedded registry, one for the whole suite."""
    server = Embedded(tmp_path_factory.mktemp("embedded"))
    yield Subject("embedded", Remote(f"127.0.0.1:{server.port}"), server.root)
    server.close()


@pytest.fixture(scope="session")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """docker-registry 2.8.2, deletion allowed."""
    server = start_docker_registry(tmp_path_factory.mktemp("docker"))
    yield Subject("docker-registry", server.remote, server.directory)
    server.stop()


@pytest.fixture(params=["embedded", pytest.param("docker_registry", marks=pytest.mark.real)])
def registry(request: pytest.FixtureRequest) -> Subject:
    """Each registry in turn."""
    subject: Subject = request.getfixturevalue(request.param)
    return subject


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A repository name that no other test uses."""
    return "conf/" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:150]

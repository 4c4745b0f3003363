"""Plan and apply where registries list their manifests by an API: few requests, and what real ones refuse."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.listings.ecr import KEY, REGION, REGISTRY, SECRET, EcrDouble
from crossdock_testing.listings.front import Front
from crossdock_testing.listings.google import GoogleDouble
from crossdock_testing.listings.harbor import HarborDouble
from crossdock_testing.listings.quay import OAUTH_USER, QuayDouble
from support.command import Crossdock
from support.docker_registry import DockerRegistry
from support.embedded import start_embedded
from support.images import push
from support.push import Remote

pytestmark = pytest.mark.real

REPOSITORIES, TAGS = 5, 12
NAMES = [f"{'group/' if number % 2 else ''}r{number}" for number in range(REPOSITORIES)]
QUIET = ("--output", "json", "--progress", "none")
USER, PASSWORD = "robot$mover", "pass word"
APIS = ("azure", "harbor", "quay", "google")  # that an unknown host is asked for, once

NewRegistry = Callable[..., DockerRegistry]
MANIFESTS = r"/v2/.+/manifests/"


def fill(remote: Remote, builder: ImageBuilder) -> None:
    """``team/r0``, ``team/group/r1`` …, each with twelve tags of two images and an index."""
    for name in NAMES:
        images = [
            builder.image([builder.random_layer(500)], platform)
            for platform in ("linux/amd64", "linux/arm64")
        ]
        for at, content in enumerate((*images, builder.index(images))):
            for tag in range(at, TAGS, 3):
                push(remote, f"team/{name}", builder, content, f"v{tag}")


def login(side: str, user: str, password: str) -> dict[str, str]:
    return {f"CROSSDOCK_{side}_USERNAME": user, f"CROSSDOCK_{side}_PASSWORD": password}


class Sides:
    """A double before each of two docker-registries, and the file that mirrors one to the other."""

    def __init__(
        self, crossdock: Crossdock, source: Front, target: Front, folder: Path, env: dict[str, str]
    ) -> None:
        self.source, self.target = source, target
        self._crossdock, self._env = crossdock, env
        self._names = {source.host: source.host, target.host: target.host}
        self._file = folder / "migration.yaml"
        self._folder = folder

    def named(self, side: Front, name: str) -> None:
        """The side is known by another name."""
        self._names[side.host] = name

    def run(self, command: str, **entry: Any) -> dict[str, Any]:
        """The JSON of ``plan`` or ``apply``; what the sides are asked counts from its start."""
        source, target = (self._names[each.host] for each in (self.source, self.target))
        mirror = {"source": f"{source}/team", "targets": [f"{target}/team"], **entry}
        self._file.write_text(json.dumps({"version": 1, "mirrors": [mirror]}))
        inventory = self._folder / "inventory.yaml"
        hosts = {name: host for host, name in self._names.items() if name != host}
        inventory.write_text(json.dumps({"hosts": hosts}))
        self.source.asked.clear()
        self.target.asked.clear()
        words = (command, self._file, "--inventory", inventory, *(QUIET if command == "apply" else QUIET[:2]))
        done = self._crossdock(*words, env=self._env)
        assert done.code == 0, str(done)
        assert not done.stderr, str(done)
        return done.result


@pytest.fixture
def sides(
    crossdock: Crossdock, new_registry: NewRegistry, closing: ExitStack, builder: ImageBuilder, tmp_path: Path
) -> Callable[..., Sides]:
    """Starts doubles of a class before two registries, the first of which is filled."""

    def start(source: Callable[[str], Front], target: Callable[[str], Front], env: dict[str, str]) -> Sides:
        first, second = new_registry("first"), start_embedded(tmp_path, tmp_path / "second", closing)
        fill(first.remote, builder)
        doubles = closing.enter_context(source(first.host)), closing.enter_context(target(second.host))
        return Sides(crossdock, *doubles, tmp_path, env)

    return start


def harbors(sides: Callable[..., Sides]) -> Sides:
    def harbor(upstream: str) -> Front:
        return HarborDouble(upstream, logins={USER: PASSWORD}, is_private=True)

    return sides(harbor, harbor, {**login("SOURCE", USER, PASSWORD), **login("TARGET", USER, PASSWORD)})


def quays(sides: Callable[..., Sides]) -> Sides:
    def quay(upstream: str) -> Front:
        return QuayDouble(upstream, oauth_token="token", is_private=True, shows_catalog=False, page=10)

    return sides(quay, quay, {**login("SOURCE", OAUTH_USER, "token"), **login("TARGET", OAUTH_USER, "token")})


def googles(sides: Callable[..., Sides]) -> Sides:
    return sides(GoogleDouble, lambda upstream: GoogleDouble(upstream, counts_in_text=False), {})


def ecrs(sides: Callable[..., Sides]) -> Sides:
    env = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": REGION}
    made = sides(lambda upstream: EcrDouble(upstream, page=2, throttles=1), GoogleDouble, env)
    env["AWS_ENDPOINT_URL_ECR"] = f"http://{made.source.host}"
    made.named(made.source, REGISTRY)
    return made


@pytest.mark.parametrize("kind", [harbors, quays, googles, ecrs])
def test_presence_is_known_from_lists(sides: Callable[..., Sides], kind: Callable[..., Sides]) -> None:
    """No tag is asked about by itself; the second apply needs one list of each repository and side."""
    both = kind(sides)
    tags = REPOSITORIES * TAGS
    plan = both.run("plan")["totals"]
    assert (plan["tags"], plan["tags_new"], plan["images"]) == (tags, tags, REPOSITORIES * 3)
    assert not [each for each in both.source.asked if each.method == "HEAD"]
    done = both.run("apply")["totals"]
    assert (done["copied"], done["failed"]) == (tags, 0)
    again = both.run("apply")["totals"]
    assert (again["unchanged"], again["copied"], again["failed"]) == (tags, 0, 0)
    for side in (both.source, both.target):
        assert side.count(MANIFESTS) == 0
        asked = [each.path for each in side.asked if re.search(r"r\d/(artifacts|tag/|tags/list)$", each.path)]
        pages = 2 if isinstance(side, QuayDouble) else 1
        assert len(asked) <= REPOSITORIES * pages + len(APIS)
    old = both.run("plan", tags={"min_age": "72h", "pushed_after": "2020-01-01"})["totals"]
    assert (old["tags"], old["tags_unchanged"]) == (tags, tags)
    verified = both.run("verify", tags={"min_age": "72h"})
    assert (verified["missing"], verified["different"]) == ([], [])


def harbor_robots(sides: Callable[..., Sides]) -> Sides:
    def harbor(upstream: str) -> Front:
        return HarborDouble(upstream, logins={USER: PASSWORD}, is_private=True, without_api={USER})

    return sides(harbor, GoogleDouble, login("SOURCE", USER, PASSWORD))


def quay_robots(sides: Callable[..., Sides]) -> Sides:
    def quay(upstream: str) -> Front:
        return QuayDouble(upstream, logins={USER: PASSWORD}, oauth_token="token", is_private=True)

    return sides(quay, GoogleDouble, login("SOURCE", USER, PASSWORD))


def aws_strangers(sides: Callable[..., Sides]) -> Sides:
    env = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": "another", "AWS_REGION": REGION}
    made = sides(EcrDouble, GoogleDouble, env)
    env["AWS_ENDPOINT_URL_ECR"] = f"http://{made.source.host}"
    made.named(made.source, REGISTRY)
    return made


@pytest.mark.parametrize("kind", [harbor_robots, quay_robots, aws_strangers])
def test_a_login_that_may_not_use_the_api_hinders_nothing(
    sides: Callable[..., Sides], kind: Callable[..., Sides]
) -> None:
    """Tags are listed and looked at one by one, and no warning is made of it."""
    both = kind(sides)
    done = both.run("apply", repositories={"include": NAMES})["totals"]
    assert (done["copied"], done["failed"]) == (REPOSITORIES * TAGS, 0)
    assert both.source.count(r"/v2/team/.*r\d/tags/list") >= REPOSITORIES
    asked = both.source.count(r"/api/") + sum(each.method == "POST" for each in both.source.asked)
    assert 0 < asked <= 3 * REPOSITORIES  # whatever waits when the first is refused may have been sent

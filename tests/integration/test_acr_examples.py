"""Every command in the documentation of ``az acr import``, run unchanged by a shell.

``az`` is ``crossdock``; an inventory maps the names to servers on this machine. `tests/az` does the same
with the real az and the service.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.tokens import ANONYMOUS
from support.command import DONE
from support.docker_registry import DockerRegistry
from support.documentation import (
    EXAMPLES,
    FOREIGN,
    IDENTITY,
    MOVE,
    NO_WAIT,
    PASTED,
    SECRETS,
    Sources,
    assert_imported,
    fill,
    one_layer,
    start_sources,
)
from support.images import Graph, assert_holds, push
from support.process import require

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    with ExitStack() as stack:
        yield start_sources(tmp_path_factory.mktemp("sources"), stack)


@dataclass
class Shell:
    """A shell with ``az`` and an inventory, and the registry that is imported into."""

    sources: Sources
    target: DockerRegistry
    home: Path
    environment: dict[str, str]

    def write_inventory(self, *, closed: bool = False) -> None:
        """The file; `closed`: the source registries have no public access."""
        document = self.sources.inventory({"login_server": self.target.host}, closed=closed)
        Path(self.environment["CROSSDOCK_INVENTORY"]).write_text(json.dumps(document))

    def run(self, text: str, graph: Graph | None = None) -> subprocess.CompletedProcess[str]:
        """Run the text; no secret may appear in its output, the target's log or stored files."""
        done = subprocess.run(
            [require("bash"), "-c", f'az() {{ {sys.executable} -m crossdock "$@"; }}\n{fill(text, graph)}'],
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        kept = [path.read_bytes().decode(errors="replace") for path in self.home.rglob("*") if path.is_file()]
        for said in (done.stdout, done.stderr, self.target.process.log.read_text(), *kept):
            assert not [secret for secret in SECRETS if secret in said]
        return done

    def ok(self, text: str, graph: Graph | None = None) -> str:
        """Run a command that must succeed; returns its stdout."""
        done = self.run(text, graph)
        assert done.returncode == DONE, done
        return done.stdout


@pytest.fixture
def shell(sources: Sources, new_registry: Callable[..., DockerRegistry], tmp_path: Path) -> Shell:
    target = new_registry("target", validation=FOREIGN)
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "CROSSDOCK_INVENTORY": str(tmp_path / "inventory.yaml"),
        "IDENTITY": IDENTITY,
    }
    shell = Shell(sources, target, home, environment)
    shell.write_inventory()
    return shell


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_the_documentation(shell: Shell, name: str) -> None:
    example = EXAMPLES[name]
    graph = shell.sources.graphs[example.source]
    if "-p" in example.text:  # credentials of the caller's own: those of the inventory need not be there
        del shell.environment["IDENTITY"]
    shell.write_inventory(closed="disabled" in name)
    builder = ImageBuilder(seed=99)
    push(shell.target.remote, "old", builder, one_layer(builder), "tag")
    assert shell.ok(example.text, graph) == "", "az prints nothing"
    assert_imported(shell.target.remote, example.target, graph)


def test_the_example_for_docker_hubs_credentials_gives_them_to_its_token_service(shell: Shell) -> None:
    begun = len(shell.sources.tokens.requests)
    shell.ok(EXAMPLES["docker-hub-credentials"].text)
    assert {each.user for each in shell.sources.tokens.requests[begun:]} == {"hubuser"}


def test_the_same_as_it_was_pasted_without_a_backslash_imports_anonymously(shell: Shell) -> None:
    begun = len(shell.sources.tokens.requests)
    done = shell.run(PASTED)
    assert (done.returncode, done.stderr.count("command not found")) == (127, 2)
    graph = shell.sources.graphs["tensorflow/tensorflow"]
    assert_holds(shell.target.remote, "tensorflow", "latest-gpu", graph)
    assert {each.user for each in shell.sources.tokens.requests[begun:]} == {ANONYMOUS}


def test_no_wait_and_the_tags_that_show_that_the_import_succeeded(shell: Shell) -> None:
    assert shell.ok(NO_WAIT) == ""
    deadline = time.monotonic() + 60
    show = "az acr repository show-tags -n myregistry --repository sourcerepository -o tsv"
    while shell.run(show).stdout != "sourcetag\n":
        assert time.monotonic() < deadline, "the import did not go on"
    graph = shell.sources.graphs["sourcerepository"]
    assert_holds(shell.target.remote, "sourcerepository", "sourcetag", graph)


def test_an_import_is_shown_by_the_documented_commands(shell: Shell) -> None:
    graph = shell.sources.graphs["library/hello-world"]
    shell.ok(EXAMPLES["docker-hub-hello-world"].text)
    listed = json.loads(
        shell.ok("az acr manifest list-metadata \\\n  --name hello-world \\\n  --registry myregistry")
    )
    assert {each["digest"] for each in listed} == set(graph.manifests)
    assert [each["tags"] for each in listed if each["digest"] == graph.root] == [["latest"]]
    assert json.loads(shell.ok("az acr repository list --name myregistry")) == ["hello-world"]
    tags = "az acr repository show-tags --name myregistry --repository hello-world"
    assert json.loads(shell.ok(tags)) == ["latest"]
    shown = json.loads(shell.ok("az acr manifest show -r myregistry -n hello-world:latest"))
    assert shown == json.loads(graph.manifests[graph.root][1])


def test_the_script_that_moves_a_registrys_content_to_another_region(shell: Shell) -> None:
    images = {"aci-helloworld": "latest", "sourcerrepo": "tag", "sourcerepository": "sourcetag"}
    images["hello-world"] = "latest"
    shown = shell.ok(MOVE)
    assert sorted(shown.splitlines()) == sorted(f"Importing {name}:{tag}" for name, tag in images.items())
    for name, tag in images.items():
        assert_holds(shell.target.remote, name, tag, shell.sources.graphs[name])

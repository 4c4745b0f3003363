"""Every command of the documentation of ``az acr import``, run by a shell as it stands there.

From Microsoft's "Import container images to a container registry" and "Manually move a container registry to
another region", and from the reference of ``az acr``, as of mid-2024. Only ``<placeholders>`` and made-up
digests are filled in; ``az`` is ``crossdock``; an inventory says that the names are served on this machine.
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
from typing import Any, NamedTuple

import pytest

from crossdock.testing.images import Content, ImageBuilder, sample_index
from crossdock.testing.tokens import ANONYMOUS, TokenServer
from support.command import DONE
from support.docker_registry import DockerRegistry, start_docker_registry
from support.embedded import Embedded, start_embedded
from support.images import Graph, assert_holds, one_layer_image, push
from support.process import require
from support.push import Remote

pytestmark = pytest.mark.real

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
FOREIGN = {"manifests": {"urls": {"allow": ["^https?://"]}}}
IDENTITY, PRINCIPAL, HUB, ENTRA = "s3cret-identity", "s3cret-principal", "s3cret-hub", "s3cret-entra"
FILLED = {
    "<Docker Hub user name>": "hubuser",
    "<Docker Hub token>": HUB,
    "<SP_App_ID>": "sp-app-id",
    "<SP_Passwd>": PRINCIPAL,
    "<access-token>": ENTRA,
    "<username>": "hubuser",
    "<password>": HUB,
    "-u username -p password": f"-u sp-app-id -p {PRINCIPAL}",
}
USERS: dict[str, Any] = {
    "users": [
        {"name": "identity", "password": IDENTITY},
        {"name": "sp-app-id", "password": PRINCIPAL, "scopes": ["repository:*:pull"]},
        {"name": "entra", "access_tokens": [ENTRA], "scopes": ["repository:*:pull"]},
    ]
}


class Example(NamedTuple):
    """One command, and what there is afterwards: ``repository:tag`` or ``repository@`` for no tag."""

    text: str
    source: str
    target: str


EXAMPLES = {
    "docker-hub-hello-world": Example(
        """
az acr import \\
  --name myregistry \\
  --source docker.io/library/hello-world:latest \\
  --image hello-world:latest
""",
        "library/hello-world",
        "hello-world:latest",
    ),
    "by-digest-without-a-tag": Example(
        """
az acr import \\
   --name myregistry \\
   --source docker.io/library/hello-world@sha256:abc123 \\
   --repository hello-world
""",
        "library/hello-world",
        "hello-world@",
    ),
    "docker-hub-credentials": Example(
        """
az acr import \\
  --name myregistry \\
  --source docker.io/tensorflow/tensorflow:latest-gpu \\
  --image tensorflow:latest-gpu \\
  --username <Docker Hub user name> \\
  --password <Docker Hub token>
""",
        "tensorflow/tensorflow",
        "tensorflow:latest-gpu",
    ),
    "microsoft-container-registry": Example(
        """
az acr import \\
--name myregistry \\
--source mcr.microsoft.com/windows/servercore:ltsc2019 \\
--image servercore:ltsc2019
""",
        "windows/servercore",
        "servercore:ltsc2019",
    ),
    "same-subscription-by-login-server": Example(
        """
az acr import \\
  --name myregistry \\
  --source mysourceregistry.azurecr.io/aci-helloworld:latest \\
  --image aci-helloworld:latest
""",
        "aci-helloworld",
        "aci-helloworld:latest",
    ),
    "public-access-disabled-by-resource-id": Example(
        """
az acr import \\
  --name myregistry \\
  --source aci-helloworld:latest \\
  --image aci-helloworld:latest \\
  --registry /subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/\
sourceResourceGroup/providers/Microsoft.ContainerRegistry/registries/mysourceregistry
""",
        "aci-helloworld",
        "aci-helloworld:latest",
    ),
    "by-digest-without-image": Example(
        """
az acr import \\
  --name myregistry \\
  --source mysourceregistry.azurecr.io/aci-helloworld@sha256:123456abcdefg
""",
        "aci-helloworld",
        "aci-helloworld:latest",
    ),
    "another-subscription-by-resource-id": Example(
        """
az acr import \\
  --name myregistry \\
  --source aci-helloworld:latest \\
  --image aci-hello-world:latest \\
  --registry /subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/\
sourceResourceGroup/providers/Microsoft.ContainerRegistry/registries/sourceRegistry
""",
        "aci-helloworld",
        "aci-hello-world:latest",
    ),
    "service-principal": Example(
        """
az acr import \\
  --name myregistry \\
  --source sourceregistry.azurecr.io/sourcerrepo:tag \\
  --image targetimage:tag \\
  --username <SP_App_ID> \\
  --password <SP_Passwd>
""",
        "sourcerrepo",
        "targetimage:tag",
    ),
    "another-tenant-by-access-token": Example(
        """
az acr import \\
  --name myregistry \\
  --source sourceregistry.azurecr.io/sourcerrepo:tag \\
  --image targetimage:tag \\
  --password <access-token>
""",
        "sourcerrepo",
        "targetimage:tag",
    ),
    "private-docker-registry": Example(
        """
az acr import \\
  --name myregistry \\
  --source docker.io/sourcerepo/sourceimage:tag \\
  --image sourceimage:tag \\
  --username <username> \\
  --password <password>
""",
        "sourcerepo/sourceimage",
        "sourceimage:tag",
    ),
    "reference-inherits-repository-and-tag": Example(
        "az acr import -n myregistry --source sourceregistry.azurecr.io/sourcerepository:sourcetag",
        "sourcerepository",
        "sourcerepository:sourcetag",
    ),
    "reference-name-in-capitals": Example(
        "az acr import -n MyRegistry --source sourceregistry.azurecr.io/sourcerepository:sourcetag",
        "sourcerepository",
        "sourcerepository:sourcetag",
    ),
    "reference-target-repository-and-tag": Example(
        "az acr import -n myregistry --source docker.io/library/hello-world:latest"
        " -t targetrepository:targettag",
        "library/hello-world",
        "targetrepository:targettag",
    ),
    "reference-user-name-and-password": Example(
        "az acr import -n myregistry --source myprivateregistry.azurecr.io/hello-world:latest"
        " -u username -p password",
        "hello-world",
        "hello-world:latest",
    ),
    "reference-another-subscription": Example(
        """
az acr import -n myregistry --source sourcerepository:sourcetag -t targetrepository:targettag \\
    -r /subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/sourceResourceGroup/\
providers/Microsoft.ContainerRegistry/registries/sourceRegistry
""",
        "sourcerepository",
        "targetrepository:targettag",
    ),
    "force-over-an-older-image": Example(
        "az acr import -n myregistry --source docker.io/library/hello-world:latest -t old:tag --force",
        "library/hello-world",
        "old:tag",
    ),
    "group-subscription-and-several-targets": Example(
        "az acr import -g MyResourceGroup --subscription 00000000-0000-0000-0000-000000000000"
        " -n myregistry --source docker.io/library/hello-world:latest"
        " -t repo1:tag1 -t repo2:tag2 --repository repo3",
        "library/hello-world",
        "repo1:tag1 repo2:tag2 repo3@",
    ),
}
PASTED = """
az acr import \\
  --name myregistry \\
  --source docker.io/tensorflow/tensorflow:latest-gpu \\
  --image tensorflow:latest-gpu
  --username <Docker Hub user name>
  --password <Docker Hub token>
"""  # as the documentation has it: a backslash is missing
NO_WAIT = (
    "az acr import -n myregistry --source sourceregistry.azurecr.io/sourcerepository:sourcetag --no-wait"
)
MOVE = """
#!/bin/bash
# Modify registry names for your environment
SOURCE_REG=mysourceregistry
TARGET_REG=myregistry

# Get list of source repositories
REPO_LIST=$(az acr repository list \\
    --name $SOURCE_REG --output tsv)

# Enumerate tags and import to target registry
for repo in $REPO_LIST; do
    TAGS_LIST=$(az acr repository show-tags --name $SOURCE_REG --repository $repo --output tsv);
    for tag in $TAGS_LIST; do
        echo "Importing $repo:$tag";
        az acr import --name $TARGET_REG --source $SOURCE_REG.azurecr.io/$repo":"$tag;
    done
done
"""


@dataclass
class Sources:
    """What the examples import from; nothing is changed there."""

    tokens: TokenServer
    hub: DockerRegistry  # docker.io
    mcr: DockerRegistry
    azure: Embedded  # every source registry of Azure's
    graphs: dict[str, Graph]

    @property
    def azure_remote(self) -> Remote:
        return Remote(self.azure.host, basic=f"identity:{IDENTITY}")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    folder = tmp_path_factory.mktemp("sources")
    (folder / "azure").mkdir()
    free = dict.fromkeys(("library/hello-world", "tensorflow/tensorflow"), ("pull",))
    with ExitStack() as stack:
        tokens = stack.enter_context(TokenServer(users={"hubuser": HUB}, rights={ANONYMOUS: free}))
        hub = start_docker_registry(
            folder / "hub", auth=tokens.registry_auth(folder), bearer=lambda: tokens.mint(everything)
        )
        stack.callback(hub.stop)
        mcr = start_docker_registry(folder / "mcr", validation=FOREIGN)
        stack.callback(mcr.stop)
        azure = start_embedded(folder, folder / "azure", stack, users=USERS)
        images = {
            "library/hello-world": ("latest", hub, sample_index),
            "tensorflow/tensorflow": ("latest-gpu", hub, one_layer),
            "sourcerepo/sourceimage": ("tag", hub, one_layer),
            "windows/servercore": ("ltsc2019", mcr, windows),
            "aci-helloworld": ("latest", azure, sample_index),
            "sourcerrepo": ("tag", azure, one_layer),
            "sourcerepository": ("sourcetag", azure, one_layer),
            "hello-world": ("latest", azure, one_layer),
        }
        everything = [f"repository:{repository}:pull,push" for repository in images]
        found = Sources(tokens, hub, mcr, azure, {})
        for number, (repository, (tag, registry, make)) in enumerate(images.items()):
            builder = ImageBuilder(seed=number)
            remote = found.azure_remote if isinstance(registry, Embedded) else registry.remote
            found.graphs[repository] = push(remote, repository, builder, make(builder), tag)
        yield found


def one_layer(builder: ImageBuilder) -> Content:
    return one_layer_image(builder, 50_000)[0]


def windows(builder: ImageBuilder) -> Content:
    """An image of Windows as its registry has it: by Docker's media types, over a foreign layer."""
    layers = [builder.foreign_layer(), builder.random_layer(3000)]
    image = builder.image(layers, "windows/amd64", flavour="docker", os_version="10.0.17763.5936")
    return builder.index([image], flavour="docker")


@dataclass
class Shell:
    """A shell with ``az`` and an inventory, and the registry that is imported into."""

    sources: Sources
    target: DockerRegistry
    home: Path
    environment: dict[str, str]

    def write_inventory(self, *, closed: bool = False) -> None:
        """The file; `closed`: the source registries have no public access."""
        who = {"credentials": {"username": "identity", "password_env": "IDENTITY"}}
        mine = {"login_server": self.target.host, "resource_group": "MyResourceGroup"}
        theirs = {"login_server": self.sources.azure.host, "resource_group": "sourceResourceGroup", **who}
        theirs["public_network_access"] = "Disabled" if closed else "Enabled"
        registries = [
            {"name": "myregistry", "subscription": SUBSCRIPTION, **mine},
            {"name": "mysourceregistry", "subscription": SUBSCRIPTION, **theirs},
            {"name": "sourceRegistry", "subscription": SUBSCRIPTION.replace("0", "1"), **theirs},
        ]
        # A registry of another tenant, of which nothing but its place is known.
        hosts = {"myprivateregistry.azurecr.io": self.sources.azure.host}
        hosts |= {"docker.io": self.sources.hub.host, "mcr.microsoft.com": self.sources.mcr.host}
        path = Path(self.environment["CROSSDOCK_INVENTORY"])
        path.write_text(json.dumps({"registries": registries, "hosts": hosts}))

    def run(self, text: str, graph: Graph | None = None) -> subprocess.CompletedProcess[str]:
        """Run the text. No secret shows in what it says, in the target's log or in what is kept."""
        for placeholder, value in FILLED.items():
            text = text.replace(placeholder, value)
        if graph is not None:
            text = text.replace("sha256:abc123", graph.root).replace("sha256:123456abcdefg", graph.root)
        done = subprocess.run(
            [require("bash"), "-c", f'az() {{ {sys.executable} -m crossdock "$@"; }}\n{text}'],
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        kept = [path.read_bytes().decode(errors="replace") for path in self.home.rglob("*") if path.is_file()]
        for said in (done.stdout, done.stderr, self.target.process.log.read_text(), *kept):
            assert not [secret for secret in (IDENTITY, PRINCIPAL, HUB, ENTRA) if secret in said]
        return done

    def ok(self, text: str, graph: Graph | None = None) -> str:
        """Run what must succeed; its stdout."""
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
    for place in example.target.split():
        repository, at, _ = place.partition("@")
        tag = "" if at else repository.partition(":")[2]
        repository = repository.partition(":")[0]
        assert_holds(shell.target.remote, repository, tag or graph.root, graph)
        assert shell.target.remote.tags(repository) == ([tag] if tag else [])


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


def test_what_was_imported_is_looked_at_with_the_documented_commands(shell: Shell) -> None:
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

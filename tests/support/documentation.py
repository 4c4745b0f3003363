"""The commands of the documentation of ``az acr import``, and registries of this machine in their names.

From Microsoft's "Import container images to a container registry" and "Manually move a container registry to
another region", and from the reference of ``az acr``, as of mid-2024. Only ``<placeholders>`` and made-up
digests are filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from crossdock.imagebuilder import Content, ImageBuilder, sample_index
from crossdock_testing.tokens import ANONYMOUS, TokenServer
from support.docker_registry import DockerRegistry, start_docker_registry
from support.embedded import Embedded, start_embedded
from support.images import Graph, assert_holds, one_layer_image, push
from support.push import Remote

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
OTHER_SUBSCRIPTION = SUBSCRIPTION.replace("0", "1")
FOREIGN = {"manifests": {"urls": {"allow": ["^https?://"]}}}
SECRETS = IDENTITY, PRINCIPAL, HUB, ENTRA = (
    "s3cret-identity",
    "s3cret-principal",
    "s3cret-hub",
    "s3cret-entra",
)
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
    """One command, and its result: ``repository:tag``, or ``repository@`` for no tag."""

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
    """The sources of the examples, which stay unchanged."""

    tokens: TokenServer
    hub: DockerRegistry  # docker.io
    mcr: DockerRegistry
    azure: Embedded  # every source registry of Azure's
    graphs: dict[str, Graph]

    @property
    def azure_remote(self) -> Remote:
        """A client of the suite's own that may do everything there."""
        return replace(self.azure.remote, basic=f"identity:{IDENTITY}")

    def inventory(self, target: Mapping[str, Any], *, closed: bool = False) -> dict[str, Any]:
        """The document. `target` joins the entry of myregistry; `closed`: sources without public access."""
        who = {"credentials": {"username": "identity", "password_env": "IDENTITY"}}
        theirs = {"login_server": self.azure.host, "resource_group": "sourceResourceGroup", **who}
        theirs["public_network_access"] = "Disabled" if closed else "Enabled"
        if self.azure.ca_file:
            theirs["tls"] = {"ca": str(self.azure.ca_file)}
        mine = {"resource_group": "MyResourceGroup", **target}
        registries = [
            {"name": "myregistry", "subscription": SUBSCRIPTION, **mine},
            {"name": "mysourceregistry", "subscription": SUBSCRIPTION, **theirs},
            {"name": "sourceRegistry", "subscription": OTHER_SUBSCRIPTION, **theirs},
        ]
        # A registry of another tenant, of which nothing but its place is known.
        hosts = {"myprivateregistry.azurecr.io": self.azure.host}
        hosts |= {"docker.io": self.hub.host, "mcr.microsoft.com": self.mcr.host}
        return {"registries": registries, "hosts": hosts}


def start_sources(folder: Path, stack: ExitStack, *, tls: bool = False) -> Sources:
    """Start them until `stack` ends; `tls`: Azure's speak HTTPS."""
    (folder / "azure").mkdir()
    free = dict.fromkeys(("library/hello-world", "tensorflow/tensorflow"), ("pull",))
    tokens = stack.enter_context(TokenServer(users={"hubuser": HUB}, rights={ANONYMOUS: free}))
    hub = start_docker_registry(
        folder / "hub", auth=tokens.registry_auth(folder), bearer=lambda: tokens.mint(everything)
    )
    stack.callback(hub.stop)
    mcr = start_docker_registry(folder / "mcr", validation=FOREIGN)
    stack.callback(mcr.stop)
    azure = start_embedded(folder, folder / "azure", stack, tls=tls, users=USERS)
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
    return found


def one_layer(builder: ImageBuilder) -> Content:
    """A small image."""
    return one_layer_image(builder, 50_000)[0]


def windows(builder: ImageBuilder) -> Content:
    """An image of Windows as its registry has it: by Docker's media types, over a foreign layer."""
    layers = [builder.foreign_layer(), builder.random_layer(3000)]
    image = builder.image(layers, "windows/amd64", flavour="docker", os_version="10.0.17763.5936")
    return builder.index([image], flavour="docker")


def fill(text: str, graph: Graph | None = None) -> str:
    """The command with its placeholders filled in, and its made-up digests by the graph's root."""
    for placeholder, value in FILLED.items():
        text = text.replace(placeholder, value)
    if graph is not None:
        text = text.replace("sha256:abc123", graph.root).replace("sha256:123456abcdefg", graph.root)
    return text


def assert_imported(remote: Remote, places: str, graph: Graph) -> None:
    """An `Example.target` is there: the whole graph in each place, and no other tag than the one said."""
    for place in places.split():
        repository, at, _ = place.partition("@")
        tag = "" if at else repository.partition(":")[2]
        repository = repository.partition(":")[0]
        assert_holds(remote, repository, tag or graph.root, graph)
        assert remote.tags(repository) == ([tag] if tag else [])

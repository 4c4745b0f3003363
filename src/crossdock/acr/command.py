"""The arguments of ``az acr import`` as a request, checked in az's order and with its messages."""

from __future__ import annotations

import re

from msgspec import Struct, field

from crossdock.acr.names import REGIONAL, home_of, registry_name, split_source
from crossdock.acr.request import ImportRequest, ImportSource, SourceCredentials
from crossdock.errors import Advice, InvalidInput, InvalidOption
from crossdock.inventory.values import ACR_SUFFIX, Entry, Inventory, ResourceId
from crossdock.oci.reference import Reference
from crossdock.oci.registryname import registry_key

NO_PASSWORD = "Authentication failed. Please provide password."  # noqa: S105 - a message
NO_SOURCE_REGISTRY = (
    "The source container registry can not be found in the current subscription. "
    "Please provide a valid address and/or credentials."
)
NOT_FOUND = (
    "The resource with name '{}' and type 'Microsoft.ContainerRegistry/registries' "
    "could not be found in subscription '{}'."
)
NO_WAIT = "Import has started. Due to no-wait option, failures will not be reflected."

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?")


class ImportWords(Struct, frozen=True, kw_only=True):
    """The arguments of the command. ``repr`` does not show the password."""

    name: str
    source: str
    images: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    registry: str = ""
    username: str = ""
    password: str = ""
    force: bool = False
    resource_group: str = ""
    subscription: str = ""

    def __repr__(self) -> str:
        return f"<ImportWords {self.source!r} to {self.name!r}>"


class Checked(Struct, frozen=True, kw_only=True):
    """A request and its registries."""

    request: ImportRequest
    target: Entry
    source: Entry | None  # None: the inventory does not have it
    warnings: tuple[str, ...] = field(default_factory=tuple)


def check_words(words: ImportWords, inventory: Inventory) -> Checked:
    """The import of `words`. Raises `InvalidInput` with the message of the first check that fails."""
    warnings: list[str] = []
    name = read_name(words.name, inventory, warnings)
    _check_credentials(words)
    target = find_target(
        name,
        inventory,
        subscription=words.subscription,
        resource_group=words.resource_group,
    )
    source, entry = _source(words, target, inventory, warnings)
    request = ImportRequest(
        source=source,
        target_tags=words.images,
        untagged_target_repositories=words.repositories,
        mode="Force" if words.force else "NoForce",
    )
    return Checked(request=request, target=target, source=entry, warnings=tuple(warnings))


def read_name(text: str, inventory: Inventory, warnings: list[str]) -> str:
    """The target's name as `find_target` expects it. Raises `InvalidInput` (checks 1 to 4).

    Names and login servers of the inventory need not have Azure's form.
    """
    if not text.lower().endswith(ACR_SUFFIX) and (inventory.named(text) or ResourceId.parse(text)):
        return text
    name, warning = registry_name(text)
    if warning:
        warnings.append(warning)
    return name


def find_target(
    name: str, inventory: Inventory, *, subscription: str = "", resource_group: str = ""
) -> Entry:
    """The registry with this name; outside the inventory, NAME.azurecr.io.

    Raises `InvalidInput` when the inventory has the name and none of its entries matches, or several do
    (az-contract 1.2, check 6).
    """
    found = inventory.find(name, subscription=subscription, resource_group=resource_group)
    if found is not None:
        return found
    by_id = ResourceId.parse(name)
    bare = by_id.name if by_id else name
    if known := inventory.named(bare):
        raise InvalidInput(
            NOT_FOUND.format(bare, subscription or (by_id.subscription if by_id else known[0].subscription)),
            advice=Advice(
                "check-inventory",
                f"the inventory has it in {', '.join(_whereabouts(each) for each in known)}",
            ),
        )
    return _unlisted(bare, f"{bare}{ACR_SUFFIX}", by_id)


def login_server(text: str, inventory: Inventory, *, subscription: str = "", resource_group: str = "") -> str:
    """``host[:port]`` of the registry with this name, login server or resource ID.

    A host outside the inventory is used as it is, whatever its suffix. Raises `InvalidInput` for anything but
    a host or name, and as `find_target`.
    """
    is_host = "." in text or ":" in text or text == "localhost"
    if is_host and not inventory.named(text) and ResourceId.parse(text) is None:
        return Reference(text, "name").registry  # validated
    name = read_name(text, inventory, [])
    return find_target(name, inventory, subscription=subscription, resource_group=resource_group).login_server


def _check_credentials(words: ImportWords) -> None:
    if words.username and not words.password:
        raise InvalidInput(NO_PASSWORD, advice=Advice("give-password"))
    if words.registry and (words.username or words.password):
        raise InvalidOption(
            "a source registry by name and credentials contradict each other: they would be ignored",
            advice=Advice("omit-credentials"),
        )


def _source(
    words: ImportWords, target: Entry, inventory: Inventory, warnings: list[str]
) -> tuple[ImportSource, Entry | None]:
    if words.registry:
        entry = _named_source(words, target, inventory)
        image = _without_host(words.source, entry, warnings)
        by_id = words.registry if ResourceId.parse(words.registry) else entry.resource_id
        # An entry without a resource ID is still named as a resource.
        return ImportSource(source_image=image, resource_id=by_id or entry.name), entry
    registry, image = split_source(words.source)
    if home := home_of(registry):
        warnings.append(REGIONAL)
        registry = home
    subscription = words.subscription or target.subscription
    found = inventory.prefer(registry, subscription) if inventory.named(registry) else None
    if words.password:
        who = SourceCredentials(words.password, words.username or None)
        return ImportSource(source_image=image, registry_uri=registry, credentials=who), found
    if found is not None and found.resource_id and found.public_network_access == "Enabled":
        # As az for a registry of the subscription. Without public access it must be named by its ID.
        return ImportSource(source_image=image, resource_id=found.resource_id), found
    return ImportSource(source_image=image, registry_uri=registry), found


def _named_source(words: ImportWords, target: Entry, inventory: Inventory) -> Entry:
    """The source registry by its name (az-contract 1.2, check 8)."""
    text = home_of(words.registry) or words.registry
    try:
        if words.subscription:
            found = inventory.find(text, subscription=words.subscription)
        else:
            found = inventory.prefer(text, target.subscription)
    except InvalidInput as error:
        raise InvalidInput(f"{error}. {NO_SOURCE_REGISTRY}", advice=error.advice) from None
    if found is not None:
        return found
    by_id = ResourceId.parse(text)
    bare = by_id.name if by_id else text.removesuffix(ACR_SUFFIX)
    if inventory.named(bare) or not (by_id or _HOST.fullmatch(text)):
        raise InvalidInput(
            NO_SOURCE_REGISTRY,
            advice=Advice("use-resource-id", "name it by its resource ID if it is in another subscription"),
        )
    is_host = by_id is None and ("." in text or ":" in text)
    return _unlisted(bare, text if is_host else f"{bare}{ACR_SUFFIX}", by_id)


def _without_host(image: str, entry: Entry, warnings: list[str]) -> str:
    """The image of a source given with its registry: its login server is left out.

    az does so only for a name (az-contract 1.2, check 9); with a resource ID its image and target would
    contain the login server.
    """
    server, slash, rest = image.partition("/")
    own = (entry.login_server, f"{entry.name}{ACR_SUFFIX}")
    if not slash or registry_key(server) not in map(registry_key, own):
        return image
    warnings.append(
        f'The login server name of "{server.lower()}" in the "--source" argument will be ignored as '
        '"--registry" already supplies the same information'
    )
    return rest


def _unlisted(name: str, login_server: str, by_id: ResourceId | None = None) -> Entry:
    """A registry outside the inventory."""
    return Entry(
        name=name,
        login_server=login_server.lower(),
        subscription=by_id.subscription if by_id else "",
        resource_group=by_id.resource_group if by_id else "",
    )


def _whereabouts(entry: Entry) -> str:
    return entry.resource_id or entry.place or entry.login_server

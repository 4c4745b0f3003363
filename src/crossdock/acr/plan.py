"""From a request to a plan: the references and registries of an import, with every choice made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from msgspec import Struct

from crossdock.acr.names import SourceImage, default_target, home_of, target_tag, untagged_target
from crossdock.acr.policy import check_policies
from crossdock.acr.request import ImportRequest
from crossdock.errors import Advice, InvalidInput
from crossdock.inventory.values import Entry, Inventory, ResourceId
from crossdock.oci.reference import Reference
from crossdock.oci.registryname import registry_key
from crossdock.oci.text import quote
from crossdock.options import CopyOptions, Credentials, RegistryOptions


class ImportPlan(Struct, frozen=True, kw_only=True):
    """One import, with every choice made. Untagged targets come last; each target is listed once."""

    source: Reference
    targets: tuple[Reference, ...]
    force: bool
    source_entry: Entry | None  # None: the inventory does not have the source registry
    target_entry: Entry
    credentials: Credentials | None  # the caller's own at the source


def find_source(request: ImportRequest, target: Entry, inventory: Inventory) -> Entry | None:
    """The inventory's entry of a request's source registry; None for a registry that it does not have.

    Raises `InvalidInput` for a resource ID that is not in the inventory, and for an address that is not
    ``host[:port]``.
    """
    source = request.source
    if source.resource_id is not None:
        entry = inventory.find(source.resource_id)
        if entry is None or ResourceId.parse(source.resource_id) is None:
            raise InvalidInput(
                f"The source registry {quote(source.resource_id)} could not be found.",
                advice=Advice(
                    "check-inventory",
                    "give the resource ID of a registry that the inventory has, or registryUri",
                ),
            )
        return entry
    assert source.registry_uri is not None
    registry = Reference(source.registry_uri, "name").registry  # validated
    registry = home_of(registry) or registry
    return inventory.prefer(registry, target.subscription) if inventory.named(registry) else None


def make_plan(request: ImportRequest, target: Entry, source: Entry | None) -> ImportPlan:
    """The plan of an import that the policies of both registries permit; `source` is from `find_source`.

    Raises `PolicyRefused`, and `InvalidInput` for invalid names.
    """
    wanted = request.source
    check_policies(source, target, by_resource=wanted.resource_id is not None)
    image = SourceImage.parse(wanted.source_image)
    tags, untagged = request.target_tags, request.untagged_target_repositories
    if not (tags or untagged):
        tags = (default_target(wanted.source_image),)
    targets = [target_tag(text, image, target.login_server) for text in tags]
    targets += [untagged_target(text, target.login_server) for text in untagged]
    registry = source.login_server if source else wanted.registry_uri
    assert registry is not None
    return ImportPlan(
        source=image.at(registry),
        targets=tuple(dict.fromkeys(targets)),
        force=request.mode == "Force",
        source_entry=source,
        target_entry=target,
        credentials=wanted.credentials.plain() if wanted.credentials else None,
    )


def check_plans(plans: Sequence[ImportPlan]) -> None:
    """Raise `InvalidInput` unless imports into several registries have one source and different targets.

    A source named without its subscription is looked for in the target's first, so it may differ.
    """
    first = plans[0]
    entries: dict[str, Entry] = {}
    for each in plans:
        if (each.source, each.source_entry) != (first.source, first.source_entry):
            raise InvalidInput(
                f"the source is another one for {each.target_entry.name} ({each.source}) than for"
                f" {first.target_entry.name} ({first.source})",
                advice=Advice("use-resource-id"),
            )
        other = entries.setdefault(registry_key(each.target_entry.login_server), each.target_entry)
        if other != each.target_entry:
            raise InvalidInput(
                f"the target registries {other.name} and {each.target_entry.name} have one login server,"
                f" {other.login_server}",
                advice=Advice("check-inventory", "name one of them"),
            )


def options_of_all(
    plans: Sequence[ImportPlan], options: CopyOptions, inventory: Inventory, environ: Mapping[str, str]
) -> CopyOptions:
    """As `plan_options`, for an import into several registries, each with its entry's settings."""
    found = plan_options(plans[0], options, inventory, environ)
    if len(plans) == 1:
        return found
    targets = tuple(plan.target_entry for plan in plans)
    for each in targets:
        each.options(environ)  # a secret that is missing shows now
    registries = Inventory(registries=targets, hosts=inventory.hosts, place=inventory.place)
    return replace(found, target=options.target, registries=registries)


def plan_options(
    plan: ImportPlan,
    options: CopyOptions,
    inventory: Inventory,
    environ: Mapping[str, str],
    *,
    for_others: bool = False,
) -> CopyOptions:
    """`options` with the inventory's settings for the two registries. Reads secrets.

    Each side gets the entry that the plan names, since two entries may share a login server. `for_others`:
    the import runs for another caller, so a source outside the inventory never sees credentials of this
    process. Raises `CredentialsError`.
    """
    own = RegistryOptions(credentials=plan.credentials)
    entry = plan.source_entry
    known = (
        entry.options(environ, with_credentials=not own.knows_who)
        if entry
        else RegistryOptions(own_only=for_others)
    )
    return replace(
        options,
        source=own.over(known).over(options.source),
        target=plan.target_entry.options(environ).over(options.target),
        registries=Inventory(hosts=inventory.hosts, place=inventory.place),
    )

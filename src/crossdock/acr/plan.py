"""From a checked request to references: what is read, and what is written where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from msgspec import Struct

from crossdock.acr.command import Checked
from crossdock.acr.names import SourceImage, default_target, target_tag, untagged_target
from crossdock.acr.policy import check_policies
from crossdock.inventory.values import Entry, Inventory
from crossdock.oci.reference import Reference
from crossdock.options import CopyOptions, Credentials, RegistryOptions


class ImportPlan(Struct, frozen=True, kw_only=True):
    """One import, with nothing left to be chosen. Targets without tag come last; none is there twice."""

    source: Reference
    targets: tuple[Reference, ...]
    force: bool
    source_entry: Entry | None
    target_entry: Entry
    credentials: Credentials | None  # the caller's own at the source


def make_plan(checked: Checked) -> ImportPlan:
    """The plan of an import that the policies of both registries allow.

    Raises `PolicyRefused`, and `InvalidInput` for names that are none.
    """
    request, target = checked.request, checked.target
    source = request.source
    check_policies(checked.source, target, by_resource=source.resource_id is not None)
    image = SourceImage.parse(source.source_image)
    tags, untagged = request.target_tags, request.untagged_target_repositories
    if not (tags or untagged):
        tags = (default_target(source.source_image),)
    targets = [target_tag(text, image, target.login_server) for text in tags]
    targets += [untagged_target(text, target.login_server) for text in untagged]
    registry = checked.source.login_server if checked.source else source.registry_uri
    assert registry is not None
    return ImportPlan(
        source=image.at(registry),
        targets=tuple(dict.fromkeys(targets)),
        force=request.mode == "Force",
        source_entry=checked.source,
        target_entry=target,
        credentials=source.credentials.plain() if source.credentials else None,
    )


def plan_options(
    plan: ImportPlan,
    options: CopyOptions,
    inventory: Inventory,
    environ: Mapping[str, str],
    *,
    for_others: bool = False,
) -> CopyOptions:
    """`options` with what the inventory says of the two registries. Secrets are read now.

    Each side gets the entry that was meant, for two of them may have one login server. `for_others`: the
    import is somebody else's, so a source that the inventory does not have sees no credentials of this
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

"""``crossdock acr import``."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace as replaced

from crossdock.acr.command import NO_WAIT, ImportWords, check_words
from crossdock.cli.commands.acr.defaults import prepare
from crossdock.cli.commands.acr.flags import FORMATS, add_credentials, add_query, add_without_effect
from crossdock.cli.commands.acr.output import print_output, table
from crossdock.cli.commands.acr.words import given_password, inventory_of, warn, with_az_login
from crossdock.cli.exits import ExitCode
from crossdock.cli.flags import add_content, add_network, add_progress, copy_options
from crossdock.cli.parser import Parser
from crossdock.cli.streams import print_result
from crossdock.errors import Cancelled, CrossdockError
from crossdock.options import default_state_folder

if TYPE_CHECKING:
    from crossdock.acr.importing import ImportResult
    from crossdock.acr.limits import ImageLimits
    from crossdock.acr.plan import ImportPlan
    from crossdock.acr.registries import RegistryResult
    from crossdock.cli.tally import Tally
    from crossdock.inventory.values import Inventory
    from crossdock.options import CopyOptions


def add_flags(parser: Parser) -> None:
    """Add the flags of ``acr import``."""
    parser.description = (
        "Copy an image, unchanged, from any registry into the registry --name, or into several. If a\n"
        "target tag has other content, nothing is copied unless --force is given."
    )
    parser.add_argument(
        "-n",
        "--name",
        dest="names",
        action="append",
        default=[],
        metavar="NAME",
        help="target registry; repeatable: the source is read once (default: AZURE_DEFAULTS_ACR)",
    )
    parser.set_defaults(registry_flag=(("--name", "-n"), "names"))
    parser.add_argument(
        "--source",
        required=True,
        metavar="IMAGE",
        help="LOGIN_SERVER/REPOSITORY[:TAG][@DIGEST]; with --registry without the login server",
    )
    parser.add_argument(
        "-t",
        "--image",
        dest="images",
        action="append",
        default=[],
        metavar="REPOSITORY[:TAG]",
        help="target; repeatable (default: the source's name)",
    )
    parser.add_argument(
        "--repository",
        dest="repositories",
        action="append",
        default=[],
        metavar="REPOSITORY",
        help="target to which the manifest is copied by digest, without a tag; repeatable",
    )
    parser.add_argument(
        "-r", "--registry", default="", metavar="REGISTRY", help="source: name, login server or resource ID"
    )
    parser.add_argument("--force", action="store_true", help="overwrite tags")
    parser.add_argument("--no-wait", action="store_true", help="continue in the background")
    parser.add_argument("--dry-run", action="store_true", help="check both sides and copy nothing")
    parser.add_argument(
        "--strict-limits", action="store_true", help="refuse more than 50 manifests or a layer over 2 GiB"
    )
    add_content(parser)
    add_credentials(parser.add_argument_group("credentials at the source"), "user name")
    add_network(parser)
    add_progress(parser.add_argument_group("output"))
    parser.add_argument("-g", "--resource-group", default="", metavar="NAME", help="resource group of --name")
    parser.add_argument("--subscription", default="", metavar="ID", help="subscription of --name")
    parser.add_argument(
        "-o",
        "--output",
        type=str.lower,
        choices=FORMATS,
        help="format of stdout (default: print nothing, as az)",
    )
    add_query(parser)
    parser.add_argument("--only-show-errors", action="store_true", help="no warnings")
    add_without_effect(parser)


def run(namespace: argparse.Namespace) -> int:
    """Import. Nothing is sent before everything that can be checked here has been."""
    from crossdock.acr.limits import DOCUMENTED, NO_LIMITS
    from crossdock.acr.plan import options_of_all

    namespace.names = [name for name in namespace.names if name]  # an empty name counts as not given
    prepare(namespace)
    options = with_az_login(copy_options(namespace))
    inventory = inventory_of(options)
    plans = _plans(namespace, inventory)
    options = replace(options, state=default_state_folder(os.environ))
    options = options_of_all(plans, options, inventory, os.environ)
    if namespace.no_wait:
        warn(namespace, NO_WAIT)
        if _leave_in_background():
            return ExitCode.DONE
    limits = DOCUMENTED if namespace.strict_limits else NO_LIMITS
    if len(plans) > 1:
        return _import_into_several(namespace, plans, limits, options)
    return _import(namespace, plans[0], limits, options)


def _plans(namespace: argparse.Namespace, inventory: Inventory) -> list[ImportPlan]:
    """The import into each registry, those that are named twice once. Raises as `check_words` and `make_plan`
    do.
    """
    from crossdock.acr.plan import check_plans, make_plan

    words = _words(namespace)
    checked = [check_words(replaced(words, name=name), inventory) for name in namespace.names]
    warn(namespace, *dict.fromkeys(text for each in checked for text in each.warnings))
    plans: list[ImportPlan] = []
    for each in checked:
        plan = make_plan(each.request, each.target, each.source)
        if plan not in plans:
            plans.append(plan)
    check_plans(plans)
    return plans


def _import(
    namespace: argparse.Namespace, plan: ImportPlan, limits: ImageLimits, options: CopyOptions
) -> int:
    from crossdock.acr.importing import Import
    from crossdock.cli.running import error_of
    from crossdock.cli.tally import Tally

    work = Import(plan, dry_run=namespace.dry_run, limits=limits)
    tally = Tally(work.totals, face="acr")
    error = error_of(lambda session, listen: session.start(work, listen), options, tally, namespace)
    if isinstance(error, Cancelled):
        error = Cancelled(f"import of {plan.source} was cancelled")
    if error is not None:
        raise _resumable(error, tally, namespace, options)
    document = _document(work.result())
    _print(document, _rows(document), ("Repository", "Tag", "Digest"), namespace)
    return ExitCode.DONE


def _import_into_several(
    namespace: argparse.Namespace, plans: list[ImportPlan], limits: ImageLimits, options: CopyOptions
) -> int:
    """Import into several registries, and print the results, also when some failed."""
    from crossdock.acr.registries import RegistriesImport
    from crossdock.cli.failure import error_document
    from crossdock.cli.running import error_of
    from crossdock.cli.tally import Tally
    from crossdock.errors import CopiesFailed

    work = RegistriesImport(plans, dry_run=namespace.dry_run, limits=limits)
    tally = Tally(work.totals, work.pairs, face="acr")
    error = error_of(lambda session, listen: session.start(work, listen), options, tally, namespace)
    result = work.result()
    if isinstance(error, Cancelled):
        error = Cancelled(f"import of {plans[0].source} into {len(plans)} registries was cancelled")
    error = error or result.failure
    if error is None or isinstance(error, Cancelled | CopiesFailed):
        documents = [
            {**_document(each), "error": error_document(each.error, "acr") if each.error else None}
            for each in result.registries
        ]
        document = {
            "source": result.source,
            "digest": result.digest,
            "source_bytes": result.source_bytes,
            "registries": documents,
        }
        rows = [(each["registry"], *row, each["status"]) for each in documents for row in _rows(each)]
        _print(document, rows, ("Registry", "Repository", "Tag", "Digest", "Status"), namespace)
    if error is not None:
        raise _resumable(error, tally, namespace, options)
    return ExitCode.DONE


def _resumable(
    error: BaseException, tally: Tally, namespace: argparse.Namespace, options: CopyOptions
) -> BaseException:
    """`error` with the command that resumes, if uploads were kept; it does not repeat a password."""
    from crossdock.cli.running import how_to_resume

    if isinstance(error, CrossdockError):
        secret = namespace.password
        words = [each.replace(secret, "PASSWORD") if secret else each for each in namespace.words]
        error.resume = how_to_resume(tally.kept, words, options)
    return error


def _document(result: ImportResult | RegistryResult) -> dict[str, Any]:
    """The result as plain values, with advice in its warnings that names flags of ``acr``."""
    from crossdock.cli.failure import warning_text

    document = result.as_dict()
    return {**document, "warnings": [warning_text(each, "acr") for each in document["warnings"]]}


def _words(namespace: argparse.Namespace) -> ImportWords:
    """The arguments, without the name of a target registry."""
    username, password = namespace.username, given_password(namespace, "crossdock acr import")
    if not password and not namespace.registry:  # --registry has credentials of its own
        password = os.environ.get("CROSSDOCK_SOURCE_PASSWORD", "")
        if password:
            username = username or os.environ.get("CROSSDOCK_SOURCE_USERNAME", "")
    return ImportWords(
        name="",
        source=namespace.source,
        images=tuple(namespace.images),
        repositories=tuple(namespace.repositories),
        registry=namespace.registry,
        username=username,
        password=password,
        force=namespace.force,
        resource_group=namespace.resource_group,
        subscription=namespace.subscription,
    )


def _leave_in_background() -> bool:
    """Fork a process without terminal and streams that continues; returns True in the parent.

    A fork passes secrets on without arguments or files. No thread and no event loop exists yet.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        return True
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    return False


def _print(
    document: dict[str, Any],
    rows: list[tuple[str, ...]],
    headings: tuple[str, ...],
    namespace: argparse.Namespace,
) -> None:
    """Print nothing without ``--output``, as az does. Tables list the targets, in `rows`."""
    output, query = namespace.output, namespace.query
    if output == "table" and query is None:
        print_result("\n".join(table([dict(zip(headings, row, strict=True)) for row in rows])))
    elif output == "tsv" and query is None:
        print_result("\n".join("\t".join(row) for row in rows))
    elif output is not None:
        print_output(document, output, query)


def _rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """The targets in one registry."""
    names = ("repository", "tag", "digest")
    return [tuple(each[name] or "" for name in names) for each in document["targets"]]

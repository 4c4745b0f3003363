"""``crossdock mirror``: a registry's repositories and tags, one display, one report."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from crossdock.cli.exits import ExitCode, UsageError
from crossdock.cli.flags import add_copying, read_options
from crossdock.cli.parser import Parser
from crossdock.cli.shards import add_machines, place_of
from crossdock.cli.streams import print_result, warn
from crossdock.cli.values import checked, integer
from crossdock.errors import Cancelled, InvalidInput
from crossdock.units import parse_duration

if TYPE_CHECKING:
    from crossdock.clusters.place import ClusterPlace
    from crossdock.mirroring.run import MirrorOptions, MirrorResult, MirrorRun
    from crossdock.oci.reference import Location, Reference
    from crossdock.options import CopyOptions
    from crossdock.runs.results import PairResult
    from crossdock.runs.run import Run

_PATTERNS = ("repositories", "exclude", "tags", "exclude_tags")


def add_flags(parser: Parser) -> None:
    """Add the flags of ``mirror``."""
    parser.description = (
        "Copy all repositories and tags of SOURCE to every TARGET. Nothing is deleted at a target.\n"
        "SOURCE and TARGET are HOST[:PORT][/PREFIX]; an inventory entry's name may replace HOST[:PORT].\n"
        "SOURCE may be oci:DIR, a layout: then TARGET is a repository.\n"
        "Patterns are shell patterns, except that * also matches slashes, or /regular expressions/."
    )
    parser.add_argument("source", metavar="SOURCE", help="registry or layout to copy from")
    parser.add_argument("targets", metavar="TARGET", nargs="+", help="registry to copy to; repeatable")
    _add_choice(parser.add_argument_group("selection"))
    _add_naming(parser.add_argument_group("names at the targets"))
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="copy nothing; print the pairs that would be checked, in the format of `copy --from-file`",
    )
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first copy that fails")
    add_machines(parser)
    add_copying(parser)


def _add_choice(group: Any) -> None:
    several = partial(group.add_argument, action="append", default=[], metavar="PATTERN")
    add = partial(group.add_argument, default=argparse.SUPPRESS)
    several(
        "--repository",
        dest="repositories",
        help="mirror only these repositories, named relative to PREFIX; repeatable; the catalog is queried "
        "only for patterns",
    )
    several("--exclude", help="skip these repositories; repeatable")
    several("--tags", help="mirror only these tags; repeatable")
    several("--exclude-tags", help="skip these tags; repeatable")
    add("--semver", metavar="RANGE", help='mirror only versions in RANGE: ">=1.2 <3", "^1.2", "~1.2 || 2.x"')
    add(
        "--pushed-after",
        type=checked(_pushed_after),
        metavar="WHEN",
        help="mirror only tags pushed since a date (2026-01-31) or within a time (90d), if the source's "
        "lists tell push times",
    )
    add(
        "--min-age",
        type=checked(parse_duration),
        metavar="TIME",
        help="mirror only tags pushed at least this long ago (72h), likewise",
    )
    add(
        "--newest",
        type=checked(integer, lambda number: _check_least(number, 1)),
        metavar="N",
        help="of these, mirror only the N newest tags of each repository",
    )
    add(
        "--sort",
        choices=("semver", "pushed", "name"),
        help="what newest means (default semver, which skips names that are no version)",
    )
    group.add_argument(
        "--untagged",
        action="store_true",
        help="also mirror manifests without a tag, if the source lists them (Azure)",
    )


def _add_naming(group: Any) -> None:
    group.add_argument(
        "--rename",
        action="append",
        default=[],
        type=checked(_rename),
        metavar="MATCH=NAME",
        help="replace what the regular expression MATCH matches in a repository's name, relative to PREFIX; "
        "\\1 in NAME is its first group; repeatable: the first that matches applies",
    )
    group.add_argument(
        "--flatten",
        type=checked(integer, lambda number: _check_least(number, 0)),
        default=0,
        metavar="N",
        help="then keep only the last N parts of the name (default 0: all)",
    )


def _pushed_after(text: str) -> dict[str, float]:
    from crossdock.mirroring.choice import pushed_since  # needed for few commands

    return pushed_since(text)


def _check_least(number: int, least: int) -> None:
    if number < least:
        raise ValueError(f"must be {least} or more")


def _rename(text: str) -> tuple[str, str]:
    match, equals, name = text.rpartition("=")
    if not equals or not match:
        raise ValueError(f"{text!r} is not of the form MATCH=NAME")
    return match, name


def run(namespace: argparse.Namespace) -> int:
    """Mirror, and print the result."""
    from crossdock.cli.loop import run_until_done
    from crossdock.cli.report import MirrorReport, ReportFile
    from crossdock.cli.running import Listen, close_run, error_of
    from crossdock.cli.tally import Tally
    from crossdock.events import Warned
    from crossdock.session import Session

    options = read_options(namespace)
    if namespace.shard is not None:
        options = namespace.shard.share(options)
    mirroring = _run_of(namespace, options, place_of(namespace, options))
    if namespace.dry_run:
        mirroring.on_warning = warn
        run_until_done(mirroring.list_pairs(_print_pair))
        return ExitCode.DONE
    keeps_blobs = namespace.report is not None
    keeps = keeps_blobs or namespace.output == "json"
    report = MirrorReport(mirroring.entry, namespace.shard, keeps=keeps)
    with ReportFile(namespace.report) as file, report:
        tally = Tally(mirroring.totals, mirroring.window, keeps_blobs=keeps_blobs)

        def keep(copy: int, result: PairResult) -> None:
            report.add(result, tally.blobs(copy))
            tally.forget(copy)

        def start(session: Session, listen: Listen) -> Run[MirrorResult]:
            mirroring.on_result = keep
            mirroring.on_warning = lambda message: listen(None, Warned(message))
            return session.start(mirroring, listen)

        error = error_of(start, options, tally, namespace, results="changed")
        result = mirroring.result()
        if isinstance(error, Cancelled):
            done = result.copied + result.unchanged
            error = Cancelled(f"cancelled when {done} of {result.copies} copies were done")
        report.finish(result)
        return close_run(error or result.failure, report, file, namespace, options, tally.kept)


def _run_of(namespace: argparse.Namespace, options: CopyOptions, cluster: ClusterPlace | None) -> MirrorRun:
    from crossdock.inventory.values import Inventory
    from crossdock.mirroring.run import MirrorRun

    inventory = Inventory.of(options.registries)
    names = (*_PATTERNS, "untagged", "rename", "flatten", "fail_fast", "semver", "newest", "sort", "min_age")
    chosen = {name: getattr(namespace, name) for name in names if hasattr(namespace, name)}
    chosen |= getattr(namespace, "pushed_after", {})
    try:
        source = inventory.addressed(namespace.source)
        targets = [inventory.addressed(each) for each in namespace.targets]
        if cluster is None or namespace.dry_run:
            return MirrorRun.of(source, targets, options, cast("MirrorOptions", chosen), namespace.shard)
        from crossdock.clusters.mirroring import ClusterMirror

        run = ClusterMirror.of(source, targets, options, cast("MirrorOptions", chosen))
        run.place = cluster
        return run
    except InvalidInput as error:
        raise UsageError(str(error), advice=error.advice, command="crossdock mirror") from None


def _print_pair(source: Location, target: Reference) -> None:
    print_result(f"{source} {target}")

"""``crossdock plan``: what a migration file would do, what that costs, and what cannot be done."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from crossdock.cli.exits import ExitCode, UsageError
from crossdock.cli.failure import fold
from crossdock.cli.flags import add_network, add_output, add_sides, read_options
from crossdock.cli.parser import Parser
from crossdock.cli.streams import print_json, print_note, print_result, warn
from crossdock.cli.values import file_path, readable_file

if TYPE_CHECKING:
    from crossdock.migration.file import MigrationFile
    from crossdock.migration.plan import EntryPlan, Plan
    from crossdock.migration.planner import Planner
    from crossdock.options import CopyOptions

_SHOWN_PROBLEMS = 20
_SHOWN = 5  # tags to delete, of each entry and target
_TELL_S = 10.0  # between two lines about how far it is


def add_flags(parser: Parser) -> None:
    """Add the flags of ``plan``."""
    parser.description = (
        "List both sides and show what `crossdock apply FILE` would copy, its cost, and what cannot be\n"
        "done. Nothing is written to a registry."
    )
    parser.add_argument("file", metavar="FILE", nargs="?", type=readable_file, help="migration file")
    parser.add_argument(
        "--measure", action="store_true", help="read 64 MiB of the source to estimate the time"
    )
    parser.add_argument(
        "--exit-code",
        action="store_true",
        help="exit with 13 if something cannot be done, else with 12 if there is something to do",
    )
    other = parser.add_argument_group("about migration files")
    other.add_argument("--schema", action="store_true", help="print the JSON schema of migration files")
    other.add_argument(
        "--from",
        dest="tool",
        choices=("regsync", "skopeo"),
        help="FILE is of this tool: convert it to a migration file, and report what cannot be converted",
    )
    other.add_argument(
        "--to",
        metavar="TARGET",
        default="",
        help="with --from: the target, HOST[:PORT][/PREFIX], which skopeo's file does not contain",
    )
    output = parser.add_argument_group("output")
    add_output(output)
    output.add_argument(
        "--out",
        type=file_path,
        metavar="PLAN.json",
        help="write the plan for review, and for `crossdock apply`",
    )
    output.add_argument("--html", type=file_path, metavar="FILE", help="write the plan as a page with charts")
    add_sides(parser)
    add_network(parser)


def run(namespace: argparse.Namespace) -> int:
    """Plan, and print the result."""
    if namespace.schema:
        from crossdock.migration.file import schema

        print_json(schema())
        return ExitCode.DONE
    if namespace.file is None:
        raise UsageError("plan needs a migration file, or --schema", command="crossdock plan")
    if namespace.tool is not None:
        return _translate(namespace)
    if namespace.to:
        raise UsageError("--to goes with --from", command="crossdock plan")
    from crossdock.cli.loop import run_until_done
    from crossdock.cli.report import ReportFile, check_outputs
    from crossdock.inventory.values import Inventory
    from crossdock.migration.file import read_migration

    check_outputs("crossdock plan", Path(namespace.file), out=namespace.out, html=namespace.html)
    options = read_options(namespace)
    file = read_migration(Path(namespace.file), Inventory.of(options.registries), os.environ)
    for warning in file.warnings:
        warn(warning)
    with ReportFile(namespace.html, "--html", "nothing was copied") as page:
        plan = run_until_done(_plan(file, options, namespace))
        if namespace.html is not None:
            page.write(_page(plan, namespace.file))
    if namespace.output == "json":
        print_json(plan.document())
    else:
        print_result("".join(_text(plan, file)).rstrip("\n"), brief=_brief(plan))
    if plan.failure is not None:
        raise plan.failure
    if not namespace.exit_code:
        return ExitCode.DONE
    return (
        ExitCode.HINDERED
        if plan.is_hindered
        else ExitCode.NOTHING_MATCHED
        if plan.has_work
        else ExitCode.DONE
    )


def _page(plan: Plan, file: str) -> Iterator[str]:
    from datetime import UTC, datetime

    from crossdock.cli.page import plan_page

    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return plan_page(plan.document(), file=os.path.basename(file), made=made)


async def _plan(file: MigrationFile, options: CopyOptions, namespace: argparse.Namespace) -> Plan:
    from crossdock.migration.planfile import PlanWriter
    from crossdock.migration.planner import Planner
    from crossdock.runs.places import Places

    async with Places(file.limits.over(options), writes=False) as places:
        with ExitStack() as closing:
            writer = PlanWriter(namespace.out, file) if namespace.out is not None else None
            planner = Planner(file.entries, places, file.limits, on_warning=warn)
            if writer is not None:
                closing.callback(writer.discard)
                planner.on_view = writer.add
            telling = asyncio.ensure_future(_tell(planner))
            try:
                plan = await planner.plan()
            finally:
                telling.cancel()
            if namespace.measure:
                await planner.measure(plan)
            if writer is not None and plan.failure is None:
                writer.finish(plan)
        for message in places.take_warnings():
            warn(message)
    return plan


async def _tell(planner: Planner) -> None:
    """Say on stderr how far a long plan is."""
    while True:
        await asyncio.sleep(_TELL_S)
        if planner.repositories:
            print_note(f"planned {planner.planned:,} of {planner.repositories:,} repositories")


def _translate(namespace: argparse.Namespace) -> int:
    """Print our file for one of another tool."""
    from crossdock.migration.foreign import translate_file

    found = translate_file(namespace.tool, Path(namespace.file), namespace.to)
    for each in found.notes:
        warn(each)
    if namespace.output == "json":
        print_json({"file": found.text, "notes": list(found.notes)})
    else:
        print_result(found.text.rstrip("\n"))
    return ExitCode.DONE


# -- for people ----------------------------------------------------------------------------------------------

_COLUMNS = ("repositories", "tags", "new", "changed", "same", "delete", "to move", "present", "mounted")


def _text(plan: Plan, file: MigrationFile) -> Iterator[str]:
    from crossdock.units import count, format_duration, format_size

    rows = [[fold(each.name), fold(each.target), *_figures(each)] for each in plan.entries]
    if len(rows) > 1:
        rows.append(["total", "", *_figures_of(plan.totals())])
    yield from _table(["mirror", "target", *_COLUMNS], rows)
    for entry in plan.entries:
        if entry.deletes:
            others = entry.tags_to_delete - _SHOWN
            shown = ", ".join(map(fold, entry.deletes[:_SHOWN]))
            yield f"to delete: {shown}{f' and {others:,} more' if others > 0 else ''}\n"
    for host, each in plan.requests.items():
        line = f"requests to {host}: {each.needed:,}"
        if each.minutes is not None:
            line += f", at {each.limit_per_minute:,.4g} a minute {format_duration(each.minutes * 60)}"
        yield f"{line}\n"
    if plan.seconds is not None:
        size = format_size(plan.totals()["bytes_to_move"])
        yield f"time to move {size}: {format_duration(plan.seconds)}\n"
    problems = [problem for each in plan.entries for problem in each.problems]
    left = sum(each.problems_left_out for each in plan.entries)
    if not problems:
        yield "no problems\n"
        return
    yield f"{count(len(problems) + left, 'problem')}:\n"
    for problem in problems[:_SHOWN_PROBLEMS]:
        yield f"  {problem.kind:<12} {fold(problem.reference)}: {fold(problem.detail)}\n"
    if (more := len(problems) + left - _SHOWN_PROBLEMS) > 0:
        yield f"  … {more:,} more: --output json lists them\n"


def _brief(plan: Plan) -> str:
    from crossdock.units import count, format_size

    totals = plan.totals()
    problems = sum(len(each.problems) + each.problems_left_out for each in plan.entries)
    copied = count(totals["tags_new"] + totals["tags_changed"], "tag")
    return f"{copied} to copy, {format_size(totals['bytes_to_move'])} to move, {count(problems, 'problem')}"


def _figures(entry: EntryPlan) -> list[str]:
    from crossdock.migration.plan import SUMS

    return _figures_of({name: getattr(entry, name) for name in SUMS})


def _figures_of(sums: dict[str, int]) -> list[str]:
    from crossdock.units import format_size

    counted = ("repositories", "tags", "tags_new", "tags_changed", "tags_unchanged", "tags_to_delete")
    sized = ("bytes_to_move", "bytes_present", "bytes_to_mount")
    return [f"{sums[name]:,}" for name in counted] + [format_size(sums[name]) for name in sized]


def _table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        names = [text.ljust(width) for text, width in zip(row[:2], widths, strict=False)]
        figures = [text.rjust(width) for text, width in zip(row[2:], widths[2:], strict=True)]
        yield "  ".join([*names, *figures]).rstrip() + "\n"

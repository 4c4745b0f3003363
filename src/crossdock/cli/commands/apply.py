"""``crossdock apply``: carries out a migration file or a reviewed plan; the same command resumes it."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossdock.cli.flags import add_copying, read_options
from crossdock.cli.parser import Parser
from crossdock.cli.shards import add_machines, place_of
from crossdock.cli.streams import warn
from crossdock.cli.values import file_path, readable_file
from crossdock.errors import Cancelled, InvalidOption, OutputFailed, root_cause

if TYPE_CHECKING:
    from crossdock.cli.report import ReportFile
    from crossdock.cli.running import Listen
    from crossdock.clusters.place import ClusterPlace
    from crossdock.migration.apply import ApplyResult, ApplyRun, Only
    from crossdock.migration.file import MigrationFile
    from crossdock.migration.planfile import PlannedRepository
    from crossdock.migration.runfile import Item
    from crossdock.migration.state import RunState
    from crossdock.mirroring.shard import Shard
    from crossdock.options import CopyOptions
    from crossdock.runs.run import Run
    from crossdock.session import Session


def add_flags(parser: Parser) -> None:
    """Add the flags of ``apply``."""
    parser.description = (
        "Copy by a migration file, or exactly by a plan of it. After an interruption the\n"
        "same command resumes without repeating finished work; later it copies what has changed."
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        type=readable_file,
        help="migration file, or the plan that `crossdock plan --out` wrote",
    )
    parser.add_argument(
        "--failed", action="store_true", help="retry only the items that failed in the last run of this file"
    )
    add_machines(parser)
    add_copying(parser, chooses=False)
    output = parser.add_argument_group("more output")
    output.add_argument(
        "--html",
        type=file_path,
        metavar="FILE",
        help="write the report as a page with charts, also on failure",
    )
    output.add_argument(
        "--metrics",
        type=file_path,
        metavar="FILE",
        help="keep the figures of the run in this file, in Prometheus' text format",
    )


def run(namespace: argparse.Namespace) -> int:
    """Apply, and print the result."""
    from crossdock.cli.report import ReportFile, check_outputs
    from crossdock.inventory.values import Inventory
    from crossdock.migration.file import read_migration
    from crossdock.migration.planfile import is_plan, read_plan

    path = Path(namespace.file)
    outputs = {name: getattr(namespace, name) for name in ("report", "html", "metrics")}
    check_outputs("crossdock apply", path, **outputs)
    options = read_options(namespace)
    with ReportFile(namespace.report) as file, ReportFile(namespace.html, "--html") as page:
        if is_plan(path):
            plan = read_plan(path)
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            planned: list[dict[str, PlannedRepository]] = [{} for _ in plan.file.entries]
            for each in plan.repositories():
                planned[each.mirror][each.name] = each
            return _apply(plan.file, content, planned, options, namespace, file, page)
        migration = read_migration(path, Inventory.of(options.registries), os.environ)
        for warning in migration.warnings:
            warn(warning)
        return _apply(migration, migration.digest, None, options, namespace, file, page)


def _apply(
    migration: MigrationFile,
    content: str,
    planned: list[dict[str, PlannedRepository]] | None,
    options: CopyOptions,
    namespace: argparse.Namespace,
    file: ReportFile,
    page: ReportFile,
) -> int:
    from crossdock.cli.running import close_run, error_of
    from crossdock.cli.tally import Tally
    from crossdock.cli.watch import Watch
    from crossdock.events import Warned
    from crossdock.migration.apply import pairs_of, run_key
    from crossdock.migration.metrics import metrics_text
    from crossdock.migration.runfile import StateUnavailable
    from crossdock.migration.state import open_state

    options = migration.limits.over(options)
    where, shard = os.path.abspath(namespace.file), _shard_of(namespace, migration, planned)
    name, key = where, run_key(migration, content, shard)
    if shard is not None:
        name = f"{where}, shard {shard}"
        options = shard.share(options)
    place = place_of(namespace, options)
    try:
        with open_state(options.state, name, key, pairs_of(migration), failed=namespace.failed) as state:
            only = _only(migration, state, planned, failed=namespace.failed)
            applying = _applying(migration, state, only, planned, shard, place)
            tally = Tally(applying.totals, applying.window, face="file")

            def start(session: Session, listen: Listen) -> Run[ApplyResult]:
                applying.on_warning = lambda message: listen(None, Warned(message))
                return session.start(applying, listen)

            def metrics(ended: bool) -> str:
                return metrics_text(applying.totals, where, state.id, ended=ended)

            with Watch(applying.totals, namespace.metrics, metrics) as watch:
                error = error_of(start, options, tally, namespace, results="changed")
            result = applying.result()
            if isinstance(error, Cancelled):
                done = int(result.totals["copied"] + result.totals["unchanged"])
                error = Cancelled(f"cancelled when {done} tags were done; the same command goes on")
            origin = {"file": where, "file_digest": content}
            report = _ApplyReport(migration, state, result, shard, origin)
            error = error or result.failure
            try:
                page.write(report.page(error, watch.samples, applying.moved))
            except OutputFailed as unwritten:
                if error is not None:
                    warn(str(unwritten))
                close_run(error, report, file, namespace, options, tally.kept)
                raise
            return close_run(error, report, file, namespace, options, tally.kept)
    except StateUnavailable as error:  # the folder: what the caller chose cannot be used
        raise InvalidOption(str(error), advice=error.advice) from error


def _applying(
    migration: MigrationFile,
    state: RunState,
    only: Only | None,
    planned: list[dict[str, PlannedRepository]] | None,
    shard: Shard | None,
    place: ClusterPlace | None,
) -> ApplyRun:
    """The run: on a cluster, or here."""
    if place is not None:
        from crossdock.clusters.applying import ClusterApply

        return ClusterApply(migration, state, place=place, only=only, planned=planned)
    from crossdock.migration.apply import ApplyRun

    return ApplyRun(migration, state, only=only, planned=planned, shard=shard)


def _shard_of(
    namespace: argparse.Namespace,
    migration: MigrationFile,
    planned: list[dict[str, PlannedRepository]] | None,
) -> Shard | None:
    """The shard; with a plan it is balanced by the cost of each repository."""
    shard: Shard | None = namespace.shard
    if shard is None or planned is None:
        return shard
    from crossdock.mirroring.shard import Weight, repository_name

    weights: dict[str, Weight] = {}
    for entry, repositories in zip(migration.entries, planned, strict=True):
        for each in repositories.values():
            name = repository_name(entry, each.name)
            before = weights.get(name, Weight())
            tags = len(each.tags) + len(each.untagged)
            weights[name] = Weight(before.size + each.bytes, before.tags + tags)
    return shard.balanced(weights)


def _only(
    migration: MigrationFile,
    state: RunState,
    planned: list[dict[str, PlannedRepository]] | None,
    *,
    failed: bool,
) -> Only | None:
    """The repositories and names to look at, when they are not all that the file chooses."""
    wanted: list[dict[str, list[str]]] = [{} for _ in migration.entries]
    if failed:
        numbers = [number for number, entry in enumerate(migration.entries) for _ in entry.targets]
        for item in state.to_repeat():
            number = numbers[item.pair]
            if planned is not None and not _copies(planned[number].get(item.repository), item.name):
                continue
            names = wanted[number].setdefault(item.repository, [])
            if item.name not in names:
                names.append(item.name)
        return wanted
    if planned is None:
        return None
    for number, repositories in enumerate(planned):
        for each in repositories.values():
            wanted[number][each.name] = [*each.tags, *map(str, each.untagged)]
    return wanted


def _copies(planned: PlannedRepository | None, name: str) -> bool:
    """Whether the name is not one that a plan only deletes."""
    return planned is None or not any(name in each for each in planned.delete)


class _ApplyReport:
    """The outcome of an apply, as `report.Report`."""

    def __init__(
        self,
        migration: MigrationFile,
        state: RunState,
        result: ApplyResult,
        shard: Shard | None,
        origin: Mapping[str, str],
    ) -> None:
        """`origin`: of which file it is."""
        self._entries = [entry for entry in migration.entries for _ in entry.targets]
        self._targets = [str(target) for entry in migration.entries for target in entry.targets]
        self._state = state
        self._result = result
        self._shard = {"shard": str(shard)} if shard is not None else {}
        self._origin = origin

    def lines(self) -> Iterator[str]:
        """As `Report.lines`."""
        from crossdock.cli.failure import fold
        from crossdock.units import count, format_duration, format_size

        def words(figures: Mapping[str, Any]) -> str:
            text = f"{count(int(figures['tags']), 'tag')}: {figures['copied']} copied, "
            text += f"{figures['unchanged']} unchanged, {figures['failed']} failed"
            text += f", {figures['deleted']} deleted" if figures["deleted"] else ""
            return f"{text}  {format_size(figures['bytes_moved'])} moved"

        result = self._result
        for each in result.entries:
            named = f"{fold(each['name'])}  " if each["name"] != each["source"] else ""
            yield f"{named}{fold(each['source'])} -> {fold(each['target'])}  {words(each)}\n"
            for problem in each["problems"]:
                yield f"  {problem['kind']}  {fold(problem['reference'])}: {fold(problem['detail'])}\n"
            for reference in each.get("missing", ()):
                yield f"  missing at the source  {fold(reference)}\n"
        took = format_duration(result.totals["seconds"])
        requests = count(int(result.totals["requests"]), "request")
        shard = "".join(f", shard {each}" for each in self._shard.values())
        yield f"run {result.run}{shard}  {words(result.totals)}, {requests} in {took}\n"

    def document(self) -> Iterator[str]:
        """As `Report.document`."""
        return self._document({})

    def file(self, error: BaseException | None) -> Iterator[str]:
        """As `Report.file`."""
        from crossdock import __version__
        from crossdock.cli.failure import error_document

        shown = error_document(error, "file") if error is not None else None
        return self._document({**self._origin, "version": __version__, "error": shown})

    def page(
        self, error: BaseException | None, samples: Sequence[tuple[float, int]], moved: Mapping[str, int]
    ) -> Iterator[str]:
        """The report as HTML. `moved` are the bytes of each repository of a target."""
        from collections import Counter
        from datetime import UTC, datetime

        from crossdock.cli.page import apply_page

        row = self._state.row
        status = "interrupted" if isinstance(error, Cancelled) else "failed" if error is not None else "done"
        failures = Counter(item.kind or "not begun" for item in self._state.items("failed", "left"))
        return apply_page(
            self._result.document(),
            file=os.path.basename(row.file),
            started=datetime.fromtimestamp(row.started, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
            status=status,
            samples=samples,
            repositories=moved,
            failures=failures,
            not_copied=(
                (self._shown(item), item.reason or "not begun")
                for item in self._state.items("failed", "left")
            ),
        )

    def _document(self, more: Mapping[str, Any]) -> Iterator[str]:
        document = self._result.document()
        document["entries"] = [{**each, **self._shard} for each in document["entries"]]
        yield json.dumps({**document, **self._shard, **more}, indent=2).removesuffix("\n}")
        yield from _member("copies", map(self._copied, self._state.items("copied")))
        yield from _member("not_copied", map(self._shown, self._state.items("failed", "left")))
        yield from _member("failures", self._failures())
        yield "\n}\n"

    def _failures(self) -> Iterator[dict[str, str]]:
        """Everything that failed, with the class of its error and the reason."""
        for item in self._state.items("failed"):
            source, target = self._places(item)
            yield {"source": source, "target": target, "kind": item.kind, "reason": item.reason}
        for error in self._result.others:
            target = getattr(error, "reference", None) or ""
            kind = type(root_cause(error)).__name__
            yield {"source": "", "target": target, "kind": kind, "reason": str(error).partition("\n")[0]}

    def _copied(self, item: Item) -> dict[str, str | None]:
        """A tag or manifest that was copied."""
        source, target = self._places(item)
        return {
            "source": source,
            "target": target,
            "status": item.outcome,
            "digest": item.digest,
            "tag": item.tag or None,
            "previous_digest": item.previous or None,
        }

    def _shown(self, item: Item) -> str:
        """``SOURCE TARGET``."""
        return " ".join(self._places(item))

    def _places(self, item: Item) -> tuple[str, str]:
        """The references of its source and its target."""
        from crossdock.mirroring.views import shown

        entry, target = self._entries[item.pair], self._targets[item.pair]
        source = f"{entry.source}/{item.repository}" if item.repository else str(entry.source)
        there = f"{target}/{entry.target_name(item.repository)}" if item.repository else target
        return shown(source, item.name), shown(there, item.name)


def _member(name: str, values: Iterable[object]) -> Iterator[str]:
    """A further member of a JSON object, a list with a line for each value."""
    yield f',\n  "{name}": ['
    for number, value in enumerate(values):
        yield f"{',' if number else ''}\n    {json.dumps(value)}"
    yield "\n  ]"

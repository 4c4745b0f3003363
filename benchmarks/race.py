"""The race: every client through every scenario, taking turns, so that noise falls on all alike."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.clients import CLIENTS, Client, Job
from benchmarks.content import Collection, build
from benchmarks.measure import Sample, build_floor, run, workspace
from benchmarks.record import Record
from benchmarks.scenarios import Scenario, Size, Workload
from benchmarks.servers import Certificates, End, make_certificates, source, target


def race(
    scenarios: Sequence[Scenario], size: Size, names: Iterable[str], rounds: int | None, path: Path | None
) -> Path:
    """Run `scenarios` with their clients that are in `names` and present; returns the record's path."""
    record = Record(size, path)
    wanted = set(names)
    floor = build_floor()
    for scenario in scenarios:
        clients = [
            CLIENTS[name] for name in scenario.clients if name in wanted and CLIENTS[name].is_present(floor)
        ]
        if not clients:
            continue
        workload = scenario.workload(size)
        # source and target, unless the target is on disk; a sparse source takes nothing
        needed = 0 if workload.sparse else workload.layer_bytes * 2 + (64 << 20)
        place = workspace(needed)
        try:
            lane = _Lane(scenario, place, build(place / "layout", workload))
            samples = lane.run(clients, workload, rounds or workload.rounds)
            storage = "memory" if place.is_relative_to("/dev/shm") and not scenario.on_disk else "disk"
            blob_bytes = 0 if scenario.warm else lane.content.blob_bytes
            record.add(scenario, size, storage, blob_bytes, samples)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    return record.path


class _Lane:
    """One scenario with its content and its servers."""

    def __init__(self, scenario: Scenario, place: Path, content: Collection) -> None:
        self.scenario = scenario
        self.place = place
        self.content = content
        self._certificates: Certificates | None = make_certificates(place / "tls") if scenario.tls else None
        self._count = 0

    def run(self, clients: Sequence[Client], workload: Workload, rounds: int) -> list[Sample]:
        samples: list[Sample] = []
        scenario = self.scenario
        print(f"\n{scenario.name}: {scenario.title}", flush=True)
        with ExitStack() as stack:
            origin = stack.enter_context(
                source(
                    self.place / "source",
                    self.content,
                    rate=scenario.source_rate,
                    round_trip_s=scenario.round_trip_s,
                    certificates=self._certificates,
                )
            )
            kept = stack.enter_context(self._target()) if scenario.warm else None
            if kept is not None:
                # Any client makes the same content; this one is quick.
                filler = next(
                    CLIENTS[name]
                    for name in ("regsync-16", "crossdock")
                    if CLIENTS[name].is_present(build_floor())
                )
                filled = self._once(filler, origin, kept, Sample(filler.name, -1, True))
                if filled.error is not None:
                    raise RuntimeError(f"the target could not be filled: {filled.error}")
            for round_ in range(workload.discarded + rounds):
                # Every round begins with another client: none always follows the same neighbour's clean-up.
                turn = round_ % len(clients)
                for client in (*clients[turn:], *clients[:turn]):
                    sample = Sample(client.name, round_, round_ < workload.discarded)
                    if kept is not None:
                        self._once(client, origin, kept, sample)
                    else:
                        with self._target() as fresh:
                            self._once(client, origin, fresh, sample)
                    samples.append(sample)
        _print_medians(samples)
        return samples

    @contextmanager
    def _target(self) -> Iterator[End]:
        self._count += 1
        with ExitStack() as stack:
            parent = self.place
            if self.scenario.on_disk:
                parent = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crossdock-bench-")))
            yield stack.enter_context(
                target(
                    parent / f"target-{self._count}",
                    rate=self.scenario.target_rate,
                    round_trip_s=self.scenario.round_trip_s,
                    certificates=self._certificates,
                )
            )

    def _once(self, client: Client, origin: End, end: End, sample: Sample) -> Sample:
        directory = Path(tempfile.mkdtemp(prefix="run-", dir=self.place))
        try:
            job = Job(
                directory=directory,
                images=self.content.images,
                source=origin.port,
                target=end.port,
                source_direct=origin.direct,
                target_direct=end.direct,
                ca=self._certificates.ca if self._certificates else None,
                floor=build_floor(),
            )
            run(client, job, origin, end, sample)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        note = f"  {client.name:17} wall {sample.wall_s:7.2f}  cpu {sample.cpu_s:6.2f}"
        note += f"  rss {sample.peak_rss >> 20:4} MiB  load {sample.load:4.1f}"
        print(
            note
            + ("  discarded" if sample.discarded else "")
            + (f"  {sample.error}" if sample.error else ""),
            flush=True,
        )
        return sample


def _print_medians(samples: Sequence[Sample]) -> None:
    print("  medians:")
    for name in dict.fromkeys(sample.client for sample in samples):
        good = [s for s in samples if s.client == name and not s.discarded and s.error is None]
        if good:
            wall, cpu = (
                statistics.median(values) for values in ([s.wall_s for s in good], [s.cpu_s for s in good])
            )
            print(f"    {name:17} wall {wall:7.2f}  cpu {cpu:6.2f}", flush=True)

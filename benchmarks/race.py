"""The race: every client in every scenario, in turns, so that noise affects all equally."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.clients import BEFORE, CLIENTS, Client, make_job, shown_command
from benchmarks.content import Images, build
from benchmarks.measure import Sample, build_floor, run, workspace
from benchmarks.record import Record
from benchmarks.scenarios import Scenario, Size, Workload
from benchmarks.servers import Certificates, End, make_certificates, measured_rate, source, target


def race(
    scenarios: Sequence[Scenario],
    size: Size,
    names: Collection[str] | None = None,
    rounds: int | None = None,
    path: Path | None = None,
) -> Path:
    """Run `scenarios` with all installed clients, or those in `names`; returns the record's path."""
    record = Record(size, path, partial=names is not None)
    build_floor()
    began = time.monotonic()
    for scenario in scenarios:
        raced = (
            *scenario.clients,
            *(("crossdock-before",) if BEFORE and "crossdock" in scenario.clients else ()),
        )
        wanted = [CLIENTS[name] for name in raced if names is None or name in names]
        clients = [client for client in wanted if client.is_present()]
        print(f"\n{scenario.name}: {scenario.title}", flush=True)
        for client in wanted:
            if client not in clients:
                print(f"  {client.name:17} skipped: not installed")
        if not clients:
            continue
        workload = scenario.workload(size)
        # Space for the content at the source, unless it is sparse, and at the target.
        ends = (not workload.sparse) + (not scenario.reads)
        place = workspace(workload.layer_bytes * ends + (64 << 20))
        try:
            lane = _Lane(scenario, place, build(place / "layout", workload))
            samples = lane.run(clients, workload, rounds or workload.rounds)
            record.add(scenario, size, lane.facts(), samples)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        print(f"  {time.monotonic() - began:.0f} s so far", flush=True)
    return record.path


class _Lane:
    """One scenario with its content and its servers."""

    def __init__(self, scenario: Scenario, place: Path, content: Images) -> None:
        self.scenario = scenario
        self.place = place
        self.content = content
        self._certificates: Certificates | None = make_certificates(place / "tls") if scenario.tls else None
        self._count = 0
        self._rate = 0.0
        self._commands: dict[str, str] = {}

    def facts(self) -> dict[str, object]:
        """Data for the record besides the scenario's own."""
        return {
            "storage": "memory" if self.place.is_relative_to("/dev/shm") else "disk",
            "bytes_needed": 0 if self.scenario.warm else self.content.blob_bytes,
            "source_rate_measured": round(self._rate),
            "commands": self._commands,
        }

    def run(self, clients: Sequence[Client], workload: Workload, rounds: int) -> list[Sample]:
        samples: list[Sample] = []
        with ExitStack() as stack:
            origin = stack.enter_context(
                source(
                    self.place / "source",
                    self.content,
                    rate=self.scenario.source_rate,
                    round_trip_s=self.scenario.round_trip_s,
                    certificates=self._certificates,
                )
            )
            self._check_rate(origin)
            kept = stack.enter_context(self._target()) if self.scenario.warm else None
            if kept is not None:
                self._fill(origin, kept)
            for round_ in range(workload.discarded + rounds):
                # Every round starts with another client, so that none always follows the same client's
                # clean-up.
                turn = round_ % len(clients)
                for client in (*clients[turn:], *clients[:turn]):
                    sample = Sample(client.name, round_, round_ < workload.discarded)
                    if kept is not None or self.scenario.reads:
                        self._once(client, origin, kept, sample)
                    else:
                        with self._target() as fresh:
                            self._once(client, origin, fresh, sample)
                    samples.append(sample)
        _print_medians(samples)
        return samples

    def _check_rate(self, origin: End) -> None:
        """Measure the rate cap before the race, which would be worthless without it."""
        if not self.scenario.source_rate:
            return
        image = self.content.images[0]
        layer = image.blobs[-1]
        path = f"/v2/{image.repository}/blobs/{layer.digest}"
        self._rate = measured_rate(origin, path, layer.size)
        print(f"  one connection gets {self._rate / (1 << 20):.2f} MiB/s", flush=True)
        if self._rate > 1.03 * self.scenario.source_rate:
            raise SystemExit(
                "benchmarks: this kernel does not pace connections; the rate cap needs Linux 4.13"
            )

    def _fill(self, origin: End, kept: End) -> None:
        """Fill the target. Any client produces the same content; the first one is quicker."""
        filler = next(CLIENTS[name] for name in ("regsync-16", "crossdock") if CLIENTS[name].is_present())
        filled = self._once(filler, origin, kept, Sample(filler.name, -1, True))
        if filled.error is not None:
            raise RuntimeError(f"the target could not be filled: {filled.error}")

    @contextmanager
    def _target(self) -> Iterator[End]:
        self._count += 1
        with target(
            self.place / f"target-{self._count}",
            rate=self.scenario.target_rate,
            round_trip_s=self.scenario.round_trip_s,
            certificates=self._certificates,
        ) as end:
            yield end

    def _once(self, client: Client, origin: End, end: End | None, sample: Sample) -> Sample:
        directory = Path(tempfile.mkdtemp(prefix="run-", dir=self.place))
        try:
            job = make_job(directory, self.content, origin, end, self._certificates)
            self._commands.setdefault(client.name, shown_command(client, job))
            run(client, job, origin, end, sample)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        words = [f"  {client.name:17} wall {sample.wall_s:7.2f}  cpu {sample.cpu_s:6.2f}"]
        words += [f"rss {sample.peak_rss >> 20:4} MiB", f"load {sample.load:4.1f}"]
        words += ["discarded"] * sample.discarded + [sample.error or ""]
        print("  ".join(words).rstrip(), flush=True)
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

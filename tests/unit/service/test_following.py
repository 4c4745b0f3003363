"""The entries of a poll, and when each is done (az-contract 2.3)."""

from __future__ import annotations

import msgspec
import pytest

from crossdock.acr.comparing import FoundSource
from crossdock.acr.plan import ImportPlan
from crossdock.activity import Activity
from crossdock.events import (
    BlobDone,
    BlobOutcome,
    BlobPlanned,
    BlobProgress,
    BlobStarted,
    CopyStarted,
    ManifestDone,
    Retrying,
    ignore,
)
from crossdock.inventory.values import Entry
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.reference import Reference
from crossdock.runs.totals import Totals
from crossdock.service.operations.following import MOST_ENTRIES, Following
from crossdock.service.values import Progress
from crossdock.tally import Tally
from support.totals import Played

IMAGE = "application/vnd.oci.image.manifest.v1+json"
HOST = "target.example"


def descriptor(number: int) -> Descriptor:
    return Descriptor(IMAGE, Digest(f"sha256:{number:064x}"), 100)


def following(*targets: Reference, totals: Totals | None = None) -> tuple[Following, Progress]:
    progress = Progress()
    plan = ImportPlan(
        source=Reference("source.example", "a", "b"),
        targets=targets,
        force=False,
        source_entry=None,
        target_entry=Entry(name="target", login_server=HOST),
        credentials=None,
    )
    return Following(progress, plan, totals or Totals()), progress


ROOT = descriptor(0)
TAGGED, OTHER, UNTAGGED = Reference(HOST, "a", "b"), Reference(HOST, "a", "c"), Reference(HOST, "d")


@pytest.mark.parametrize(
    ("targets", "below", "entries"),
    [
        ((TAGGED,), (), ["a:b"]),
        ((TAGGED, OTHER), (), ["a:b", "a:c"]),
        ((UNTAGGED,), (), [f"d@{ROOT.digest}"]),
        ((TAGGED, UNTAGGED), (), ["a:b", f"d@{ROOT.digest}"]),
        ((TAGGED, OTHER), (descriptor(1),), [f"a@{ROOT.digest}", f"a@{descriptor(1).digest}"]),
        (
            (TAGGED, UNTAGGED),
            (descriptor(1),),
            [f"{r}@{d.digest}" for r in "ad" for d in (ROOT, descriptor(1))],
        ),
    ],
)
def test_there_is_an_entry_for_each_tag_or_each_manifest(
    targets: tuple[Reference, ...], below: tuple[Descriptor, ...], entries: list[str]
) -> None:
    follows, progress = following(*targets)
    assert progress.manifests == {}
    follows.found(FoundSource(ROOT.digest, ROOT, below))
    assert progress.manifests == dict.fromkeys(entries, "Pending")
    follows.all_done()
    assert progress.manifests == dict.fromkeys(entries, "Succeeded")


def test_a_manifest_is_done_in_the_repository_that_is_being_copied_to() -> None:
    follows, progress = following(TAGGED, UNTAGGED)
    below = descriptor(1)
    follows.found(FoundSource(ROOT.digest, ROOT, (below,)))
    follows(CopyStarted("source.example/a:b", f"{HOST}/d", ROOT.digest, IMAGE))
    follows(ManifestDone(below.digest, IMAGE, True))
    assert [key for key, value in progress.manifests.items() if value == "Succeeded"] == [f"d@{below.digest}"]


def test_bytes_total_and_the_blob_that_moves_are_kept() -> None:
    played = Played(clock=lambda: 0.0)
    follows, progress = following(TAGGED, totals=played.totals)
    played.play(
        (
            BlobPlanned("x", 100),
            BlobPlanned("y", 50),
            BlobStarted("x", 100),
            BlobProgress("x", 40, 100),
        )
    )
    follows(BlobProgress("x", 40, 100))
    assert (progress.bytes, progress.present, progress.total, progress.blob) == (40, 40, 150, "x")
    played.play([BlobDone("x", 100, "moved")])
    follows(BlobDone("x", 100, "moved"))
    assert (progress.bytes, progress.present, progress.total, progress.blob) == (100, 100, 150, "")


def test_progress_with_a_digest_can_be_stored() -> None:
    played = Played(clock=lambda: 0.0)
    follows, progress = following(TAGGED, totals=played.totals)
    played.play([BlobPlanned(ROOT.digest, 100), BlobStarted(ROOT.digest, 100)])
    follows(BlobStarted(ROOT.digest, 100))
    assert msgspec.json.decode(msgspec.json.encode(progress), type=Progress).blob == ROOT.digest


@pytest.mark.parametrize("outcome", ["skipped", "mounted"])
def test_content_that_the_target_had_counts_as_present_and_not_moved(outcome: BlobOutcome) -> None:
    played = Played(clock=lambda: 0.0)
    follows, progress = following(TAGGED, totals=played.totals)
    played.play(
        (
            BlobPlanned("x", 100),
            BlobDone("x", 100, outcome),
            BlobPlanned("y", 7),
            BlobStarted("y", 7),
            BlobDone("y", 7, "moved"),
        )
    )
    follows(BlobDone("y", 7, "moved"))
    assert (progress.bytes, progress.present, progress.total) == (7, 107, 107)


def test_an_answer_has_a_bounded_number_of_entries() -> None:
    follows, progress = following(*(Reference(HOST, f"r{number}") for number in range(60)))
    follows.found(FoundSource(ROOT.digest, ROOT, tuple(descriptor(number) for number in range(1, 50))))
    assert len(progress.manifests) == MOST_ENTRIES


def test_retries_are_counted_by_side_and_bytes_under_way_are_in_flight() -> None:
    played = Played(clock=lambda: 0.0)
    follows, progress = following(TAGGED, totals=played.totals)
    played.play([BlobPlanned("x", 100), BlobStarted("x", 100), BlobProgress("x", 40, 100)])
    for side in ("source", "source", "target"):
        follows(Retrying(side, "fetch blob", "503"))
    assert (progress.retries, progress.in_flight) == ({"source": 2, "target": 1}, 40)
    assert not follows.waits_for_others
    played.play([BlobDone("x", 100, "moved")])
    follows.refresh()
    assert progress.in_flight == 0
    assert follows.waits_for_others  # no request is under way


def test_bytes_of_a_resumed_upload_were_moved_before() -> None:
    totals = Totals()
    follows, progress = following(TAGGED, totals=totals)
    tally = Tally(ignore)
    totals.begin("a", "b", tally, Activity())
    blob = descriptor(1)
    tally.planned(ROOT, (), [blob])
    tally.started(blob)
    tally.taken_up(blob, 60)
    tally.progress(blob, 80)
    follows.refresh()
    assert (progress.bytes, progress.present) == (20, 80)

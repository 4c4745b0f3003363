"""A mirror on a cluster: its client adds up what workers report."""

from __future__ import annotations

from crossdock.clusters.groups import Job
from crossdock.clusters.mirroring import ClusterMirror, MirrorNews
from crossdock.options import CopyOptions


def test_tags_that_a_lost_worker_has_settled_stay_counted() -> None:
    mirror = ClusterMirror.of("one.example/a", "two.example/b", CopyOptions(), {})
    job = Job([(0, "x"), (0, "y")], frozenset())
    for tags in ({"x": 10}, {"x": 4, "y": 3}):  # the second worker lists the tags that are left
        mirror.take(job, MirrorNews({}, [], [], [], tags, []))
    assert mirror.result().tags == 13

"""The tags of a plan: new, changed, unchanged, or a problem."""

from __future__ import annotations

from collections.abc import Mapping

from crossdock.migration.plan import EntryPlan
from crossdock.mirroring.entry import Entry
from crossdock.mirroring.views import RepositoryView, TargetView, place_of
from crossdock.oci.digest import Digest
from crossdock.oci.reference import is_tag
from crossdock.oci.text import quote


class Writers:
    """The entries, by index, that write to each repository of the targets."""

    def __init__(self) -> None:
        self._entries: dict[str, set[int]] = {}
        self._tags: dict[tuple[str, str], tuple[int, str]] = {}  # of repositories that several write

    def add(self, repository: str, entry: int) -> None:
        """Note that the entry writes to the repository."""
        self._entries.setdefault(repository, set()).add(entry)

    def are_several(self, repository: str) -> bool:
        """Whether several entries write to the repository."""
        return len(self._entries.get(repository, ())) > 1

    def other_source(self, repository: str, tag: str, entry: int, source: str) -> str | None:
        """The source from which another entry writes the tag, if one did so before this `source`."""
        if not self.are_several(repository):
            return None
        first, its_source = self._tags.setdefault((repository, tag), (entry, source))
        return its_source if first != entry else None


class TagComparison:
    """Compares the tags of an entry's repositories with those of a target."""

    def __init__(self, entry: Entry, index: int, writers: Writers) -> None:
        """`index`: of the entry. No I/O."""
        self._entry = entry
        self._index = index
        self._writers = writers

    def compare(
        self,
        plan: EntryPlan,
        view: RepositoryView,
        there: TargetView,
        chosen: Mapping[Digest, Digest],
        merged: set[str],
    ) -> list[Digest]:
        """Count the tags in `plan`, and return the source's digests that have to be copied.

        `there`: a target that answered or refused. `chosen`: the target's digest for each of the source's
        that can be copied. `merged`: tags under which the target has the source's content and more.
        """
        plan.repositories += 1
        plan.images += len({*view.tags.values(), *view.untagged})
        if there.repository is None:
            plan.problem("name", there.name, str(there.error))
        elif there.error is not None:
            plan.problem("denied", there.name, str(there.error))
        todo: dict[Digest, None] = {}
        for tag, digest in view.tags.items():
            plan.tags += 1
            if self._is_written(plan, view, there, tag, chosen.get(digest), is_merged=tag in merged):
                todo[digest] = None
                plan.todo += 1
        for digest in view.untagged:
            plan.tags += 1
            if chosen.get(digest) in there.digests:
                plan.tags_unchanged += 1
                continue
            plan.tags_new += 1
            if digest in chosen:
                plan.todo += 1
                todo[digest] = None
        return list(todo) if there.repository is not None else []

    def _is_written(
        self,
        plan: EntryPlan,
        view: RepositoryView,
        there: TargetView,
        tag: str,
        wanted: Digest | None,
        *,
        is_merged: bool,
    ) -> bool:
        """Count the tag; whether it is to be written. `wanted`: None when the image cannot be copied."""
        found = there.tags.get(tag)
        if not is_tag(tag):
            plan.tags_new += 1
            plan.problem("name", f"{there.name}:{tag}", f"{quote(tag)} is no tag of a registry")
            return False
        if found is None:
            plan.tags_new += 1
        elif found == wanted or is_merged:
            plan.tags_unchanged += 1
            return False
        else:
            plan.tags_changed += 1
            if self._entry.existing != "overwrite":
                self._exists(plan, there, tag, found, wanted or view.tags[tag])
                return False
        source = f"{place_of(view.source)}:{tag}"
        other = self._writers.other_source(there.name, tag, self._index, source)
        if other is not None:
            plan.problem("collision", f"{there.name}:{tag}", f"{other} and {source} are both copied there")
        return wanted is not None

    def _exists(self, plan: EntryPlan, there: TargetView, tag: str, found: Digest, wanted: Digest) -> None:
        is_left = self._entry.existing == "report"
        outcome = "it is left as it is" if is_left else "it is not overwritten"
        detail = f"{outcome}: it means {found} there, and {wanted} at the source"
        plan.problem("existing", f"{there.name}:{tag}", detail, hinders=not is_left)

"""The migration file: YAML, checked against `schema.json` (see `crossdock.yamlfile`) and for sense.

Everything that the file alone shows to be wrong is reported before a request is sent.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from crossdock.errors import Advice, InvalidInput
from crossdock.inventory.values import Inventory
from crossdock.migration.conflicts import read_and_written, written_twice
from crossdock.migration.hours import Hours
from crossdock.migration.variables import replace_variables
from crossdock.mirroring.choice import TagChoice, pushed_since
from crossdock.mirroring.entry import Deletes, Entry, ReferrersMode, parse_source
from crossdock.mirroring.names import Namespace, check
from crossdock.mirroring.patterns import Patterns
from crossdock.mirroring.rename import Naming, Rename
from crossdock.oci.platform import Platform
from crossdock.oci.reference import LayoutReference
from crossdock.oci.registryname import registry_key
from crossdock.oci.text import quote
from crossdock.options import CopyOptions, HostLimits, expand_home
from crossdock.units import parse_duration, parse_size
from crossdock.yamlfile import Found, Kind, plain, read_bytes, read_document

_DOCS = Advice("read-docs", "docs/migrate.md describes the file")
_BRACES = Advice("correct-file", "in a list or mapping in brackets ${VARIABLE} needs quotes")
_GIVE_FILE = Advice(
    "give-migration-file", "`crossdock apply` does what a plan says; give it the plan as it was written"
)
_PLAN = re.compile(rb'"repositories"\s*:\s*\[')  # in a migration file it is an object
_REFERRERS: Mapping[Any, ReferrersMode] = {True: "warn", False: "off", "required": "required"}


class Limits(Struct, frozen=True, kw_only=True):
    """Limits of a run, for all hosts together, and for single ones by their ``host[:port]``."""

    bytes_per_second: int | None = None
    requests_per_second: float | None = None
    hours: Hours | None = None
    hosts: Mapping[str, HostLimits] = {}

    def over(self, options: CopyOptions) -> CopyOptions:
        """`options` with these limits. Those that `options` has for all hosts take precedence."""
        return replace(
            options,
            limit_rate=options.limit_rate or self.bytes_per_second,
            limit_requests=options.limit_requests or self.requests_per_second,
            limit_hosts={**self.hosts, **options.limit_hosts},
        )


class MigrationFile(Struct, frozen=True, kw_only=True):
    """A file as values. `digest`: hexadecimal SHA-256 over the content, variables replaced."""

    entries: tuple[Entry, ...]
    digest: str
    limits: Limits = Limits()
    place: str = ""
    warnings: tuple[str, ...] = ()


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of the file."""
    text = (files("crossdock.migration") / "schema.json").read_text("utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def read_migration(
    path: Path, inventory: Inventory | None = None, environ: Mapping[str, str] | None = None
) -> MigrationFile:
    """The migration in the file. The folder of an ``oci:DIR`` is relative to the file's. Blocks.

    Raises `InvalidInput` with ``file:line:column`` for what the schema does not permit, variables of
    `environ` that are not set, and what cannot work: invalid patterns and ranges, a source and a target that
    overlap, two mirrors that write one tag.
    """
    environ = environ or {}
    return parse_migration(read_bytes(path, _kind(environ)), str(path), path.parent, inventory, environ)


def parse_migration(
    data: bytes,
    place: str,
    folder: Path,
    inventory: Inventory | None = None,
    environ: Mapping[str, str] | None = None,
) -> MigrationFile:
    """As `read_migration`, from bytes; `place` names the file in messages."""
    environ = environ or {}
    if data.removeprefix(b"\xef\xbb\xbf").startswith(b"{") and _PLAN.search(data):
        raise InvalidInput(f"{place}: this is a plan; give the migration file", advice=_GIVE_FILE)
    try:
        document = read_document(data, place, _kind(environ))
    except InvalidInput as error:
        if error.advice is not None or b"${" not in data:
            raise
        raise error.replace(advice=_BRACES) from None  # it is not YAML
    if document is None:
        raise InvalidInput(f"{place}: the migration file is empty", advice=_DOCS)
    reader = _Reader(place, folder, inventory or Inventory(), environ)
    limits = reader.limits(document["limits"].value) if "limits" in document else Limits()
    mirrors: list[Found] = document["mirrors"].value
    entries = tuple(reader.entry(each) for each in mirrors)
    if (found := written_twice(entries)) is not None:
        first, second = (mirrors[number] for number in found.entries)
        raise InvalidInput(
            f"{place}:{second.line}:{second.column}: mirrors {quote(entries[found.entries[0]].name)} (line "
            f"{first.line}) and {quote(entries[found.entries[1]].name)} both write {found.what}",
            advice=Advice("correct-file", "choose other repositories, tags or targets in one of them"),
        )
    if (read := read_and_written(entries)) is not None:
        reading, writing = (mirrors[number] for number in read.entries)
        raise InvalidInput(
            f"{place}:{reading.line}:{reading.column}: mirror {quote(entries[read.entries[0]].name)} reads "
            f"{read.what}, which {quote(entries[read.entries[1]].name)} (line {writing.line}) writes: "
            "what is read would depend on their order",
            advice=Advice(
                "correct-file", "put them in files of their own, to be applied one after the other"
            ),
        )
    content = msgspec.json.encode(plain(document), order="sorted")
    return MigrationFile(
        entries=entries,
        digest=hashlib.sha256(content).hexdigest(),
        limits=limits,
        place=place,
        warnings=tuple(reader.idle_hosts(document["limits"].value, entries)) if "limits" in document else (),
    )


def _kind(environ: Mapping[str, str]) -> Kind:
    replace = partial(replace_variables, environ=environ)
    return Kind("the migration file", _DOCS, schema(), shows_columns=True, replace=replace)


class _Reader:
    """Turns what the schema permits into values."""

    def __init__(self, place: str, folder: Path, inventory: Inventory, environ: Mapping[str, str]) -> None:
        self._place = place
        self._folder = folder
        self._inventory = inventory
        self._environ = environ

    @contextmanager
    def _at(self, found: Found, name: str = "") -> Iterator[None]:
        """A mistake here is reported with the place of `found`."""
        try:
            yield
        except ValueError as error:  # `InvalidInput` is one
            advice = error.advice if isinstance(error, InvalidInput) else None
            what = f"{name}: " if name else ""
            raise InvalidInput(
                f"{self._place}:{found.line}:{found.column}: {what}{error}", advice=advice or _DOCS
            ) from None

    # -- limits --------------------------------------------------------------------------------------------

    def limits(self, found: Mapping[str, Found]) -> Limits:
        hosts: dict[str, HostLimits] = {}
        given: dict[str, Any] = self._rates(found)
        if "hours" in found:
            with self._at(found["hours"], "limits.hours"):
                given["hours"] = Hours.parse(found["hours"].value)
        for name, each in found["hosts"].value.items() if "hosts" in found else ():
            with self._at(each, f"limits.hosts.{name}"):
                host = self._inventory.addressed(name)
                if any(registry_key(host) == registry_key(other) for other in hosts):
                    raise InvalidInput("the host is listed twice")
            members = {"connections": each.value["connections"].value} if "connections" in each.value else {}
            hosts[host] = HostLimits(**self._rates(each.value), **members)
        return Limits(**given, hosts=hosts)

    def idle_hosts(self, found: Mapping[str, Found], entries: Iterable[Entry]) -> Iterator[str]:
        """A warning for each host of the limits that no mirror names."""
        used = {registry_key(target.registry) for entry in entries for target in entry.targets}
        used |= {registry_key(each.source.registry) for each in entries if isinstance(each.source, Namespace)}
        for name, each in found["hosts"].value.items() if "hosts" in found else ():
            if registry_key(self._inventory.addressed(name)) not in used:
                yield f"{self._place}:{each.key_line}: limits.hosts: no mirror names the host {quote(name)}"

    def _rates(self, found: Mapping[str, Found]) -> dict[str, Any]:
        rates: dict[str, Any] = {}
        if "bytes_per_second" in found:
            with self._at(found["bytes_per_second"], "bytes_per_second"):
                rates["bytes_per_second"] = parse_size(found["bytes_per_second"].value)
                if not rates["bytes_per_second"]:
                    raise InvalidInput("it must be above 0")
        if "requests_per_second" in found:
            rates["requests_per_second"] = found["requests_per_second"].value
        return rates

    # -- mirrors -------------------------------------------------------------------------------------------

    def entry(self, whole: Found) -> Entry:
        found: Mapping[str, Found] = whole.value
        with self._at(found["source"], "source"):
            source = self._source(found["source"].value)
        targets = []
        for each in found["targets"].value:
            with self._at(each, "targets"):
                if each.value.startswith("oci:"):
                    raise InvalidInput(f"{quote(each.value)} is a layout, and a target must be a registry")
                targets.append(self._namespace(each.value))
        with self._at(found["targets"], "targets"):
            check(source if isinstance(source, Namespace) else None, targets)
            if isinstance(source, LayoutReference) and not all(each.prefix for each in targets):
                raise InvalidInput("a layout is copied to HOST[:PORT]/REPOSITORY, this is a host alone")
        given = {key: found[key].value for key in ("untagged", "existing") if key in found}
        if "referrers" in found:
            given["referrers"] = _REFERRERS[found["referrers"].value]
        if "repositories" in found:
            given["repositories"] = self._patterns(found["repositories"].value, "repositories")
        if "tags" in found:
            given["tags"] = self._choice(found["tags"], source)
        for each in found["platforms"].value if "platforms" in found else ():
            with self._at(each, "platforms"):
                Platform.parse(each.value)
        if "delete" in found:
            given["deletes"] = self._deletes(found["delete"].value)
        entry = Entry(
            name=found["name"].value if "name" in found else found["source"].value,
            source=source,
            targets=tuple(targets),
            platforms=tuple(plain(found["platforms"])) if "platforms" in found else (),
            naming=self._naming(found),
            place=f"{self._place}:{whole.line}",
            **given,
        )
        self._check_names(entry, found)
        return entry

    def _source(self, text: str) -> Namespace | LayoutReference:
        named = text if text.startswith("oci:") else self._inventory.addressed(text)
        return parse_source(named, lambda path: str(self._folder / expand_home(path, self._environ)))

    def _namespace(self, text: str) -> Namespace:
        return Namespace.parse(self._inventory.addressed(text))

    def _patterns(self, found: Mapping[str, Found], name: str) -> Patterns:
        for key in ("include", "exclude"):
            for each in found[key].value if key in found else ():
                with self._at(each, f"{name}.{key}"):
                    Patterns((each.value,)).check()
        include, exclude = (
            tuple(plain(found[key])) if key in found else () for key in ("include", "exclude")
        )
        return Patterns(include, exclude)

    def _choice(self, whole: Found, source: Namespace | LayoutReference) -> TagChoice:
        found: Mapping[str, Found] = whole.value
        given = {key: found[key].value for key in ("semver", "newest", "sort") if key in found}
        if "pushed_after" in found:
            with self._at(found["pushed_after"], "tags.pushed_after"):
                given.update(pushed_since(found["pushed_after"].value))
        if "min_age" in found:
            given["min_age"] = parse_duration(found["min_age"].value)
        choice = TagChoice(patterns=self._patterns(found, "tags"), **given)
        with self._at(found.get("semver", whole), "tags.semver" if "semver" in found else "tags"):
            choice.check()
            if choice.needs_times and isinstance(source, LayoutReference):
                raise InvalidInput("a layout has no push times", advice=Advice("omit-times", side="source"))
        return choice

    def _naming(self, found: Mapping[str, Found]) -> Naming:
        renames = []
        for each in found["rename"].value if "rename" in found else ():
            renames.append(rename := Rename(**plain(each)))
            with self._at(each, "rename"):
                rename.check()
        return Naming(renames=tuple(renames), flatten=found["flatten"].value if "flatten" in found else 0)

    def _deletes(self, found: Mapping[str, Found]) -> Deletes:
        given = {key: each.value for key, each in found.items()}
        if given.get("mode") is False:  # YAML 1.1 reads off so
            given["mode"] = "off"
        if "grace" in given:
            given["grace"] = parse_duration(given["grace"])
        return Deletes(**given)

    def _check_names(self, entry: Entry, found: Mapping[str, Found]) -> None:
        """Names that are given without patterns must be valid on both sides, and stay apart."""
        if isinstance(entry.source, LayoutReference):
            for key in ("repositories", "rename", "flatten"):
                if key in found:
                    with self._at(found[key], key):
                        raise InvalidInput("a layout is one repository, named by the target")
            return
        with self._at(found.get("repositories", found["source"]), "repositories"):
            taken: dict[str, str] = {}
            for name in entry.named or ():
                entry.source.reference(name)
                for target in entry.targets:
                    entry.target_reference(target, name)
                first = taken.setdefault(entry.target_name(name), name)
                if first != name:
                    raise InvalidInput(f"{first} and {name} both become {entry.target_name(name)}")

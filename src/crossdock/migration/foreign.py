"""Files of regsync and of skopeo sync turned into a migration file, with notes on what it cannot express."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from msgspec import Struct

from crossdock.errors import Advice, InvalidInput
from crossdock.migration.file import parse_migration
from crossdock.mirroring.patterns import compiled
from crossdock.mirroring.versions import parse_range
from crossdock.oci.text import quote
from crossdock.yamlfile import Kind, read_bytes

Tool = Literal["regsync", "skopeo"]

_VARIABLE = re.compile(r"""\{\{-?\s*env\s+["']([A-Za-z_][A-Za-z0-9_]*)["']\s*-?\}\}""")
_OURS = re.compile(r"(?<!\$)\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_/-]*")  # as a regular expression it matches itself alone
_GO_ALONE = re.compile(r"\[\[:|\\[zpPQC]|\(\?[a-z]*U")  # of Go's syntax; Python reads them otherwise, or not
_NEEDS_NOTHING = {"version", "type", "source", "target"}
_MOST_CONNECTIONS = 256

Members = dict[str, Any]


class Translation(Struct, frozen=True):
    """A migration file. Whatever it cannot express is in its comments, and in `notes`."""

    text: str
    notes: tuple[str, ...]


def translate_file(tool: Tool, path: Path, target: str = "") -> Translation:
    """As `translate`, from a file. Blocks."""
    kind = Kind(f"the file of {tool}", Advice("correct-file", f"it must be a file that {tool} reads"), {})
    return translate(tool, read_bytes(path, kind), str(path), target)


def translate(tool: Tool, data: bytes, place: str, target: str = "") -> Translation:
    """Our file for one of `tool`; `place` names it in messages.

    `target` is ``HOST[:PORT][/PREFIX]``. It is what skopeo's file does not have, where ``${TARGET}`` stands
    without it, and takes the place of the hosts of regsync's targets. Secrets are left out. Raises
    `InvalidInput` for what is no such file.
    """
    document = _load(data, place, tool)
    reader = (_Regsync if tool == "regsync" else _Skopeo)(place, target)
    found = reader.read(document)
    notes = list(dict.fromkeys(reader.notes))
    if not found["mirrors"]:
        raise InvalidInput(
            f"{place}: nothing in it can be mirrored" + (f": {notes[0]}" if notes else ""),
            advice=Advice("correct-file", f"it must be a file that {tool} reads"),
        )
    body = yaml.safe_dump(found, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
    try:
        parse_migration(_OURS.sub("variable.example", body).encode(), place, Path())
    except InvalidInput as error:
        notes.append(f"this file is refused as it is: {str(error).partition(': ')[2]}")
    lines = [f"# From {tool}'s {quote(Path(place).name)}."]
    lines += ["# What it could not express:", *(f"# - {note}" for note in notes)] if notes else []
    return Translation("\n".join(lines) + "\n" + body, tuple(notes))


def _load(data: bytes, place: str, tool: Tool) -> Members:
    advice = Advice("correct-file", f"it must be a file that {tool} reads")
    try:
        document = yaml.safe_load(data)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = error.problem or error.context
        raise InvalidInput(f"{place}{at}: this is not YAML: {problem}", advice=advice) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        raise InvalidInput(f"{place}: this is not YAML", advice=advice) from None
    if not isinstance(document, dict):
        raise InvalidInput(f"{place}: this must be a mapping", advice=advice)
    return document


class _Reader:
    """Reading that both formats share."""

    takes_prereleases = False  # in ranges that name none

    def __init__(self, place: str, target: str) -> None:
        self.notes: list[str] = []
        self._place = place
        self._target = target.removeprefix("docker://").rstrip("/")

    def _mapping(self, value: Any, name: str) -> Members:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise InvalidInput(f"{self._place}: {name} must be a mapping")
        return value

    def _list(self, value: Any, name: str) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            raise InvalidInput(f"{self._place}: {name} must be a list")
        return value

    def _strings(self, value: Any, name: str) -> list[str]:
        values = self._list(value, name)
        if any(isinstance(each, list | dict) for each in values):
            raise InvalidInput(f"{self._place}: {name} must be a list of strings")
        return [str(each) for each in values]

    def _note(self, where: str, what: str) -> None:
        self.notes.append(f"{where}: {what}")

    def _expression(self, text: str, where: str, *, whole: bool) -> str | None:
        """A pattern of ours for a regular expression of Go; None: it is noted that there is none."""
        if whole and _PLAIN.fullmatch(text):
            return text
        try:
            compiled(text)
        except InvalidInput as error:
            self._note(where, f"{error}, as Python has them")
            return None
        if _GO_ALONE.search(text):
            self._note(where, f"{quote(text)} is Go's syntax: check what Python makes of it")
        return f"/^{text}$/" if whole else f"/{text}/"

    def _range(self, texts: list[str], where: str) -> str | None:
        text = " || ".join(each for each in texts if each)
        try:
            parse_range(text)
        except InvalidInput as error:
            self._note(where, str(error))
            return None
        if self.takes_prereleases or re.search("[0-9]-[0-9A-Za-z]", text):
            self._note(where, "pre-releases are in a range only where it names one of the same version")
        return _value(text)


def _value(value: Any) -> str:
    """Text of theirs as a value of ours: a template for a variable is one, all else stands for itself."""
    return _VARIABLE.sub(r"${\1}", str(value).replace("${", "$${"))


def _merged(mirrors: list[Members], key: str) -> list[Members]:
    """Mirrors that differ in `key` alone, a list of names, as one."""
    found: dict[str, Members] = {}
    for mirror in mirrors:
        parts = mirror["repositories"] if key == "include" and "repositories" in mirror else mirror
        if key not in parts or (key == "include" and ("rename" in mirror or not parts[key])):
            found[str(len(found))] = mirror
            continue
        rest = {name: each for name, each in mirror.items() if name != key}
        if parts is not mirror:
            rest["repositories"] = {name: each for name, each in parts.items() if name != key}
        first = found.setdefault(repr(sorted(rest.items(), key=str)), mirror)
        if first is not mirror:
            into = first["repositories"] if parts is not mirror else first
            into[key] = list(dict.fromkeys([*into[key], *parts[key]]))
    return list(found.values())


# -- regsync -------------------------------------------------------------------------------------------------


class _Name(Struct, frozen=True):
    """A repository or image as docker writes it."""

    parent: str  # with the host
    name: str
    tag: str = ""


class _Regsync(_Reader):
    """``regsync.yml``: https://regclient.org/usage/regsync/."""

    takes_prereleases = True

    def read(self, document: Members) -> Members:
        defaults = self._mapping(document.get("defaults"), "defaults")
        self._unknown("defaults", defaults, {"digestTags", "referrers", "parallel"})
        hosts = self._hosts(self._list(document.get("creds"), "creds"))
        mirrors: list[Members] = []
        for index, each in enumerate(self._list(document.get("sync"), "sync")):
            where = f"sync[{index}]"
            mirrors += self._sync({**defaults, **self._mapping(each, where)}, where, set(defaults))
        limits = {"limits": {"hosts": hosts}} if hosts else {}
        return {"version": 1, **limits, "mirrors": _merged(_merged(mirrors, "include"), "targets")}

    def _unknown(self, where: str, found: Members, known: set[str]) -> None:
        for key in found:
            if key not in known and found[key] not in (None, "", [], {}, 0, False):
                self._note(f"{where}.{key}", _NOTES.get(key, "there is nothing like it"))

    def _hosts(self, creds: list[Any]) -> dict[str, Members]:
        hosts: dict[str, Members] = {}
        for index, each in enumerate(creds):
            found = self._mapping(each, f"creds[{index}]")
            host, where = str(found.get("registry", "")), f"creds[{index}]"
            self._unknown(where, found, {"registry", "reqPerSec", "reqConcurrent"})
            limits: Members = {}
            if isinstance(rate := found.get("reqPerSec"), int | float) and rate > 0:
                limits["requests_per_second"] = rate
            if isinstance(most := found.get("reqConcurrent"), int) and most > 0:
                limits["connections"] = min(most, _MOST_CONNECTIONS)
            if not limits:
                continue
            if "{{" in host:
                self._note(where, "a host of limits cannot be a variable")
            else:
                hosts[host] = limits
        return hosts

    def _sync(self, found: Members, where: str, defaults: set[str]) -> Iterator[Members]:
        handled = {"tags", "tagSets", "repos", "platform", "platforms", "digestTags", "referrers"}
        own = {key: each for key, each in found.items() if key not in defaults}
        self._unknown(where, own, handled | _NEEDS_NOTHING)
        for key in ("source", "target", "type"):
            if not isinstance(found.get(key), str):
                raise InvalidInput(f"{self._place}: {where} has no {key}")
        source, target = (_value(found[key]) for key in ("source", "target"))
        if "{{" in source or "{{" in target:
            self._note(where, "left out: of templates, only {{env}} has its like")
            return
        if target.startswith("ocidir://"):
            self._note(where, f"left out: a layout ({quote(target)}) cannot be the target of a mirror")
            return
        common = self._common(found, where)
        for mirror in self._places(found, where, source, target):
            for tags in self._tags(found, where, mirror.pop("tag", "")):
                yield {**mirror, **({"tags": tags} if tags else {}), **common}

    def _common(self, found: Members, where: str) -> Members:
        common: Members = {}
        platforms = self._strings(found.get("platforms"), f"{where}.platforms")
        platforms = platforms or ([str(found["platform"])] if found.get("platform") else [])
        if "local" in platforms:
            self._note(f"{where}.platform", "local is not known: name the platform")
        elif platforms:
            common["platforms"] = [_value(each) for each in platforms]
        if len(platforms) > 1:
            self._note(f"{where}.platforms", "an index of these platforms is made; its digest changes")
        common["referrers"] = bool(found.get("referrers") or found.get("digestTags"))
        return common

    def _places(self, found: Members, where: str, source: str, target: str) -> Iterator[Members]:
        kind = found["type"]
        if kind == "registry":
            mirror: Members = {"source": source.rstrip("/"), "targets": [self._moved(target.rstrip("/"))]}
            repos = self._mapping(found.get("repos"), f"{where}.repos")
            if (patterns := self._patterns(repos, f"{where}.repos")) is not None:
                yield {**mirror, **({"repositories": patterns} if patterns else {})}
            return
        if kind not in ("repository", "image"):
            raise InvalidInput(f"{self._place}: {where}.type must be registry, repository or image")
        there = _parse_name(target)
        if there is None:
            self._note(where, "left out: a name with a digest cannot be mirrored")
            return
        place = self._moved(there.parent)
        if source.startswith("ocidir://"):
            folder, _, tag = source.removeprefix("ocidir://").partition(":")
            if kind == "image" and tag != there.tag:
                self._note(where, "left out: a tag cannot be renamed")
                return
            yield {"source": f"oci:{folder}", "targets": [f"{place}/{there.name}"], "tag": tag}
            return
        here = _parse_name(source)
        if here is None or (kind == "image" and here.tag != there.tag):
            what = "a name with a digest cannot be mirrored" if here is None else "a tag cannot be renamed"
            self._note(where, f"left out: {what}")
            return
        mirror = {"source": here.parent, "targets": [place], "repositories": {"include": [here.name]}}
        if here.name != there.name:
            mirror["rename"] = [{"match": f"^{re.escape(here.name)}$", "to": there.name}]
        yield {**mirror, **({"tag": here.tag} if kind == "image" else {})}

    def _moved(self, place: str) -> str:
        """The place with the given target instead of its host."""
        _, slash, prefix = place.partition("/")
        return f"{self._target}{slash}{prefix}" if self._target else place

    def _tags(self, found: Members, where: str, tag: str) -> Iterator[Members]:
        """The choices of tags, of which each tag needs but one."""
        if tag:
            yield {"include": [tag]}
            return
        sets = [
            self._mapping(each, f"{where}.tagSets[{index}]")
            for index, each in enumerate(self._list(found.get("tagSets"), f"{where}.tagSets"))
        ]
        own = self._mapping(found.get("tags"), f"{where}.tags")
        if any(own.values()):
            sets.append(own)
        if sets and all(set(each) == {"allow"} for each in sets):
            sets = [{"allow": [pattern for each in sets for pattern in each["allow"]]}]
        for each in sets:
            patterns = self._patterns(each, f"{where}.tags")
            texts = self._strings(each.get("semverRange"), f"{where}.tags.semverRange")
            versions = self._range(texts, f"{where}.tags.semverRange") if any(texts) else ""
            if patterns is None or versions is None:
                self._note(where, "left out: its choice of tags cannot be expressed")
            else:
                yield {**patterns, **({"semver": versions} if versions else {})}
        if not sets:
            yield {}

    def _patterns(self, found: Members, where: str) -> Members | None:
        """Include and exclude for allow and deny; None: a list of them would choose too much or nothing."""
        patterns: Members = {}
        for key, ours in (("allow", "include"), ("deny", "exclude")):
            given = self._strings(found.get(key), f"{where}.{key}")
            known = [each for text in given if (each := self._expression(text, f"{where}.{key}", whole=True))]
            if given and (not known or (key == "deny" and len(known) < len(given))):
                return None
            if known:
                patterns[ours] = [_value(each) for each in known]
        return patterns


_NOTES = {
    "backup": "what a tag meant is not kept; `existing: report` leaves such tags as they are",
    "blobLimit": "the size of a blob is not limited",
    "cacheCount": "known content is always remembered during a run",
    "cacheTime": "known content is always remembered during a run",
    "clientCert": "client certificates are given to the command",
    "clientKey": "client certificates are given to the command",
    "credHelper": "name the helper in docker's configuration or in the inventory",
    "fastCheck": "the target is always checked first",
    "forceRecursive": "lost blobs are looked for only if the command is given that option",
    "hooks": "no commands are run",
    "hostname": "hosts at another address are in the inventory (hosts)",
    "includeExternal": "layers at other addresses stay there, unless the command has the option to copy them",
    "interval": "nothing is repeated: run it by cron or a timer",
    "mediaTypes": "all types of manifests are copied",
    "mirrors": "hosts at another address are in the inventory (hosts)",
    "pass": "log in by `crossdock login`, or name the password's variable or file in the inventory",
    "ratelimit": "limits that a registry tells are kept to without being told to",
    "referrerFilters": "all referrers are copied",
    "regcert": "name the certificate in the inventory (tls.ca)",
    "schedule": "nothing is repeated: run it by cron or a timer",
    "skipDockerConfig": "another file with logins is given to the command",
    "tls": "registries without HTTPS are marked in the inventory (tls.plain_http)",
    "token": "name the token's file in the inventory (token_file)",
    "user": "log in by `crossdock login`, or name the user in the inventory",
    # skopeo
    "credentials": "log in by `crossdock login`, or name user and password's variable in the inventory",
    "cert-dir": "name the certificate in the inventory (tls.ca)",
    "tls-verify": "certificates are always checked: name the CA in the inventory (tls.ca), or plain_http",
}


def _parse_name(text: str) -> _Name | None:
    """Docker's way to write a name; None for one with a digest."""
    text = text.removeprefix("docker://")
    if "@" in text:
        return None
    first, slash, _ = text.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost" or "$" in first)
    if not is_host:
        text = f"docker.io/{text}" if slash else f"docker.io/library/{text}"
    parent, _, last = text.rpartition("/")
    name, _, tag = last.partition(":")
    return _Name(parent, name, tag or "latest")


# -- skopeo --------------------------------------------------------------------------------------------------


class _Skopeo(_Reader):
    """The file that skopeo-sync(1) reads. Names at the target are those that it gives unless scoped."""

    def read(self, document: Members) -> Members:
        mirrors: list[Members] = []
        for host, each in document.items():
            mirrors += self._registry(str(host), self._mapping(each, str(host)))
        self._note(
            "all",
            "repositories keep the last part of their name, as skopeo has it; flatten: 0 keeps all",
        )
        self._note("all", "all platforms are copied, as skopeo does when told to; platforms: chooses some")
        return {"version": 1, "mirrors": _merged(mirrors, "include")}

    def _registry(self, host: str, found: Members) -> Iterator[Members]:
        for key in found:
            is_known = key in ("images", "images-by-tag-regex", "images-by-semver")
            if not is_known and (key != "tls-verify" or found[key] is False):
                self._note(f"{host}.{key}", _NOTES.get(key, "there is nothing like it"))
        for name, tags in self._mapping(found.get("images"), f"{host}.images").items():
            where = f"{host}.images.{name}"
            wanted = self._strings(tags, where)
            digests = [each for each in wanted if ":" in each]
            for each in digests:
                self._note(where, f"{each} is a digest, and a mirror copies tags: `crossdock copy` copies it")
            if not digests or len(digests) < len(wanted):
                chosen = [_value(each) for each in wanted if each not in digests]
                yield self._mirror(host, name, {"include": chosen} if chosen else {})
        for name, text in self._mapping(
            found.get("images-by-tag-regex"), f"{host}.images-by-tag-regex"
        ).items():
            pattern = self._expression(str(text), f"{host}.images-by-tag-regex.{name}", whole=False)
            if pattern is not None:
                yield self._mirror(host, name, {"include": [_value(pattern)]})
        for name, text in self._mapping(found.get("images-by-semver"), f"{host}.images-by-semver").items():
            where = f"{host}.images-by-semver.{name}"
            texts = self._strings(text if isinstance(text, list) else [text], where)
            versions = self._range(texts, where)
            if versions is not None:
                yield self._mirror(host, name, {"semver": versions})

    def _mirror(self, host: str, name: Any, tags: Members) -> Members:
        return {
            "source": _value(host),
            "targets": [self._target or "${TARGET}"],
            "repositories": {"include": [_value(name)]},
            **({"tags": tags} if tags else {}),
            "flatten": 1,
        }

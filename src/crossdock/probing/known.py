"""The table of kinds of registries, and the facts learned about single ones, as documents. No network."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from crossdock.errors import InvalidReference
from crossdock.inventory.values import Inventory
from crossdock.kept.hosts import HostFacts
from crossdock.oci.reference import Reference
from crossdock.oci.text import quote
from crossdock.registry.kinds import ITS_OWN, Kinds, schema, table

__all__ = ["all_known", "forget", "one_known", "schema"]

_INVENTORY = "inventory"


def all_known(inventory: Inventory, state: Path | None) -> dict[str, Any]:
    """The table of kinds, and the facts that earlier processes learned about registries. Blocks."""
    kinds, facts = Kinds(inventory.kinds, inventory.place), _facts(state)
    hosts = facts.hosts() if facts is not None else []
    return {
        "kinds": {name: _kind(kinds, name) for name in kinds.names()},
        "registries": [{"registry": host, "learned": _learned(facts, host)} for host in hosts],
    }


def forget(host: str, state: Path | None) -> None:
    """Remove the facts learned about ``host[:port]``. Raises OSError. Blocks."""
    facts = _facts(state)
    if facts is not None:
        facts.forget(_api_host(host))


def _facts(state: Path | None) -> HostFacts | None:
    return HostFacts(state) if state is not None else None


def _kind(kinds: Kinds, name: str) -> dict[str, Any]:
    row, own = table().get(name), kinds.own.get(name, {})
    values: dict[str, Any] = {}
    if row is not None:
        for value, cited in row.values.items():
            values[value] = to_builtins(cited)
    values |= {value: _given(each) for value, each in own.items() if value != "like"}
    return {"title": kinds.named(name).title, "like": kinds.like(name) or None, "values": values}


def one_known(host: str, inventory: Inventory, state: Path | None) -> dict[str, Any]:
    """The values in force for ``host[:port]``, and the source of each. Blocks."""
    kinds, facts = Kinds(inventory.kinds, inventory.place), _facts(state)
    api_host = _api_host(host)
    learned = _learned(facts, api_host)
    entry = next(iter(inventory.served_by(host)), None)
    given = dict(entry.values) if entry is not None else {}
    shown = learned.get("kind", {}).get("value")
    name, source = kinds.chosen(api_host, entry.kind if entry is not None else "", shown)
    kind = kinds.named(name, given)
    values: dict[str, Any] = {}
    chain = list(_chain(kinds, name))
    for is_own in (False, True):  # as in `Kinds.named`: all of the inventory's go before the table's
        for each in chain:
            values |= {
                key: value
                for key, value in each["values"].items()
                if (value["source"] == _INVENTORY) is is_own
            }
    values |= {value: _given(each) for value, each in given.items()}
    return {
        "registry": host,
        "kind": name,
        "known_by": source,
        "title": kind.title,
        "values": values,
        "learned": learned,
    }


def _given(value: object) -> dict[str, Any]:
    return {"value": value, "source": _INVENTORY}


def _chain(kinds: Kinds, name: str) -> Iterator[dict[str, Any]]:
    """The kind that it is like, and so on, before the kind itself."""
    kind = _kind(kinds, name)
    if kind["like"] and kind["like"] != name:
        for each in _chain(kinds, kind["like"]):
            inherited = {key: value for key, value in each["values"].items() if key not in ITS_OWN}
            yield {**each, "values": inherited}
    yield kind


def _learned(facts: HostFacts | None, host: str) -> dict[str, Any]:
    found = facts.facts(host) if facts is not None else {}
    return {
        name: {
            "value": fact.value,
            "at": datetime.fromtimestamp(fact.at, UTC).isoformat(timespec="seconds"),
        }
        for name, fact in sorted(found.items())
    }


def _api_host(host: str) -> str:
    """The name that the registry's requests go to: Docker Hub has two. Raises `InvalidReference`."""
    try:
        return Reference(host, "x").api_host
    except InvalidReference:
        raise InvalidReference(f"{quote(host)} is not a registry's host[:port]") from None

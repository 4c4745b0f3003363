"""Documents that are made to be slow: bounded before they are parsed, parsed aside and once."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from crossdock.errors import InvalidManifest, LimitExceeded
from crossdock.oci import manifest as module
from crossdock.oci.manifest import LARGE, Limits, parse_manifest
from crossdock.reading import read_manifest

INDEX = "application/vnd.oci.image.index.v1+json"
MANY = Limits().values


def document(extra: str) -> bytes:
    return f'{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[],"x":{extra}}}'.encode()


@pytest.mark.parametrize(
    "extra",
    [
        "[" + ",".join(["[" * 28 + "]" * 28] * 20_000) + "]",
        "[" + ",".join(["[]"] * MANY) + "]",
        "[" + ",".join(["{}"] * MANY) + "]",
        "[" + ",".join(["1"] * (MANY + 1)) + "]",
        "{" + ",".join(f'"{number}":0' for number in range(MANY + 1)) + "}",
    ],
    ids=["nested", "lists", "objects", "numbers", "keys"],
)
def test_too_many_values_are_refused_before_anything_is_parsed(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(json, "loads", never)
    with pytest.raises(LimitExceeded, match="values, over the limit of 200000"):
        parse_manifest(document(extra))


@pytest.mark.parametrize(
    "extra", ["[" * 33 + "]" * 33, "[" * 100_000 + "]" * 100_000, '{"a":' * 40 + "1" + "}" * 40]
)
def test_too_deep_a_document_is_refused(extra: str) -> None:
    with pytest.raises(LimitExceeded, match="nested deeper"):
        parse_manifest(document(extra))


def test_a_list_as_long_as_allowed_is_not_a_document_of_too_many_values() -> None:
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "size": 1,
        "platform": {
            "os": "linux",
            "architecture": "arm",
            "variant": "v7",
            "os.version": "1",
            "os.features": ["a", "b"],
        },
        "annotations": {"a": "1", "b": "2"},
    }
    entries = [{**entry, "digest": f"sha256:{number:064x}"} for number in range(Limits().entries)]
    found = parse_manifest(
        json.dumps({"schemaVersion": 2, "manifests": entries}).encode(), INDEX, Limits(size=8 << 20)
    )
    assert len(found.manifests) == Limits().entries


async def test_a_large_document_is_parsed_once_and_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    decode = json.loads

    def noted(*words: Any, **more: Any) -> Any:
        threads.append(threading.current_thread())
        return decode(*words, **more)

    monkeypatch.setattr(json, "loads", noted)
    module._parse_large.cache_clear()
    data = document(json.dumps("x" * LARGE))
    first = await read_manifest(data, INDEX)
    assert await read_manifest(bytes(bytearray(data)), INDEX) == first
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


async def test_small_documents_need_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "to_thread", None)
    assert (await read_manifest(document("1"), INDEX)).is_index


async def test_the_fault_of_a_large_document_is_reported() -> None:
    for _ in range(2):
        with pytest.raises(InvalidManifest, match="twice"):
            await read_manifest(document(json.dumps("x" * LARGE))[:-1] + b',"x":1}', INDEX)

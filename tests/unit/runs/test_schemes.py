"""A new kind of source is a row of `SCHEMES` and a module such as this one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from crossdock import CopyOptions, copy, inspect, list_tags
from crossdock.errors import InvalidReference, Side
from crossdock.imagebuilder import ImageBuilder, sample_index
from crossdock.oci.digest import Digest
from crossdock.oci.reference import SCHEMES, LayoutReference, Location, Scheme, parse_location
from crossdock.runs.pairs import listed
from crossdock.store.layout import LayoutStore


@dataclass(frozen=True, slots=True)
class BoxReference(Location):
    """``box:DIR[:TAG]``: a layout that can only be read."""

    path: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> BoxReference:
        path, _, tag = text.removeprefix("box:").partition(":")
        if not path:
            raise InvalidReference(f"invalid reference {text}: the path is missing")
        return cls(path, tag or None)

    @property
    def place(self) -> tuple[str, str]:
        return "box:", self.path

    def __str__(self) -> str:
        return f"box:{self.path}" + (f":{self.tag}" if self.tag else "")


def open_box(location: BoxReference, side: Side, options: CopyOptions) -> LayoutStore:
    assert side == "source"
    return LayoutStore(location.path)


@pytest.fixture(autouse=True)
def scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Scheme(f"{__name__}:BoxReference.parse", f"{__name__}:open_box", sides=("source",))
    monkeypatch.setitem(SCHEMES, "box:", row)


async def test_it_is_copied_inspected_and_listed(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    builder = ImageBuilder(layout, seed=5)
    builder.tag(sample_index(builder, layer_size=3000), "v1")
    result = await copy(f"box:{layout}:v1", f"oci:{tmp_path / 'copy'}:v1")
    assert result.source == f"box:{layout}:v1"
    assert (await inspect(f"oci:{tmp_path / 'copy'}:v1")).digest == result.digest
    assert (await inspect(f"box:{layout}")).digest == result.digest
    assert await list_tags(f"box:{layout}") == ["v1"]


def test_it_is_refused_as_a_target(tmp_path: Path) -> None:
    with pytest.raises(InvalidReference, match=r"^pair 1: box:/x:v1 cannot be a target$") as caught:
        listed([(f"oci:{tmp_path}", "box:/x:v1")])
    assert (caught.value.side, caught.value.reference) == ("target", "box:/x:v1")


def test_its_parser_and_the_list_of_schemes_appear_in_messages() -> None:
    with pytest.raises(InvalidReference, match="the path is missing"):
        parse_location("box:")
    with pytest.raises(InvalidReference, match="docker-archive: and box: are"):
        parse_location("sif:x")
    assert parse_location("box:a:b") == BoxReference("a", "b")
    assert parse_location("oci:a:b") == LayoutReference("a", "b")

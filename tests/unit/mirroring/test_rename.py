"""The names of repositories at the target."""

from __future__ import annotations

import pytest

from crossdock.errors import InvalidInput
from crossdock.mirroring.entry import Entry
from crossdock.mirroring.names import Namespace
from crossdock.mirroring.rename import Collision, Naming, Rename, collisions
from crossdock.oci.reference import LayoutReference

LIBS = Rename("^lib-(.*)$", r"libs/\1")


@pytest.mark.parametrize(
    ("naming", "name", "target"),
    [
        (Naming(), "a/b", "a/b"),
        (Naming(renames=(LIBS,)), "lib-x", "libs/x"),
        (Naming(renames=(LIBS,)), "my/lib-x", "my/lib-x"),
        (Naming(renames=(Rename("b", "c"),)), "a/b/b", "a/c/c"),
        (Naming(renames=(Rename("^a", "b"), Rename("^b", "c"))), "a", "b"),
        (Naming(renames=(Rename("^x", "y"), Rename("^(?P<n>a)", r"\g<n>z"))), "ab", "azb"),
        (Naming(flatten=1), "a/b/c", "c"),
        (Naming(flatten=2), "a/b/c", "b/c"),
        (Naming(flatten=5), "a/b/c", "a/b/c"),
        (Naming(renames=(LIBS,), flatten=1), "lib-x", "x"),
    ],
)
def test_first_renamed_then_flattened(naming: Naming, name: str, target: str) -> None:
    assert naming.target_name(name) == target


@pytest.mark.parametrize(
    "rename", [Rename("(", "a"), Rename("a", r"\1"), Rename("(a)", r"\g<x>"), Rename("a", "\\")]
)
def test_a_rename_that_cannot_work_is_refused(rename: Rename) -> None:
    with pytest.raises(InvalidInput, match=r"regular expression|does not fit"):
        Naming(renames=(rename,)).check()


def test_names_that_become_one_are_found() -> None:
    assert collisions(["a/x", "b/x", "a/y", "c/x", "a/x"], Naming(flatten=1)) == [
        Collision("a/x", "b/x", "x"),
        Collision("a/x", "c/x", "x"),
    ]
    assert str(Collision("a/x", "b/x", "x")) == "a/x and b/x both become x"
    assert collisions(["a/x", "b/x"], Naming()) == []


def test_an_entry_names_content_at_a_target() -> None:
    target = Namespace("new.example", "team")
    entry = Entry(
        name="a", source=Namespace("old.example"), targets=(target,), naming=Naming(renames=(LIBS,))
    )
    assert str(entry.target_reference(target, "lib-x", "v1")) == "new.example/team/libs/x:v1"
    layout = Entry(name="a", source=LayoutReference("there"), targets=(target,))
    assert str(layout.target_reference(target, "", "v1")) == "new.example/team:v1"


def test_a_name_that_is_not_valid_at_the_target_is_refused() -> None:
    target = Namespace("new.example", "team")
    entry = Entry(
        name="a",
        source=Namespace("old.example"),
        targets=(target,),
        naming=Naming(renames=(Rename(".*", "X"),)),
    )
    with pytest.raises(InvalidInput):
        entry.target_reference(target, "a")

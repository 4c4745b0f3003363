"""Lists of pairs: parsing, and the line that an error names."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from crossdock.cli import pairlist
from crossdock.cli.exits import UsageError
from crossdock.cli.pairlist import read_pairs
from crossdock.mirroring.names import Namespace

Reader = Callable[[bytes], list[tuple[str, str]]]
X, Y = "docker.io/library/x:1", "docker.io/library/y:1"


@pytest.fixture
def pairs_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.chdir(tmp_path)

    def read(data: bytes) -> list[tuple[str, str]]:
        Path("list").write_bytes(data)
        return [(str(source), str(target)) for source, target in read_pairs("list")]

    return read


@pytest.mark.parametrize(
    "data",
    [
        b"x:1 h/x:1\ny:1 h/y:1\n",
        b"x:1 h/x:1\ny:1 h/y:1",
        b"\xef\xbb\xbfx:1\th/x:1\r\n\r\n  y:1   h/y:1  \r\n",
        b"# all of it\nx:1 h/x:1 # the first\n \t \n#\ny:1 h/y:1 #the second # and more\n",
        b"x:1 h/x:1\nx:1 h/x:1\ndocker.io/library/x:1 h/x:1\ny:1 h/y:1\n",
    ],
)
def test_a_line_is_a_pair_and_the_rest_is_white_space_and_comments(pairs_of: Reader, data: bytes) -> None:
    assert pairs_of(data) == [(X, "docker.io/h/x:1"), (Y, "docker.io/h/y:1")]


def test_a_line_may_have_several_targets(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"x:1 h/x:1 h/x:2\ny:1 h/y:1\nx:1 h/x:3 h/x:1 h/x:4 # two are new\n")
    pairs = read_pairs(str(path))
    assert [str(target) for _, target in pairs] == [
        f"docker.io/h/{each}" for each in ("x:1", "x:2", "y:1", "x:3", "x:4")
    ]
    assert list(pairs.lines()) == [range(2), range(2, 3), range(3, 5)]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"x h/x\nx\n", "list:2: a line is SOURCE TARGET, this one has 1 word"),
        (b"x h/x h/UPPER\n", "list:1: target: .*lower case"),
        (b"x h/t:1 h/u:1\ny h/u:1\n", "list:2: docker.io/h/u:1 is written by list:1 too"),
        (b"\n\nx h.example/UPPER/x\n", "list:3: target: .*lower case"),
        (b"ftp://h/x h/x\n", "list:1: source: .*ftp"),
        (b"user:sesame@h/x h/x\n", r"list:1: source: invalid reference '\*\*\*"),
        (b"x h/x\n\xff\xfe h/y\n", "list:2: the line is not UTF-8"),
        (b"x " + b"y" * (64 << 10) + b"\n", "list:1: the line is longer than 65536 bytes"),
        (b"x h/t:1\n#\ny h/t:1\n", "list:3: docker.io/h/t:1 is written by list:1 too"),
        (b"x h/t:1\ny h/t:1@sha256:" + b"a" * 64, "list:2: .* is written by list:1 too"),
        (b"x oci:dir:1\ny oci:./dir:1\n", "list:2: oci:./dir:1 is written by list:1 too"),
        (b"h/b:1 h/c:1\nx h/b:1\n", "list:1: docker.io/h/b:1 is written by list:2"),
    ],
)
def test_an_invalid_list_of_pairs_is_a_usage_error_that_names_the_line(
    pairs_of: Reader, data: bytes, told: str
) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        pairs_of(data)
    assert "sesame" not in str(caught.value)


def test_sources_may_have_many_targets_and_untagged_targets_many_sources(pairs_of: Reader) -> None:
    digest = b"@sha256:" + b"a" * 64
    lines = (b"x h/x", b"x h/y", b"y h/r" + digest, b"z h/r" + digest, b"x oci:d", b"y oci:d", b"h/s h/s")
    assert len(pairs_of(b"\n".join(lines))) == len(lines)


def test_sources_alone_go_below_a_place_under_their_own_path(tmp_path: Path) -> None:
    digest = "@sha256:" + "a" * 64
    sources = ["x", "h.example:5000/team/a:1", f"h.example/b{digest}", "h.example/c:1 other.example/d:2"]
    (tmp_path / "list").write_text("\n".join(sources))
    found = read_pairs(str(tmp_path / "list"), Namespace("new.example", "all"))
    assert [str(target) for _, target in found] == [
        "new.example/all/library/x:latest",
        "new.example/all/team/a:1",
        f"new.example/all/b{digest}",
        "other.example/d:2",
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("oci:dir:v1", "list:1: a layout has no path"),
        ("h.example/UPPER", "list:1: .*lower case"),
        ("h.example/a:1\nother.example/a:1", "list:2: new.example/a:1 is written by .*list:1 too"),
    ],
)
def test_sources_alone_that_have_no_place_are_refused(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "list").write_text(line)
    with pytest.raises(UsageError, match=told):
        read_pairs(str(tmp_path / "list"), Namespace("new.example"))


def test_stdin_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"x h/x\ny h/y\n")))
    assert len(read_pairs("-")) == 2
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"x h/x\ny\n")))
    with pytest.raises(UsageError, match="stdin:2: "):
        read_pairs("-")


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_list_that_cannot_be_read_is_a_usage_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--from-file: cannot read"):
        read_pairs(str(tmp_path / name))


def test_a_list_has_a_longest_length(pairs_of: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairlist, "MOST_LINES", 3)
    assert pairs_of(b"#\n\nx h/x\n")
    with pytest.raises(UsageError, match="more than 3 lines"):
        pairs_of(b"#\n\nx h/x\n#\n")

"""``crossdock copy``, ``inspect`` and ``tags`` over a fake API."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from crossdock import CopyResult, Inspection, Session, api
from crossdock.cli.command import run
from crossdock.cli.report import closing_line
from crossdock.errors import (
    Advice,
    CopyError,
    NotFound,
)
from crossdock.events import BlobDone, Listener
from crossdock.imagebuilder import ImageBuilder, sample_index
from crossdock.oci.manifest import parse_manifest
from crossdock.options import CopyOptions, Credentials, Verify
from crossdock.runs.totals import Totals
from support.command import error_of

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
MiB = 1 << 20

RESULT = CopyResult(
    source="docker.io/library/x:1",
    target="h:1/x:1",
    digest=DIGEST,
    source_digest=DIGEST,
    media_type="application/vnd.oci.image.index.v1+json",
    manifests=7,
    blobs_moved=12,
    blobs_skipped=3,
    blobs_mounted=1,
    bytes_moved=431 * MiB,
    bytes_skipped=9,
    bytes_mounted=4,
    bytes_requested=432 * MiB,
    bytes_resumed=0,
    bytes_spooled=0,
    uploads_resumed=0,
    retries=0,
    seconds=3.1,
)


class FakeCopy:
    """Replaces `Session.copy`: records its arguments; its runs return `result` or raise it."""

    def __init__(self) -> None:
        self.result: CopyResult | BaseException = RESULT
        self.calls: list[tuple[str, str, CopyOptions]] = []

    async def __call__(
        self, source: str, target: str, options: CopyOptions, *, on_event: Listener
    ) -> CopyResult:
        self.calls.append((source, target, options))
        on_event(BlobDone(DIGEST, 5, "moved"))
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCopy:
    fake = FakeCopy()
    stand_in(monkeypatch, fake)
    return fake


class FakeRun:
    def __init__(self, work: Awaitable[Any]) -> None:
        self.totals = Totals(images=1)
        self._work = work

    def __await__(self) -> Generator[Any, None, Any]:
        return self._work.__await__()


def stand_in(monkeypatch: pytest.MonkeyPatch, copy: Callable[..., Awaitable[Any]]) -> None:
    """Let every session copy by `copy`, which is given its options, too."""

    def start(session: Session, source: str, target: str, *, on_event: Listener) -> FakeRun:
        return FakeRun(copy(source, target, session._options, on_event=on_event))

    monkeypatch.setattr(Session, "copy", start)


def refused() -> CopyError:
    cause = NotFound(
        "404 from HEAD http://h:1/v2/x/manifests/1", advice=Advice("check-name", "check the tag")
    )
    error = CopyError("x", operation="resolve", side="source", reference="h:1/x:1", cause=cause)
    error.__cause__ = cause
    return error


def test_text_is_the_closing_line_alone(
    fake: FakeCopy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert run(["copy", "x:1", "h:1/x:1"]) == 0
    out, err = capsys.readouterr()
    assert out == (
        f"copied docker.io/library/x:1 -> h:1/x:1  {DIGEST}  7 manifests, 12 blobs moved "
        "(431.0 MiB in 3.1 s, 139.0 MiB/s), 3 skipped, 1 mounted, 0 retries\n"
    )
    assert err == ""


def test_json_is_one_object_with_every_field(fake: FakeCopy, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["copy", "x:1", "h:1/x:1", "--output", "json", "--progress", "none"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == ""
    fields = "source target digest media_type manifests blobs_moved blobs_skipped blobs_mounted bytes_moved "
    fields += "bytes_skipped bytes_mounted bytes_requested retries seconds"
    assert set(fields.split()) <= set(document)
    assert document["bytes_moved"] == 431 * MiB


def test_the_line_says_when_the_digest_is_not_the_sources() -> None:
    from dataclasses import replace

    line = closing_line(
        replace(RESULT, source_digest=OTHER, manifests=1, blobs_moved=1, retries=1, seconds=0.0)
    )
    assert line.endswith(f"; chosen by --platform, so the digest is not the source's {OTHER}")
    assert "1 manifest, 1 blob moved (431.0 MiB in 0.0 s), 3 skipped, 1 mounted, 1 retry" in line


@pytest.mark.parametrize(
    ("verified", "said"),
    [("stream", ""), ("target", "; the bytes were verified by the target alone"), ("reread", "; read back")],
)
def test_the_line_says_when_the_bytes_were_not_only_hashed_here(verified: Verify, said: str) -> None:
    from dataclasses import replace

    line = closing_line(replace(RESULT, verified=verified))
    assert said in line
    assert line.endswith("retries") == (not said)


def test_credentials_of_both_sides_come_from_stdin_source_first(
    fake: FakeCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a:1:2\nb:3\n")))
    assert run(["copy", "x", "h:1/x", "--dest-creds-stdin", "--src-creds-stdin"]) == 0
    options = fake.calls[0][2]
    assert (options.source.credentials, options.target.credentials) == (
        Credentials("a", "1:2"),
        Credentials("b", "3"),
    )


def test_a_missing_credentials_line_is_a_usage_error(
    fake: FakeCopy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a:sesame\n")))
    assert run(["copy", "x", "h:1/x", "--dest-creds-stdin", "--src-creds-stdin"]) == 2
    assert "--dest-creds-stdin" in capsys.readouterr().err
    assert fake.calls == []


@pytest.mark.parametrize(
    ("source", "target", "name"),
    [
        ("ftp://h/x", "h:1/x", "source"),
        ("x", "h:1/UPPER/x", "target"),
        ("x", "", "target"),
        ("x@sha256:12", "h:1/x", "source"),
    ],
)
def test_a_malformed_reference_names_its_side_before_any_request(
    fake: FakeCopy, source: str, target: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["copy", source, target]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"crossdock: {name}: ")
    assert error_of(err)
    assert fake.calls == []


def test_a_failed_copy_is_one_line_and_nothing_on_stdout(
    fake: FakeCopy, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.result = refused()
    assert run(["copy", "h:1/x:1", "h:2/x", "--output", "json"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "crossdock: resolve source h:1/x:1: 404 from HEAD http://h:1/v2/x/manifests/1\n  check the tag\n"
    )


@pytest.mark.parametrize("error", [RuntimeError("odd\nthing"), refused()])
def test_a_traceback_is_for_debug_alone(
    fake: FakeCopy, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.result = error
    code = run(["copy", "x", "h:1/x"])
    assert "Traceback" not in capsys.readouterr().err
    assert run(["copy", "x", "h:1/x", "--debug"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_says_what_was_cancelled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def interrupted(source: str, target: str, options: CopyOptions, *, on_event: Listener) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    stand_in(monkeypatch, interrupted)
    assert run(["copy", "x:1", "h:1/x"]) == 130
    assert capsys.readouterr() == ("", "crossdock: copy of x:1 to h:1/x was cancelled\n")


def test_the_report_holds_the_result_version_and_blobs(fake: FakeCopy, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    assert run(["copy", "x", "h:1/x", "--report", str(path)]) == 0
    document = json.loads(path.read_text())
    assert RESULT.as_dict().items() <= {**document, "warnings": ()}.items()
    assert document["error"] is None
    assert document["kernels"] in ("compiled", "pure")
    assert document["blobs"] == [{"digest": DIGEST, "size": 5, "outcome": "moved"}]


def test_the_report_of_a_failed_copy_says_how_and_how_far(fake: FakeCopy, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("a report of before, longer than the new one" * 1000)
    fake.result = refused()
    assert run(["copy", "x", "h:1/x", "--report", str(path)]) == 4
    document = json.loads(path.read_text())
    assert (document["error"]["class"], document["error"]["exit_code"]) == ("not found", 4)
    assert len(document["blobs"]) == 1


def test_a_report_that_cannot_be_written_is_found_out_before_anything_is_copied(
    fake: FakeCopy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["copy", "x", "h:1/x", "--report", str(tmp_path / "missing" / "report.json")]) == 2
    assert "--report" in capsys.readouterr().err
    assert fake.calls == []


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> ImageBuilder:
    """`api.inspect` answers with an index, `api.list_tags` with three tags."""
    builder = ImageBuilder()
    index = sample_index(builder)
    raw = builder.read(index)

    async def inspect(reference: str, options: CopyOptions, *, on_warning: object) -> Inspection:
        return Inspection(
            reference=reference,
            digest=index.digest,
            media_type=index.media_type,
            size=len(raw),
            raw=raw,
            manifest=parse_manifest(raw),
        )

    async def list_tags(
        repository: str, options: CopyOptions, *, on_warning: Callable[[str], None]
    ) -> list[str]:
        return ["a", "b", "latest"]

    monkeypatch.setattr(api, "inspect", inspect)
    monkeypatch.setattr(api, "list_tags", list_tags)
    builder.tag(index, "index")
    return builder


def test_inspect_prints_digest_media_type_and_platforms(
    builder: ImageBuilder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", "h:1/x"]) == 0
    out = capsys.readouterr().out
    assert builder.tags["index"].digest in out
    assert builder.tags["index"].media_type in out
    for platform in ("linux/amd64", "linux/arm64", "windows/amd64", "unknown/unknown"):
        assert platform in out


def test_inspect_json_holds_the_document(builder: ImageBuilder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "h:1/x", "--output", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    index = builder.tags["index"]
    assert (document["digest"], document["media_type"]) == (index.digest, index.media_type)
    assert document["manifest"] == json.loads(builder.read(index))


def test_inspect_raw_prints_the_bytes_unchanged(
    builder: ImageBuilder, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run(["inspect", "h:1/x", "--raw"]) == 0
    assert capfdbinary.readouterr().out == builder.read(builder.tags["index"])


def test_tags_prints_one_a_line(builder: ImageBuilder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tags", "h:1/x"]) == 0
    assert capsys.readouterr().out == "a\nb\nlatest\n"
    assert run(["tags", "h:1/x", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"repository": "h:1/x", "tags": ["a", "b", "latest"]}

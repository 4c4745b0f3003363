"""How an error comes out: lines on a terminal and in a pipe, fields in JSON."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from support.command import SOURCE, Crossdock, without_colors

DIGEST = f"sha256:{'0123456789abcdef' * 4}"
CLOSED = "127.0.0.1:1"  # a port without a server
LONG = f"{CLOSED}/{'a-long-name/' * 6}app@{DIGEST}"
ADVICE = {"kind": "check-address", "text": "check host and port, and whether the registry runs"}
QUICK = ("--retries", "0", "--progress", "none")


@pytest.fixture
def crossdock(tmp_path: Path) -> Crossdock:
    return Crossdock(tmp_path)


def on_a_terminal(crossdock: Crossdock, *words: str) -> list[str]:
    """The lines of the error that ends the command on a pseudo-terminal."""
    code, shown = crossdock.on_a_terminal(*words)
    assert code == SOURCE
    lines = [line for line in without_colors(shown).replace("\r", "\n").split("\n") if line.strip()]
    return lines[next(at for at, line in enumerate(lines) if line.startswith("crossdock: ")) :]


@pytest.mark.parametrize("progress", ["none", "auto", "plain"])
def test_on_a_terminal_the_first_line_is_short_and_advice_is_indented(
    crossdock: Crossdock, progress: str
) -> None:
    words = ("copy", LONG, "127.0.0.1:1/x:v1", "--retries", "0", "--progress", progress)
    first, advice = on_a_terminal(crossdock, *words)
    assert first.startswith("crossdock: resolve source 127.0.0.1:1/a-long-name/")
    assert "sha256:0123456789ab…" in first
    assert DIGEST not in first
    assert len(first) <= 160
    assert advice == f"  {ADVICE['text']}"


def test_with_debug_the_first_line_is_whole(crossdock: Crossdock) -> None:
    lines = on_a_terminal(crossdock, "copy", LONG, "127.0.0.1:1/x:v1", *QUICK, "--debug")
    assert any(line.startswith("crossdock: resolve source ") and DIGEST in line for line in lines)


def test_a_failure_of_many_is_as_short(crossdock: Crossdock) -> None:
    (crossdock.home / "list").write_text(f"{LONG} 127.0.0.1:1/x:v1\n")
    words = ("copy", "--from-file", str(crossdock.home / "list"), "--retries", "0", "--progress", "plain")
    first, advice, *_ = on_a_terminal(crossdock, *words)
    assert first.startswith("crossdock: 127.0.0.1:1/a-long-")
    assert first.endswith("Connection refused")
    assert len(first) <= 160
    assert advice == f"  {ADVICE['text']}"


def test_in_a_pipe_the_same_lines_come_whole(crossdock: Crossdock) -> None:
    done = crossdock("copy", LONG, "127.0.0.1:1/x:v1", *QUICK)
    first, advice = done.stderr.splitlines()
    assert first.startswith(f"crossdock: resolve source {LONG}: ")
    assert advice == f"  {ADVICE['text']}"


def the_error(document: dict[str, Any]) -> dict[str, Any]:
    error: dict[str, Any] = document["error"]
    assert error["message"].startswith(f"resolve source {LONG}: ")
    assert ADVICE["text"] not in error["message"]
    assert error["advice"] == {**ADVICE, "side": "source", "registry": CLOSED}
    assert error["resume"] is None
    return error


def test_the_report_of_one_copy_has_message_advice_and_resume(crossdock: Crossdock) -> None:
    report = crossdock.home / "report.json"
    done = crossdock("copy", LONG, "127.0.0.1:1/x:v1", *QUICK, "--report", report)
    error = the_error(json.loads(report.read_text()))
    assert done.stderr.splitlines()[0] == f"crossdock: {error['message']}"


def test_stdout_and_report_of_a_list_have_them_for_each_copy(crossdock: Crossdock) -> None:
    report, pairs = crossdock.home / "report.json", crossdock.home / "list"
    pairs.write_text(f"{LONG} 127.0.0.1:1/x:v1\n")
    done = crossdock(*("copy", "--from-file", pairs, *QUICK), *("--output", "json", "--report", str(report)))
    for document in (done.result, json.loads(report.read_text())):
        the_error(document["copies"][0])
    whole = json.loads(report.read_text())["error"]
    assert whole["message"] == "1 of 1 copies failed"
    assert whole["advice"]["kind"] == "retry"


def test_the_report_of_a_mirror_has_them(crossdock: Crossdock) -> None:
    report = crossdock.home / "report.json"
    crossdock(
        *("mirror", f"{CLOSED}/team", "127.0.0.1:2", "--repository", "app"),
        *(*QUICK, "--report", report, "--output", "json"),
    )
    document = json.loads(report.read_text())
    errors = [document["error"], *(each["error"] for each in document.get("failures", ()))]
    assert any(each and each["advice"] for each in errors), document
    for each in errors:
        assert each is None or {"message", "advice", "resume"} <= each.keys()


def test_an_option_of_the_inventory_is_spoken_of_by_file_and_entry(crossdock: Crossdock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
        given_by_inventory_and_flag(crossdock, host)


def given_by_inventory_and_flag(crossdock: Crossdock, host: str) -> None:
    empty, inventory = crossdock.home / "ca.pem", crossdock.home / "inventory.yaml"
    empty.write_text("")
    inventory.write_text(f"registries:\n  - name: prod\n    login_server: {host}\n    tls: {{ca: {empty}}}\n")
    words = ("copy", f"{host}/a:b", "127.0.0.1:1/x:v1", "--inventory", str(inventory), *QUICK)
    error = crossdock(*words).error
    assert f"CA file {empty} holds no certificate" in error
    assert f"correct tls.ca of prod in {inventory}" in error
    assert "--src" not in error
    without = crossdock("copy", f"{host}/a:b", "127.0.0.1:1/x:v1", "--src-ca", empty, *QUICK).error
    assert without.endswith("; correct --src-ca")

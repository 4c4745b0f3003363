"""``crossdock acr import``: what it prints when it ends early."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crossdock.cli import running
from crossdock.cli.command import run
from crossdock.errors import Cancelled
from crossdock.events import UploadKept

MIB = 1 << 20


@pytest.mark.parametrize("names", [["mine"], ["mine", "other"]], ids=["one", "several"])
def test_after_ctrl_c_it_names_the_uploads_that_were_kept_and_no_password(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inventory = tmp_path / "inventory.json"
    entries = [{"name": each, "login_server": f"127.0.0.1:{at}"} for at, each in enumerate(names, 1)]
    inventory.write_text(json.dumps({"registries": entries}))

    def interrupted(start: Any, options: Any, tally: Any, *_: Any, **__: Any) -> None:
        tally(UploadKept("sha256:00", 192 * MIB, 900 * MIB))
        raise Cancelled("stopped")

    monkeypatch.setattr(running, "run_shown", interrupted)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    words = ["acr", "import", "--source", "docker.io/library/x:1", "-u", "me", "-ps3cret", "--inventory"]
    words += [str(inventory), *(word for name in names for word in ("-n", name))]
    assert run(words) == 130
    said = capsys.readouterr().err
    assert "to resume at 192.0 MiB of 900.0 MiB, run again: crossdock acr import --source" in said
    assert "-u me -pPASSWORD --inventory" in said
    assert "s3cret" not in said

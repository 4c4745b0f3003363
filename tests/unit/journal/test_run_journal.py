"""The journal of a long run: off after trouble, and tried again when some time has passed."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossdock import wiring
from crossdock.wiring import RunJournal

DIGEST = "sha256:" + "0" * 64


def test_a_journal_that_went_off_is_tried_again_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(wiring.time, "monotonic", lambda: now[0])
    folder = tmp_path / "state"
    folder.write_text("in the way")
    journal = RunJournal(folder)
    assert journal.claim("h/r", DIGEST, 1, "s") is None
    assert "cannot be used" in journal.take_trouble()
    folder.unlink()
    assert journal.claim("h/r", DIGEST, 1, "s") is None
    now[0] = wiring.JOURNAL_AGAIN_S
    record = journal.claim("h/r", DIGEST, 1, "s")
    assert record is not None
    assert journal.take_trouble() == ""
    record.close()
    journal.close()
    now[0] *= 9
    assert journal.claim("h/r", DIGEST, 1, "s") is None  # closed is closed

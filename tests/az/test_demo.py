"""``make az-demo``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.process import find_az

SCRIPT = Path(__file__).parents[2] / "scripts/az_demo.py"


def test_the_demo_ends_well_and_leaves_nothing_behind(tmp_path: Path) -> None:
    find_az()
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done
    assert done.stdout.splitlines()[-1].startswith("az-demo: OK: 18 manifests are equal byte for byte")
    assert "CLIENT_SECRET" in done.stdout, "commands are shown as they are typed, without what is secret"
    assert list(tmp_path.iterdir()) == []

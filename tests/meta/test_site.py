"""The site of `make docs`: built strictly, loads nothing from elsewhere, names every flag and public name."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import crossdock
from crossdock.cli.parser import full_parser

ROOT = Path(__file__).parents[2]
LOADED = re.compile(
    r'<(?:script|img|iframe|source|link(?![^>]*rel="(?:canonical|prev|next)"))\b[^>]*?(?:src|href)="([^"]*)"'
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = LOADED.findall(page.read_text())
        assert loaded
        assert [each for each in loaded if re.match(r"(?:https?:)?//", each)] == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", sheet.read_text()), sheet


def test_every_flag_and_every_public_name_has_its_place(site: Path) -> None:
    text = html.unescape((site / "reference" / "cli.html").read_text())
    for parser in full_parser().tree():
        assert f">{parser.prog}<" in text
        assert [flag for flag in parser.flags() if flag not in text] == []
    names = "".join((site / "reference" / f"{page}.html").read_text() for page in ("api", "errors", "events"))
    public = [name for name in crossdock.__all__ if name in crossdock._HOME]
    assert [name for name in public if f'id="crossdock.{crossdock._HOME[name]}.{name}"' not in names] == []


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_the_search_works_without_a_server(site: Path, tmp_path: Path) -> None:
    words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]
    words += [f"--user-data-dir={tmp_path}", "--dump-dom", f"file://{site}/index.html?q=spool"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert re.search(r"\d+ matching documents", done.stdout)

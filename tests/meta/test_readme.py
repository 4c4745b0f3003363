"""README and CONTRIBUTING are true: commands parse, targets and files exist, the library example is code."""

from __future__ import annotations

import ast
import io
import re
import shlex
from contextlib import redirect_stdout, suppress
from dataclasses import fields
from pathlib import Path

import pytest

import crossdock
from crossdock import CopyResult, events
from crossdock.cli.commands import COMMANDS
from crossdock.cli.display import event_document
from crossdock.cli.parser import parse
from crossdock.errors import NotFound
from crossdock.events import Event

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/architecture.md",
    "docs/output.md",
    "docs/archives.md",
    "docs/air-gap.md",
    "docs/faults.md",
    "docs/inventory.md",
    "docs/mirror.md",
    "docs/machines.md",
    "docs/acr-import.md",
    "docs/acr-metadata.md",
    "docs/identities.md",
    "docs/service.md",
    "docs/copying.md",
    "docs/install.md",
    "docs/releasing.md",
    "docs/start.md",
    "docs/troubleshooting.md",
)
BELOW = (  # commands of groups whose flags the pages name
    "acr import",
    "acr login",
    "acr manifest list-metadata",
    "acr manifest show",
    "acr repository delete",
    "acr repository show-tags",
    "acr repository update",
)
OTHERS = (
    "--connect-to",
    "--query",
    "--out",
    "--verbose",
    "--acquire-policy-token",
    "--change-reference",
    "--array",
    "--for",
    "--defaults",
    "--no-tls",
)  # curl, az, sbatch, kubectl, make wheels
README = (ROOT / "README.md").read_text("utf-8")


def commands() -> list[str]:
    """Every indented ``crossdock …`` line, also at the end of a pipe, without its comment."""
    lines = re.findall(r"^ {4}(?:.*\| )?(crossdock .*)$", README, re.MULTILINE)
    return [line.partition("  #")[0].strip() for line in lines if "--version" not in line]


def test_the_commands_are_found() -> None:
    assert len(commands()) == 5


@pytest.mark.parametrize("line", commands())
def test_every_command_of_the_readme_parses(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)[1:]
    for word in words:
        if word.endswith((".pem", ".key", "migration.yaml")):
            (tmp_path / word).touch()
    assert parse(words).command == words[0]


def flags_of(command: str) -> set[str]:
    """The flags that the command's help lists."""
    help_text = io.StringIO()
    with redirect_stdout(help_text), suppress(SystemExit):
        parse([*command.split(), "--help"])
    return set(re.findall(r"--[a-z][a-z-]+", help_text.getvalue()))


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_named_exists(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    known = {"--version", *OTHERS} | {flag for name in (*COMMANDS, *BELOW) for flag in flags_of(name)}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - known == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_target_link_and_path_named_exists(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"(?:`|^ {4})make ([a-z-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    paths = re.findall(r"`((?:src|tests|docs|ext|scripts)/[\w./]+)`", text)
    base = (ROOT / page).parent
    assert [link for link in links if not (base / link).exists()] == []
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_library_example_is_short_and_names_what_exists() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    tree = ast.parse(example)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.module == "crossdock"
            assert {alias.name for alias in node.names} <= set(crossdock.__all__)


def test_the_page_about_output_lists_every_field_and_event() -> None:
    text = (ROOT / "docs" / "output.md").read_text("utf-8")
    result, _, rest = text.partition("## `--report FILE`")
    listed = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", result, re.MULTILINE))))
    assert listed == {field.name for field in fields(CopyResult)} - {"changed"} | {"digest_changed"}
    progress = rest.partition("--progress json")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (`.*) \|$", progress, re.MULTILINE))
    kinds = [value for value in vars(events).values() if isinstance(value, type) and value.__base__ is Event]
    for kind in kinds:
        values = {"error": NotFound("x"), "seconds": 1.5}
        document = event_document(kind(*(values.get(name, name) for name in kind.__struct_fields__)), 0)
        assert re.findall(r"`(\w+)`", rows.pop(document.pop("event"))) == [*document][1:]
    assert rows == {}


def test_every_environment_switch_named_is_read_somewhere() -> None:
    sources = [*ROOT.glob("src/**/*.py"), ROOT / "setup.py", *ROOT.glob("tests/**/*.py")]
    code = "\n".join(path.read_text("utf-8") for path in sources)
    for page in PAGES:
        for name in re.findall(r"CROSSDOCK_[A-Z_]+", (ROOT / page).read_text("utf-8")):
            assert name in code, name

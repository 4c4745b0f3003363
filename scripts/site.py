"""The hooks of mkdocs.yml: reference pages from the parser and the docstrings, links into the repository."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

import crossdock
from crossdock import errors, events
from crossdock.cli.examples import EXAMPLES
from crossdock.cli.helptext import Formatter
from crossdock.cli.parser import Parser, full_parser

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/crossdock/crossdock/blob/main/"
SCHEMAS = {
    "Inventory": "inventory/schema.json",
    "Migration file": "migration/schema.json",
    "Settings of the service": "service/config_schema.json",
}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made."""
    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links to files outside of docs/ lead to the repository."""
    here = (ROOT / "docs" / page.file.src_uri).parent

    def target(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        found = (here / path).resolve()
        if found.is_relative_to(ROOT / "docs") or not found.exists():
            return match[0]  # one that does not exist is an error of the build
        return f"]({REPOSITORY}{found.relative_to(ROOT)}{anchor})"

    return re.sub(r"\]\(((?:\.\./)+[^)#]+)(#[^)]*)?\)", target, markdown)


def pages() -> dict[str, str]:
    """The text of each page that is made, by its name below reference/."""
    return {
        "cli": "".join(cli()),
        "schemas": "".join(schemas()),
        "api": "".join(api()),
        "events": module("Events", events, "What `on_event` is called with."),
        "errors": module("Errors", errors, "Every error that the library raises is a `CrossdockError`."),
    }


def cli() -> Iterator[str]:
    """Every command with every flag."""
    yield "# Command line\n\nThe same text as `crossdock help COMMAND` and the manual pages of `make man`.\n"
    for parser in full_parser().tree():
        yield f"\n## {parser.prog}\n\n{text(parser.description or '')}\n\n"
        yield f"```console\n{parser.format_usage().removeprefix('usage: ').strip()}\n```\n"
        for group in parser._action_groups:
            rows = [row for action in group._group_actions if (row := flag(parser, action))]
            if rows:
                yield f"\n**{group.title}**\n\n| | |\n|---|---|\n" + "".join(rows)
        lines = "\n".join(EXAMPLES[parser.prog])
        yield f"\n```sh\n{lines}\n```\n"


def flag(parser: Parser, action: Any) -> str:
    """The row of a flag or argument; empty for those that help does not list."""
    if action.help == argparse.SUPPRESS or action.nargs == argparse.PARSER:
        return ""
    name = Formatter(parser.prog)._format_action_invocation(action)
    return f"| `{name}` | {text(action.help or '')} |\n"


def text(line: str) -> str:
    """Plain text as Markdown: what looks like markup is not."""
    return re.sub(r"([*_\[\]<>|])", r"\\\1", line.replace("%%", "%"))


def schemas() -> Iterator[str]:
    """The JSON schemas, whole."""
    yield "# JSON schemas\n\nFor editors that check YAML. `crossdock plan --schema` prints the second.\n"
    for name, path in SCHEMAS.items():
        content = (ROOT / "src" / "crossdock" / path).read_text("utf-8")
        yield f"\n## {name}\n\n`src/crossdock/{path}`\n\n```json\n{content}```\n"


def api() -> Iterator[str]:
    """Every public name."""
    yield "# API\n\nEverything that `import crossdock` gives. [The guide](../library.md) shows its use;\n"
    yield "[events](events.md) and [errors](errors.md) have pages of their own.\n"
    for name in sorted(crossdock.__all__, key=lambda each: (each[0].isupper(), each)):
        home = crossdock._HOME.get(name)
        if home is not None and home not in ("errors", "events"):
            yield f"\n::: crossdock.{home}.{name}\n"


def module(title: str, of: Any, about: str) -> str:
    """Every public class of a module."""
    names = [
        name
        for name, value in vars(of).items()
        if isinstance(value, type) and value.__module__ == of.__name__
    ]
    return f"# {title}\n\n{about}\n" + "".join(
        f"\n::: {of.__name__}.{name}\n" for name in names if name[0] != "_"
    )

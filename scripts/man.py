"""Writes the manual pages, crossdock.1 and one for each command, into the folder that is named."""

from __future__ import annotations

import sys
from pathlib import Path

from argparse_manpage.manpage import Manpage

from crossdock import __version__
from crossdock.cli import exits
from crossdock.cli.commands import COMMANDS
from crossdock.cli.examples import EXAMPLES
from crossdock.cli.parser import Parser, full_parser, root_parser

SUMMARY = "copy container images and OCI artifacts between registries and layouts"


def page(parser: Parser, summary: str, codes: str) -> str:
    """The page of a command, with those below it."""
    progs = [parser.prog, *(each.prog for each in parser.tree() if not each.children())]
    examples = dict.fromkeys(line for prog in progs for line in EXAMPLES[prog])
    sections = {"Examples": "\n\n".join(examples), "Exit codes": codes}
    parser.__dict__["_manpage"] = [
        {"heading": heading, "content": text.replace("\\", "\\e").replace("-", "\\-")}
        for heading, text in sections.items()
    ]
    about = {"project_name": "crossdock", "version": __version__, "manual_title": "crossdock"}
    made = Manpage(parser, _data=about, format="single-commands-section")
    made.prog = parser.prog.replace(" ", "-")
    made.description = summary
    return str(made)


def main(folder: Path) -> None:
    """Write all pages."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, child in full_parser().children().items():
        text = page(child, COMMANDS[name], "They are listed in crossdock(1).")
        (folder / f"crossdock-{name}.1").write_text(text)
    parser = root_parser()
    for child in parser.children().values():  # they have pages of their own
        child.__dict__.update(_fill=None, _action_groups=[], description="")
    codes = "".join(f".TP\n{code.value}\n{meaning}\n" for code, meaning in exits.MEANING.items())
    (folder / "crossdock.1").write_text(page(parser, SUMMARY, codes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

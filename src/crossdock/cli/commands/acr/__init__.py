"""``crossdock acr``: the commands of ``az acr``, a module each, with az's flags and az's texts.

``manifest`` and ``repository`` import network code at their top, because each of their verbs needs it.
"""

from __future__ import annotations

from crossdock.cli.parser import Parser, add_commands

COMMANDS = {
    "import": "import an image into a registry",
    "manifest": "show, list, lock and delete manifests",
    "repository": "list repositories and tags, lock, untag and delete",
    "login": "log in to a registry, for docker and compatible tools",
    "show": "show a registry's entry in the inventory",
    "list": "list the registries of the inventory",
}


def add_flags(parser: Parser) -> None:
    """Add the commands of the group."""
    parser.description = (
        "The commands and flags of `az acr`. --name and --registry name a registry of the inventory, else\n"
        "one of Azure: myregistry then means myregistry.azurecr.io."
    )
    # Scripts of az abbreviate: --out table.
    add_commands(parser, "GROUP", __name__, COMMANDS, allow_abbrev=True)

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
    "show": "print what the inventory knows about a registry",
    "list": "list the registries of the inventory",
}


def add_flags(parser: Parser) -> None:
    """Add the commands of the group."""
    parser.description = (
        "Has the commands and flags of `az acr`. --name and --registry name a registry of the inventory, or\n"
        "else one of Azure: myregistry is then myregistry.azurecr.io."
    )
    # Scripts of az abbreviate: --out table.
    add_commands(parser, "GROUP", __name__, COMMANDS, allow_abbrev=True)

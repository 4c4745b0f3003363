"""``crossdock acr``: the commands of ``az acr``, a module each, with az's flags and az's texts.

They always speak to a registry, so their modules import at the top what that needs.
"""

from __future__ import annotations

from crossdock.cli.parser import Parser, add_commands

COMMANDS = {
    "import": "import an image into a registry",
    "manifest": "show, lock and delete manifests, and list what a registry knows of them",
    "repository": "list repositories and tags, lock, untag and delete",
    "login": "log in to a registry, for docker and compatible tools",
    "show": "print what the inventory knows of a registry",
    "list": "list the registries of the inventory",
}


def add_flags(parser: Parser) -> None:
    """Add the commands of the group."""
    parser.description = (
        "Takes the commands and flags of `az acr`. --name and --registry are names of the inventory, or of\n"
        "Azure's registries: myregistry without an entry is myregistry.azurecr.io."
    )
    # Scripts of az abbreviate: --out table.
    add_commands(parser, "GROUP", __name__, COMMANDS, allow_abbrev=True)

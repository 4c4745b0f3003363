"""The commands, a module each.

A command's module has ``add_flags(parser)``, which adds its flags and their help, and ``run(namespace)``,
which returns an exit code. Only the module of the command that was given is imported; it imports network code
inside ``run``, so that help is fast.
"""

from __future__ import annotations

COMMANDS = {
    "copy": "copy an image or artifact, with everything it refers to",
    "archive": "write many images into one archive, for an air gap",
    "mirror": "copy all repositories and tags of a registry to others",
    "plan": "show what a migration file would copy, and its cost",
    "apply": "copy by a migration file or a reviewed plan",
    "verify": "compare targets with their sources",
    "runs": "list the runs of migration files",
    "report": "join the reports of a run on many machines",
    "inspect": "show the manifest that a reference names",
    "tags": "list the tags of a repository, one per line",
    "probe": "find out what a registry is, can do and how fast it is",
    "registries": "show kinds of registries, and what was learned about one",
    "login": "log in to a registry for crossdock, docker and podman",
    "logout": "log out of a registry",
    "state": "list, show and remove interrupted uploads",
    "acr": "the commands of `az acr` for any registry",
    "serve": "serve Azure's import API to az, SDKs and curl",
    "registry": "serve an OCI layout as a registry",
    "demo": "copy a real image between two registries on this machine",
    "completion": "print a completion script for bash, zsh or fish",
    "help": "explain a command, or list the exit codes",
}
"""The summary of each command."""

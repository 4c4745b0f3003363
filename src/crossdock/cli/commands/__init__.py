"""The commands, a module each.

A command's module has ``add_flags(parser)``, which adds its flags and their help, and ``run(namespace)``,
which returns an exit code. Only the module of the command that was given is imported; it imports network code
inside ``run``, so that help is fast.
"""

from __future__ import annotations

COMMANDS = {
    "copy": "copy an image or artifact, with everything it refers to",
    "inspect": "show what a reference names, without copying",
    "tags": "list the tags of a repository, one per line",
    "registry": "serve an OCI layout as a registry",
    "demo": "copy a real image between two registries on this machine",
    "state": "list what interrupted copies can resume from",
    "acr": "the commands of `az acr`, for any registry",
    "serve": "serve imports as Azure does, to az, SDKs and curl",
    "mirror": "copy all repositories and tags of a registry to others",
    "runs": "list what runs of migration files have done",
    "verify": "compare what targets hold with what their sources have",
    "login": "log in to a registry, for crossdock, docker and podman alike",
    "logout": "remove the login of a registry",
}
"""The summary of each command."""

"""The commands, a module each.

A command's module has ``add_flags(parser)``, which adds its flags and says what help says, and
``run(namespace)``, which returns an exit code. Only the module of the command that was given is imported,
and at its top nothing that help does not need: what moves content is imported by ``run``.
"""

from __future__ import annotations

COMMANDS = {
    "copy": "copy an image or artifact, with everything it refers to",
    "inspect": "show what a reference names, without copying",
    "tags": "list the tags of a repository, one a line",
    "registry": "serve an OCI layout as a registry",
    "demo": "copy a real image between two registries on this machine",
    "state": "show what interrupted copies can resume from",
    "acr": "what `az acr` does to registries, against any registry",
    "serve": "serve imports as Azure's registries do, to az, SDKs and curl",
    "mirror": "copy all repositories and tags of a registry to others",
    "login": "log in to a registry, for crossdock, docker and podman alike",
    "logout": "remove the login of a registry",
}
"""What help says about each."""

"""The command's wordings of advice about its flags: one table for the commands that copy, one for acr.

The library's table (`crossdock.advice`) has the rest. ``{flag:ca}`` is ``--src-ca`` or ``--dest-ca``, by
the side, or both where the side is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from crossdock.errors import Advice, Side

Face = Literal["copy", "file", "acr"]
"""The commands whose flags differ; ``file`` are those that read a migration file."""

COPY: Mapping[str, str] = {
    "log-in": "crossdock login {registry}, or give {flag:creds-stdin}",
    "repair-authfile": "repair it, or give another file with --authfile or REGISTRY_AUTH_FILE",
    "remove-helper": "remove the helper from {file}, or keep the login in another file with --authfile",
    "give-ca": "if the certificate is from a private CA, give that CA with {flag:ca}",
    "plain-http": "if this registry uses plain HTTP, add {flag:plain-http}",
    "client-certificate": "give it with {flag:cert} and {flag:key}",
    "check-trust": "give its CA with {flag:ca}, or add {flag:plain-http} if it does not use TLS",
    "correct-option": "correct {option_flag}",
    "allow-more-time": "try again, or raise --timeout",
    "check-name": "check repository and tag; `crossdock tags` lists tags",
    "report-bug": "run again with --debug and report it",
    "omit-scheme": "omit the scheme; --src-plain-http and --dest-plain-http select plain HTTP",
    "write-each-platform": (
        "write os/architecture[/variant], for example linux/arm64; repeat --platform for each"
    ),
    "choose-platform": "choose one of these with --platform, or omit it to copy all",
    "choose-one-platform": "choose one with --platform, or copy all to oci-archive:FILE",
    "omit-platform": "omit --platform to copy all",
    "choose-present-platforms": "copy only the platforms that exist, with --platform",
    "choose-newer-platforms": "copy the platforms in newer formats with --platform, or ask for a new build",
    "choose-platform-or-digest": "choose with --platform, or name one by its digest ({file}@sha256:…)",
    "lower-memory": "lower --memory",
    "choose-state": "check the folder's owner and permissions, or choose another with --state",
    "wait-or-choose-state": "wait until it has ended, or choose another folder with --state",
    "stop-or-choose-state": "stop it, or give this one another folder with --state",
    "update-or-choose-state": "use that version of crossdock, or give this one another folder with --state",
    "choose-spool": "check the folder's owner and free space, or choose another with --spool",
    "raise-spool-size": "raise --spool-size, or free disk space: the spool uses at most half of it",
    "listen-elsewhere": "give another address with --listen; port 0 picks a free one",
    "add-certificate": "add --cert FILE",
    "give-certificate": (
        "give --cert FILE and --key FILE, or --tls-ended-elsewhere if a proxy in front ends TLS"
    ),
    "give-identity": "give --config FILE with identity settings, or listen on 127.0.0.1",
    "give-users": "give --users FILE, or allow anonymous clients with --anonymous read or --anonymous write",
    "give-dev": "add --dev",
    "omit-certificate": "omit --cert and --key, or omit --dev",
    "omit-certificate-or-proxy": (
        "omit --cert, --key and --dev, or --tls-ended-elsewhere (tls: elsewhere in the settings)"
    ),
    "name-repositories": (
        "use credentials that may list the catalog, or name the repositories with --repository: without"
        " patterns the catalog is not needed"
    ),
    "mirror-parent": "mirror {registry} with --repository {repository}",
    "omit-untagged": (
        "omit --untagged: only some registries (Azure, Harbor, Amazon, Google) list manifests without a tag"
    ),
    "omit-referrers": "copy without referrers: --no-referrers",
    "copy-foreign-layers": "--foreign-layers copy copies them",
    "keep-foreign-layers": "it is a foreign layer: --foreign-layers keep copies only its URLs",
}
ACR: Mapping[str, str] = {
    **COPY,
    "omit-scheme": "omit the scheme; tls.plain_http in the inventory selects plain HTTP",
    "give-password": "give --password-stdin, CROSSDOCK_SOURCE_PASSWORD or --password",
    "omit-credentials": "write --source as LOGIN_SERVER/IMAGE to use credentials, or omit them",
    "name-source-registry": "write LOGIN_SERVER/REPOSITORY[:TAG|@DIGEST], or give --registry",
    "choose-registry": "choose with --subscription and --resource-group, or name it by its resource ID",
    "use-resource-id": "name it by its resource ID with --registry, which works within one tenant only",
    "untag-target": "give --repository for a target without a tag",
    "tag-target": "give it as --image",
    "overwrite-tags": "nothing was copied; --force overwrites the tag",
    "overwrite-attached-tags": (
        "nothing was copied; with --force the image and its signatures are copied, and such tags that the"
        " target already has stay; --no-referrers omits signatures"
    ),
    "lower-memory": "raise this process's limit of memory (ulimit -v)",
    "choose-state": "check the folder's owner and permissions, or choose another with XDG_STATE_HOME",
    "wait-or-choose-state": "wait until it has ended, or choose another folder with XDG_STATE_HOME",
    "stop-or-choose-state": "stop it, or give this one another folder with XDG_STATE_HOME",
    "update-or-choose-state": (
        "use that version of crossdock, or give this one another folder with XDG_STATE_HOME"
    ),
    "lift-limits": "omit --strict-limits: crossdock itself has no such limit",
    "log-in": "crossdock login {registry}, or give credentials in the inventory or as flags",
    "repair-authfile": "repair it, or give another file as REGISTRY_AUTH_FILE",
    "remove-helper": "remove the helper from {file}",
    "give-ca": "if the certificate is from a private CA, give that CA as tls.ca in the inventory",
    "plain-http": "if this registry uses plain HTTP, set tls.plain_http in the inventory",
    "client-certificate": "crossdock acr sends none: use crossdock copy",
    "check-trust": "give its CA as tls.ca in the inventory, or set tls.plain_http if it does not use TLS",
    "correct-option": "correct it",
}
FILE: Mapping[str, str] = {
    **COPY,
    "choose-platform": "choose one of these by platforms in the file, or leave platforms out to copy all",
    "choose-present-platforms": "choose platforms that exist in the file",
    "name-repositories": (
        "use credentials that may list the catalog, or name the repositories by repositories.include in the"
        " file: without patterns the catalog is not needed"
    ),
    "mirror-parent": "make {registry} the source, with {repository} in repositories.include",
    "omit-untagged": (
        "leave untagged out of this mirror in the file: only some registries (Azure, Harbor, Amazon, Google)"
        " list manifests without a tag"
    ),
    "omit-referrers": "copy without referrers: referrers: false in the file",
}
_TABLES: Mapping[Face, Mapping[str, str]] = {"copy": COPY, "file": FILE, "acr": ACR}
_PREFIX: Mapping[Side | None, tuple[str, ...]] = {
    "source": ("src",),
    "target": ("dest",),
    None: ("src", "dest"),
}
_OPTIONS = {"ca_file": "ca", "cert_file": "cert", "key_file": "key"}  # fields whose flag has another name


class _Flag:
    """Formats to the flag of a side: ``f"{_Flag('source'):ca}"`` is ``--src-ca``."""

    def __init__(self, side: Side | None) -> None:
        self._side = side

    def __format__(self, name: str) -> str:
        return " or ".join(f"--{prefix}-{name}" for prefix in _PREFIX[self._side])


def advice_text(advice: Advice, face: Face = "copy") -> str:
    """The advice in the words of a command."""
    flag = _Flag(advice.side)
    option = _OPTIONS.get(advice.option, advice.option.replace("_", "-"))
    return advice.worded(_TABLES[face], flag=flag, option_flag=format(flag, option))


def advice_document(advice: Advice, face: Face = "copy") -> dict[str, Any]:
    """The advice as a JSON object: its kind, the text, and the fields that are known."""
    known = {name: value for name, value in advice.fields().items() if value}
    if advice.platforms:
        known["platforms"] = list(advice.platforms)
    return {"kind": advice.kind, **known, "text": advice_text(advice, face)}

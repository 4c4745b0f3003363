"""What the command says where advice concerns its flags: one table for the commands that copy, one for acr.

The library's table (`crossdock.advice`) is behind both. ``{flag:ca}`` is ``--src-ca`` or ``--dest-ca``, by
the side, or both where the side is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from crossdock.errors import Advice, Side

Face = Literal["copy", "acr"]
"""The commands that have flags of their own."""

COPY: Mapping[str, str] = {
    "log-in": "crossdock login {registry}, or give {flag:creds-stdin}",
    "repair-authfile": "repair it, or give another file with --authfile or REGISTRY_AUTH_FILE",
    "remove-helper": "remove the helper from {file}, or keep the login in another file with --authfile",
    "give-ca": "if the certificate is of a private CA, give the CA by {flag:ca}",
    "plain-http": "if this registry speaks plain HTTP, say so by {flag:plain-http}",
    "client-certificate": "give it by {flag:cert} and {flag:key}",
    "check-trust": "give its CA with {flag:ca}, or {flag:plain-http} if it does not speak TLS",
    "correct-option": "correct {option_flag}",
    "allow-more-time": "try again, or allow more with --timeout",
    "check-name": "check repository and tag; `crossdock tags` lists tags",
    "report-bug": "run again with --debug and report it",
    "omit-scheme": "leave the scheme out; plain HTTP is chosen by --src-plain-http and --dest-plain-http",
    "write-each-platform": (
        "write os/architecture[/variant], for example linux/arm64; repeat --platform for each"
    ),
    "choose-platform": "choose --platform from those offered, or leave it out to copy all",
    "omit-platform": "leave --platform out to copy all",
    "choose-present-platforms": "copy the platforms that are there with --platform",
    "choose-newer-platforms": ("copy the platforms in newer formats with --platform, or ask for a new build"),
    "choose-platform-or-digest": "choose by --platform, or name one by digest (oci:{file}@sha256:…)",
    "lower-memory": "give less with --memory",
    "choose-state": "check who owns the folder and whether it is writable, or choose another with --state",
    "wait-or-choose-state": "wait until it has ended, or choose another folder with --state",
    "stop-or-choose-state": "stop it, or give this one a folder of its own with --state",
    "update-or-choose-state": "use that crossdock, or give this one a folder of its own with --state",
    "choose-spool": "check who owns the folder and what is free there, or choose another with --spool",
    "raise-spool-size": "raise --spool-size, or free space there: half of what is free is used at most",
    "listen-elsewhere": "give another address with --listen; port 0 takes a free one",
    "add-certificate": "add --cert FILE",
    "give-certificate": (
        "give --cert FILE and --key FILE, or listen on 127.0.0.1 behind a proxy that has them"
    ),
    "give-identity": "give --config FILE with identity settings, or listen on 127.0.0.1",
    "give-users": "give --users FILE, or say what anybody may do: --anonymous read, or --anonymous write",
    "give-dev": "add --dev",
    "omit-certificate": "leave --cert and --key out, or --dev",
    "name-repositories": (
        "use credentials that may list the catalog, or name the repositories, without patterns, by"
        " --repository: then it is not asked for"
    ),
    "mirror-parent": "mirror {registry} with --repository {repository}",
    "omit-untagged": (
        "leave --untagged out: only registries with Azure's API (/acr/v1) list manifests without a tag"
    ),
    "omit-referrers": "copy without what is attached by --no-referrers",
    "copy-foreign-layers": "--foreign-layers copy copies them",
    "keep-foreign-layers": "it is a foreign layer: --foreign-layers keep copies its URLs and not its bytes",
}
ACR: Mapping[str, str] = {
    **COPY,
    "omit-scheme": "leave the scheme out; plain HTTP is chosen in the inventory (tls.plain_http)",
    "give-password": "give --password-stdin, CROSSDOCK_SOURCE_PASSWORD or --password",
    "omit-credentials": "write LOGIN_SERVER/IMAGE as --source to use credentials, or leave them out",
    "name-source-registry": "write LOGIN_SERVER/REPOSITORY[:TAG|@DIGEST], or give --registry",
    "choose-registry": "choose by --subscription and --resource-group, or name it by its resource ID",
    "use-resource-id": "name it by its resource ID with --registry, which works within one tenant only",
    "untag-target": "give --repository for a target without a tag",
    "tag-target": "give it as --image",
    "overwrite-tags": "nothing was copied; --force overwrites the tag",
    "overwrite-attached-tags": (
        "nothing was copied; with --force the image and its signatures are copied, and what the target has"
        " under such tags stays; --no-referrers leaves signatures out"
    ),
    "lift-limits": "leave --strict-limits out: crossdock itself has no such limit",
    "log-in": "crossdock login {registry}, or give credentials in the inventory or as flags",
    "repair-authfile": "repair it, or give another file as REGISTRY_AUTH_FILE",
    "remove-helper": "remove the helper from {file}",
    "give-ca": "if the certificate is of a private CA, give the CA as tls.ca in the inventory",
    "plain-http": "if this registry speaks plain HTTP, say so by tls.plain_http in the inventory",
    "client-certificate": "crossdock acr sends none: use crossdock copy",
    "check-trust": "give its CA as tls.ca in the inventory, or tls.plain_http if it does not speak TLS",
    "correct-option": "correct it",
}
_TABLES: Mapping[Face, Mapping[str, str]] = {"copy": COPY, "acr": ACR}
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


def advice_document(advice: Advice) -> dict[str, Any]:
    """The advice as a JSON object: its kind, the text, and the fields that are known."""
    known = {name: value for name, value in advice.fields().items() if value}
    if advice.platforms:
        known["platforms"] = list(advice.platforms)
    return {"kind": advice.kind, **known, "text": advice_text(advice)}

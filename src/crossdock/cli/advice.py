"""What the command says where advice concerns its flags: one table for the commands that copy, one for acr.

The library's table (`crossdock.advice`) is behind both. ``{flag:ca}`` is ``--src-ca`` or ``--dest-ca``, by
the side, or both where the side is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossdock.errors import Advice, Side

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
    "omit-referrers": "copy without what is attached by --no-referrers",
    "keep-foreign-layers": "it is a foreign layer: --foreign-layers keep copies its URLs and not its bytes",
}
ACR: Mapping[str, str] = {
    **COPY,
    "log-in": "crossdock login {registry}, or give credentials in the inventory or as flags",
    "repair-authfile": "repair it, or give another file as REGISTRY_AUTH_FILE",
    "remove-helper": "remove the helper from {file}",
    "give-ca": "if the certificate is of a private CA, give the CA as tls.ca in the inventory",
    "plain-http": "if this registry speaks plain HTTP, say so by tls.plain_http in the inventory",
    "client-certificate": "crossdock acr sends none: use crossdock copy",
    "check-trust": "give its CA as tls.ca in the inventory, or tls.plain_http if it does not speak TLS",
    "correct-option": "correct it",
}
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


def advice_text(advice: Advice, table: Mapping[str, str]) -> str:
    """The advice in the words of the command."""
    flag = _Flag(advice.side)
    option = _OPTIONS.get(advice.option, advice.option.replace("_", "-"))
    return advice.worded(table, flag=flag, option_flag=format(flag, option))


def advice_document(advice: Advice, table: Mapping[str, str]) -> dict[str, Any]:
    """The advice as a JSON object: its kind, the text, and the fields that are known."""
    fields = {name: value for name, value in advice._asdict().items() if value}
    return {**fields, "text": advice_text(advice, table)}

"""Registries that take the login of a cloud's identity: Amazon's ECR and Google's.

The host's name decides, or the kind that the inventory gives the registry; never what a server says about
itself, because the login of a cloud is good for more than one registry. The names are those that Amazon's
and Google's own credential helpers know.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

from crossdock.oci.registryname import split_key
from crossdock.options import Credentials

_ECR = re.compile(
    r"(?P<account>[0-9]{12})\.dkr[.-]ecr(?P<fips>-fips)?\.(?P<region>[a-z]+(?:-[a-z]+)+-[0-9]+)"
    r"\.(?P<domain>amazonaws\.(?:com(?:\.cn)?|eu)|on\.aws|on\.amazonwebservices\.(?:com\.cn|eu)"
    r"|c2s\.ic\.gov|sc2s\.sgov\.gov|csp\.hci\.ic\.gov|cloud\.adc-e\.uk)"
)
"""A private registry of ECR; those below ``on.`` are the dual-stack endpoints."""
ECR_PUBLIC = "public.ecr.aws"
ECR_PUBLIC_REGION = "us-east-1"  # of its API: there is no other
_GOOGLE = re.compile(r"(?:[a-z0-9-]+\.)*gcr\.io|[a-z0-9-]+-docker\.pkg\.dev")

_KINDS = {"ecr": "ecr", "ecr-public": "ecr-public", "gar": "google", "gcr": "google", "google": "google"}


class Cloud(Struct, frozen=True):
    """An endpoint of a cloud that gives logins for registries; all registries of one share the login."""

    service: Literal["ecr", "ecr-public", "google"]
    region: str = ""  # of AWS; empty: as the machine is configured
    fips: bool = False
    dual_stack: bool = False

    @property
    def name(self) -> str:
        """The cloud, for messages."""
        return "Google" if self.service == "google" else "AWS"


class Answer(Struct, frozen=True):
    """A login, and when it ends (seconds since 1970; None: not known)."""

    credentials: Credentials
    ends: float | None


def cloud_of(registry: str, kind: str = "", region: str = "") -> Cloud | None:
    """The cloud whose login the registry at ``host[:port]`` takes; `kind` is what the inventory calls it.

    `region` is that of AWS for a host whose name says none.
    """
    ecr = ecr_host(registry)
    service = _KINDS.get(kind, "") if kind else _service_of(split_key(registry)[0])
    match service:
        case "ecr" if ecr is not None:
            return Cloud("ecr", ecr["region"], bool(ecr["fips"]), ecr["domain"].startswith("on."))
        case "ecr":
            return Cloud("ecr", region)
        case "ecr-public":
            return Cloud("ecr-public", ECR_PUBLIC_REGION)
        case "google":
            return Cloud("google")
    return None


def ecr_host(registry: str) -> re.Match[str] | None:
    """The account, region and other groups of the name, if ``host[:port]`` is a registry of ECR."""
    return _ECR.fullmatch(split_key(registry)[0])


def _service_of(host: str) -> str:
    if _ECR.fullmatch(host):
        return "ecr"
    if host == ECR_PUBLIC:
        return "ecr-public"
    return "google" if _GOOGLE.fullmatch(host) else ""

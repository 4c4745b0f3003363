"""The library's wordings of `errors.Advice`: a template for each kind, which is filled with the fields.

The other faces have tables for the kinds that they word differently: `cli.advice`, `service.advice`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

LIBRARY: Mapping[str, str] = {
    # -- credentials
    "log-in": "log in to {registry} with crossdock, docker or podman, or give RegistryOptions.credentials",
    "check-login": "check its password and rights",
    "check-login/entry": "check the credentials of {entry} in {file}, and their rights",
    "new-token": "get a new token",
    "new-azure-token": (
        "get a new token with az account get-access-token --resource https://containerregistry.azure.net, "
        "and check that its owner has a role on this registry"
    ),
    "az-login": "log in with az login",
    "give-rights": "grant it that right, or use other credentials",
    "name-registry": "name {registry} in the reference, and log in to it",
    "repair-authfile": "repair it, or give another file as RegistryOptions.authfile or in REGISTRY_AUTH_FILE",
    "remove-helper": "remove the helper from {file}, or keep the login in another file",
    # -- TLS and addresses
    "give-ca": "if the certificate is from a private CA, give that CA as RegistryOptions.ca_file",
    "give-ca/entry": "if the certificate is from a private CA, give that CA as tls.ca of {entry} in {file}",
    "plain-http": "if this registry uses plain HTTP, set RegistryOptions.plain_http",
    "plain-http/entry": "if this registry uses plain HTTP, set tls.plain_http of {entry} in {file}",
    "client-certificate": "give it as RegistryOptions.cert_file and key_file",
    "renew-certificate": "renew the server's certificate, and check this machine's clock",
    "replace-certificate": "the server needs another certificate",
    "use-certified-name": "use a host name that the certificate covers",
    "report-bug": "report it with its traceback",
    "decrypt-key": "give a key without a passphrase",
    "correct-option": "correct RegistryOptions.{option}",
    "correct-option/entry": "correct tls.ca of {entry} in {file}",
    "repair-file": "repair or remove that file",
    "check-tls": "check whether it uses TLS",
    "check-host-name": "check the spelling of the host name",
    "check-proxy": "check the proxy's address in HTTPS_PROXY or HTTP_PROXY, or name the host in NO_PROXY",
    "proxy-login": "check user and password in the proxy's URL (HTTPS_PROXY, HTTP_PROXY)",
    "raise-open-files": ("raise the limit on open files (ulimit -n): every connection needs one"),
    # -- input and files
    "write-reference": (
        "write [docker://]host[:port]/repository[:tag][@digest], oci:DIR[:tag|@digest],"
        " oci-archive:FILE[:tag] or docker-archive:FILE[:name[:tag]]"
    ),
    "omit-scheme": "omit the scheme; RegistryOptions.plain_http selects plain HTTP",
    "write-platform": "write os/architecture[/variant], for example linux/arm64",
    "write-each-platform": (
        "write os/architecture[/variant], for example linux/arm64; give each as one of CopyOptions.platforms"
    ),
    "choose-platform": "choose CopyOptions.platforms among these, or omit it to copy all",
    "choose-one-platform": "choose one by CopyOptions.platforms, or copy all to oci-archive:FILE",
    "omit-platform": "omit CopyOptions.platforms to copy all",
    "omit-this-platform": "omit this platform",
    "choose-present-platforms": "copy only the platforms that exist, by CopyOptions.platforms",
    "choose-newer-platforms": (
        "copy only the platforms in newer formats, by CopyOptions.platforms, or ask for a new build"
    ),
    "choose-platform-or-digest": (
        "choose by CopyOptions.platforms, or name one by its digest ({file}@sha256:…)"
    ),
    "lower-memory": "lower CopyOptions.memory",
    "choose-state": "check the folder's owner and permissions, or choose another state folder",
    "wait-or-choose-state": "wait until it has ended, or choose another state folder",
    "stop-or-choose-state": "stop it, or choose another state folder",
    "update-or-choose-state": "use that version of crossdock, or choose another state folder",
    "choose-spool": "check the folder's owner and free space, or choose another spool folder",
    "raise-spool-size": "allow a larger spool, or free disk space: the spool uses at most half of it",
    "listen-elsewhere": "give another address; port 0 picks a free one",
    "add-certificate": "add the certificate",
    "give-certificate": "give a certificate and its key, or say that a proxy in front ends TLS",
    "give-identity": "give identity settings, or listen on 127.0.0.1",
    "give-users": "give a users file, or rights for anonymous clients",
    "give-dev": "enable the development cloud too",
    "omit-certificate": "omit certificate and key, or the development cloud",
    "omit-certificate-or-proxy": "omit the certificate, or the proxy that ends TLS",
    "name-repositories": (
        "use credentials that may list the catalog, or name the repositories by repositories=: without"
        " patterns the catalog is not needed"
    ),
    "mirror-parent": "mirror {registry} with {repository} as one of repositories=",
    "omit-untagged": (
        "leave out untagged: only some registries (Azure, Harbor, Amazon, Google) list manifests"
        " without a tag"
    ),
    "omit-times": (
        "leave out pushed_after, min_age and sort by push time: only registries whose lists have push times"
        " (Azure, Harbor, Quay, ECR, Google) can answer them"
    ),
    # -- imports
    "give-password": "give the password too",
    "omit-credentials": "name the source by its login server to use credentials, or omit them",
    "name-source-registry": "write LOGIN_SERVER/REPOSITORY[:TAG|@DIGEST]",
    "choose-registry": "name it by its resource ID",
    "use-resource-id": "name it by its resource ID, which works within one tenant only",
    "untag-target": "give the target as an untagged repository",
    "tag-target": "give it as a tag",
    "overwrite-tags": "nothing was copied; use force to overwrite the tag",
    "overwrite-attached-tags": (
        "nothing was copied; with force the image and its signatures are copied, and such tags that the"
        " target already has stay"
    ),
    "lift-limits": "lift the limits: crossdock itself has none",
    # -- registries
    "check-address": "check host and port, and whether the registry runs",
    "check-trust": (
        "give its CA as RegistryOptions.ca_file, or set RegistryOptions.plain_http if it does not use TLS"
    ),
    "allow-more-time": "try again, or raise NetworkOptions.timeout",
    "ask-access": "ask for access, or use other credentials",
    "wait": "wait, or use credentials with a higher limit",
    "ask-operator": "ask the registry's operator: its log may show why",
    "report-redirect": "report it to the registry's operator: it redirects clients to a forbidden address",
    "report-copy": "nothing was tagged; report it to the registry's operator",
    "retry-or-report": "try again, and if it persists report it to the registry's operator",
    "retry-or-report-copy": (
        "nothing was tagged; try again, and if it persists report it to the registry's operator"
    ),
    "recreate-source": "fetch or write that archive or layout again",
    "retry-copy": "try again: blobs that have arrived are not copied again",
    "check-name": "check repository and tag",
    "check-repository": "check the repository's name",
    "check-repository-or-create": (
        "check the repository's name; some registries require you to create it first"
    ),
    "push-again": (
        "the source lists it but does not have it: ask its operator, or the image's publisher, "
        "to push it again"
    ),
    "retry": "try again",
    "retry-elsewhere": "the registry redirected the request there: try again, or ask the registry's operator",
    "report": "report it to the registry's operator",
    "redirect-by-307": "the registry, or the proxy in front of it, must redirect it with 307 or 308",
    "raise-body-limit": "raise the limit on request bodies of the target or of the proxy in front of it",
    "turn-off-compression": "turn off compression in transit at the source or at the proxy in front of it",
    "create-repository": (
        "create the repository at the target first: some registries (ECR) do not create it, unless create is "
        "set in the inventory"
    ),
    "immutable-tag": "the tag is immutable there: leave it out, or have its registry's rule changed",
    "unlock": (
        "it may be locked: crossdock acr repository show prints changeableAttributes, "
        "repository update sets them"
    ),
    "omit-referrers": "copy without referrers by CopyOptions(referrers=False)",
    "copy-foreign-layers": 'CopyOptions(foreign_layers="copy") copies them',
    "keep-foreign-layers": ('it is a foreign layer: CopyOptions.foreign_layers="keep" copies only its URLs'),
}

# Operations that move no content, among them those of commands that list or log in.
_READS = ("inspect", "list tags", "list repositories", "list manifests", "log in")
_OF_COPIES = ("retry", "report", "retry-or-report")  # kinds with a longer text for copies


def registry_in(reference: str) -> str:
    """``host[:port]`` of a reference; empty where it begins with another scheme (`oci.reference.SCHEMES`)."""
    registry = reference.partition("/")[0]
    return registry if re.fullmatch(r"(\[[^]]*\]|[^:]*)(:[0-9]+)?", registry) else ""


def usual_kind(usual: str, operation: str, side: str, reference: str, *, names_side: bool) -> str:
    """The kind of advice for a failed operation, given the `usual` kind for such a failure; empty: none.

    Advice for operations that move no content does not mention tags and bytes.
    """
    is_local = bool(reference) and not registry_in(reference)
    if is_local and side == "source" and usual in ("report", "retry-or-report"):
        return "recreate-source"
    if usual in _OF_COPIES:
        return f"{usual}-copy" if names_side and not operation.startswith(_READS) else usual
    if usual != "check-name":
        return usual
    if is_local:
        return ""  # the message lists the layout's tags
    if side == "target":
        return "check-repository-or-create"
    if operation.startswith(("list tags", "list manifests", "delete repository")):
        return "check-repository"
    return "push-again" if operation.startswith("fetch") else usual

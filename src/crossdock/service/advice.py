"""The service's wordings of advice about its requests, its inventory and its operator.

The library's table (`crossdock.advice`) has the rest. An empty text: the advice makes no sense here.
"""

from __future__ import annotations

from collections.abc import Mapping

SERVICE: Mapping[str, str] = {
    "log-in": "give credentials for {registry}",
    "log-in/source": (
        "give source.credentials in the request, or have the operator give the source registry's credentials"
        " in the inventory"
    ),
    "log-in/target": "the operator can give the target registry's credentials in the inventory",
    "check-login/entry": (
        "the operator can check the credentials of {entry} in the inventory, and their rights"
    ),
    "give-ca": (
        "if the certificate is from a private CA, the operator can give that CA in the inventory (tls.ca)"
    ),
    "give-ca/entry": (
        "if the certificate is from a private CA, the operator can give that CA as tls.ca of {entry}"
        " in the inventory"
    ),
    "plain-http": ("if this registry uses plain HTTP, the operator can set tls.plain_http in the inventory"),
    "plain-http/entry": (
        "if this registry uses plain HTTP, the operator can set tls.plain_http of {entry} in the inventory"
    ),
    "client-certificate": "the service sends none",
    "check-trust": "the operator can give its CA in the inventory (tls.ca), or set tls.plain_http",
    "correct-option": "the operator can correct it",
    "correct-option/entry": "the operator can correct tls.ca of {entry} in the inventory",
    "decrypt-key": "the operator can give a key without a passphrase",
    "repair-file": "the operator can repair or remove that file",
    "repair-authfile": "the operator can repair it",
    "remove-helper": "the operator can remove the helper from {file}",
    "allow-more-time": "try again",
    "omit-scheme": "omit the scheme; tls.plain_http in the inventory selects plain HTTP",
    "write-each-platform": "",
    "choose-platform": "",
    "choose-one-platform": "",
    "omit-platform": "",
    "omit-this-platform": "",
    "choose-present-platforms": "",
    "choose-newer-platforms": "ask for a new build",
    "choose-platform-or-digest": "",
    "lower-memory": "the operator can lower limits.memory",
    "name-repositories": "",
    "mirror-parent": "",
    "omit-untagged": "",
    "give-password": "give source.credentials.password",
    "omit-credentials": "give source.registryUri to use credentials, or omit them",
    "name-source-registry": "give source.registryUri or source.resourceId",
    "use-resource-id": ("name it by its resource ID (source.resourceId), which works within one tenant only"),
    "untag-target": "use untaggedTargetRepositories for a target without a tag",
    "tag-target": "use targetTags for it",
    "overwrite-tags": "nothing was copied; the mode Force overwrites the tag",
    "overwrite-attached-tags": (
        "nothing was copied; with the mode Force the image and its signatures are copied, and such tags that"
        " the target already has stay"
    ),
    "omit-referrers": "",
    "keep-foreign-layers": "",
    "copy-foreign-layers": "",
}

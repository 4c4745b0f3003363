"""What the library and the command say to a person at a shell, said to a caller of the service."""

from __future__ import annotations

import re

# The first column is found in texts of errors; the second stands there instead. Flags that a caller has no
# counterpart of are the operator's.
_PHRASES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (
            r"crossdock login \S+, or give --src-creds-stdin",
            "give source.credentials in the request, or have the operator give the source registry's"
            " credentials in the inventory",
        ),
        (
            r"crossdock login \S+, or give --dest-creds-stdin",
            "the operator can give the target registry's credentials in the inventory",
        ),
        (r"crossdock login (\S+)$", r"give credentials for \1"),
        (
            r"give the CA by --(src|dest)-ca( or --(src|dest)-ca)?",
            "the operator can give the CA in the inventory (tls.ca)",
        ),
        (
            r"say so by --(src|dest)-plain-http( or --(src|dest)-plain-http)?",
            "the operator can say so in the inventory (tls.plain_http)",
        ),
        (
            r"give it by --(src|dest)-cert and --(src|dest)-key(, or --(src|dest)-cert)?",
            "the service sends none",
        ),
        (
            r"plain HTTP is chosen by --src-plain-http and --dest-plain-http",
            "plain HTTP is chosen in the inventory (tls.plain_http)",
        ),
        (r": (copy the platforms that are there with --platform|leave out this platform)$", ""),
        (r"copy the platforms in newer formats with --platform, or ask", "ask"),
        (r"--force overwrites", "the mode Force overwrites"),
        (r"write LOGIN_SERVER/\S+, or give --registry", "give source.registryUri or source.resourceId"),
        (r"with --registry, which", "(source.resourceId), which"),
        (r"--repository takes a repository", "untaggedTargetRepositories takes repositories"),
        (r"give --repository for", "use untaggedTargetRepositories for"),
        (r"give it as --image", "use targetTags for it"),
        (r"choose by --subscription and --resource-group, or name it", "name it"),
    )
)
_FLAG = re.compile(r"(?<![\w-])--[a-z]")
_OTHER_COMMAND = re.compile(r"az account get-access-token --resource \S+")


def in_service_words(text: str) -> str:
    """The text of an error, without the command's flags where the service has words for them."""
    for pattern, words in _PHRASES:
        text = pattern.sub(words, text)
    return text


def service_hint(hint: str) -> str:
    """What to do next; empty when only the command could do it."""
    said = in_service_words(hint)
    return "" if _FLAG.search(_OTHER_COMMAND.sub("", said)) else said

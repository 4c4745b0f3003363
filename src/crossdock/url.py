"""A URL as one value, from the endpoint table to the socket: parsed once, shown without its secrets."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, urljoin, urlsplit

from msgspec import Struct

from crossdock.errors import InvalidInput
from crossdock.redact import redact_url

DEFAULT_PORTS = {"http": 80, "https": 443}

# A URL that needs no encoding: its start, which names the origin, and its target. Others are parsed slowly.
_PLAIN = re.compile(r"(https?://[A-Za-z0-9.:_\[\]-]+)(/[\x21\x22\x24-\x5b\x5d-\x7e]*)")
# Compiled when first used: a name or IPv4; or IPv6, with its zone.
_HOST = r"[0-9a-z._-]+|[0-9a-f.]*:[0-9a-f:.]*(?:%[0-9a-z._%-]+)?"
_CONTROL = r"[\x00-\x1f\x7f]"
_UNSAFE = r"[\x20\\]|[^\x00-\x7f]"
_SAFE = "!#$%&'()*+,/:;=?@[]~\\"  # of these and of ASCII letters and digits nothing is encoded


class Origin(Struct, frozen=True):
    """Scheme, host and port: who serves a URL. ``str()`` is ``scheme://host[:port]``."""

    scheme: str
    host: str  # lower case; IPv6 without brackets
    port: int

    @property
    def authority(self) -> str:
        """``host[:port]`` as the Host field has it: without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def host_and_port(self) -> str:
        """``host:port``, always with the port, as CONNECT needs it and messages show it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


class Url(Struct, frozen=True):
    """An absolute http or https URL that can be sent: encoded, without user information and fragment.

    ``str()`` and ``repr()`` hide what a query may permit; `text` is the URL itself.
    """

    origin: Origin
    target: str  # path and query, as the request line has them; the query may be a permission
    start: str  # scheme and authority as they were written

    @classmethod
    def parse(cls, text: str) -> Url:
        """The URL that `text` is. Raises `InvalidInput`, which quotes nothing of it.

        The query is kept byte for byte, because signatures cover it. Characters that no URL may hold are
        percent-encoded.
        """
        plain = _PLAIN.fullmatch(text)
        if plain is not None:
            return cls(_origin_of(plain[1]), plain[2], plain[1])
        _check_control(text)
        try:
            parts = urlsplit(quote(text, safe=_SAFE) if re.search(_UNSAFE, text) else text)
        except UnicodeEncodeError:
            raise InvalidInput("not a URL: it is not Unicode text") from None
        except ValueError:  # brackets that do not match
            raise InvalidInput("not a URL: its host is not valid") from None
        target = parts.path or "/"
        if parts.query:
            target += f"?{parts.query}"
        start = f"{parts.scheme}://{parts.netloc}"
        return cls(_origin_of(start), target, start)

    @classmethod
    def of(cls, origin: Origin, target: str) -> Url:
        """The URL of `target` at `origin`."""
        return cls(origin, target, str(origin))

    @property
    def text(self) -> str:
        """The whole URL. It may be a secret."""
        return self.start + self.target

    @property
    def path(self) -> str:
        """The path, without the query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The query, without its question mark. It may be a secret."""
        return self.target.partition("?")[2]

    def with_target(self, target: str) -> Url:
        """`target` of the same server."""
        return Url(self.origin, target, self.start)

    def join(self, reference: str) -> Url:
        """The URL that an absolute or relative `reference` leads to from here. Raises `InvalidInput`."""
        if not _PLAIN.match(reference):
            _check_control(reference)  # which urllib would drop
            try:
                reference = urljoin(self.text, reference)
            except ValueError:  # brackets that do not match
                raise InvalidInput("not a URL: its host is not valid") from None
        return Url.parse(reference)

    def __str__(self) -> str:
        return redact_url(self.text)

    def __repr__(self) -> str:
        return f"<Url {self}>"


def _check_control(text: str) -> None:
    if re.search(_CONTROL, text):
        raise InvalidInput("a URL holds a control character")


@lru_cache(maxsize=256)
def _origin_of(start: str) -> Origin:
    try:
        parts = urlsplit(start)
    except ValueError:
        raise InvalidInput("not a URL: its host is not valid") from None
    if parts.scheme not in DEFAULT_PORTS or not parts.netloc:
        is_other = parts.scheme and parts.scheme not in DEFAULT_PORTS
        why = ": its scheme is neither http nor https" if is_other else ""
        raise InvalidInput(f"not an absolute http or https URL{why}")
    if "@" in parts.netloc:
        raise InvalidInput("a URL holds user information")
    if not parts.hostname or not re.fullmatch(_HOST, parts.hostname):
        raise InvalidInput("not a URL: its host is not valid")
    try:
        port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    except ValueError:  # whose message quotes what stands there
        port = 0
    if not port:
        raise InvalidInput("not a URL: its port is not valid")
    return Origin(parts.scheme, parts.hostname, port)

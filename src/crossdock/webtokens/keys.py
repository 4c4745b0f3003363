"""The public keys of an issuer: RFC 7517 key sets, fetched when needed and cached.

Only keys that fit the permitted algorithms are kept: RSA of 2048 to 8192 bits and P-256.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import InvalidKeyError
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from crossdock.errors import InvalidInput
from crossdock.webtokens.values import Issuer, TokenRefused

log = logging.getLogger(__name__)

MAX_DOCUMENT = 256 * 1024  # bytes; Entra ID's key set has some 20 KiB
MAX_KEYS = 100
TIMEOUT_S = 10.0  # of one document
FRESH_S = 3600.0  # after this, the next use fetches the keys again
STALE_S = 24 * 3600.0  # how long keys stay in use while they cannot be fetched
PAUSE_S = 60.0  # in which an unknown key may cause this many fetches:
FETCHES = 10  # more than one, since an issuer may rotate its keys right after a fetch
PAUSE_AFTER_FAILURE_S = 5.0
RSA_BITS = range(2048, 8193)

Algorithm = Literal["RS256", "PS256", "ES256"]
KINDS: Mapping[str, str] = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC"}
"""The permitted algorithms and the ``kty`` of their keys. Never ``none``, never a shared secret."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Key(NamedTuple):
    """A key with its attributes in the key set."""

    kid: str
    kind: str  # kty
    algorithm: str  # empty: any of its kind
    public: RSAPublicKey | EllipticCurvePublicKey


def read_keys(document: Any) -> tuple[Key, ...]:
    """The usable keys of a key set. Raises ValueError for anything but a key set."""
    entries = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise ValueError(f"not a key set of up to {MAX_KEYS} keys")
    return tuple(key for key in map(_key, entries) if key is not None)


def _key(entry: Any) -> Key | None:
    if not isinstance(entry, Mapping) or entry.get("use", "sig") != "sig":
        return None
    kid, kind, algorithm = entry.get("kid", ""), entry.get("kty"), entry.get("alg", "")
    if not isinstance(kid, str) or (algorithm and KINDS.get(str(algorithm)) != kind):
        return None
    # A private part, if one was published, is not read.
    parts = {name: entry[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in entry}
    try:
        if kind == "RSA":
            rsa = RSAAlgorithm.from_jwk(parts)
            if isinstance(rsa, RSAPublicKey) and rsa.key_size in RSA_BITS:
                return Key(kid, kind, algorithm, rsa)
        elif kind == "EC" and parts.get("crv") == "P-256":
            curve = ECAlgorithm.from_jwk(parts)
            if isinstance(curve, EllipticCurvePublicKey):
                return Key(kid, kind, algorithm, curve)
    except (InvalidKeyError, ValueError, TypeError, AttributeError):
        pass
    return None


class IssuerKeys:
    """The keys of one issuer. For one event loop."""

    def __init__(self, issuer: Issuer, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is fetched yet. Raises `InvalidInput` when the CA file or the given keys cannot be used."""
        self._issuer = issuer
        self._clock = clock
        self._keys: tuple[Key, ...] = ()
        self._fetched: float | None = None  # when, by the clock
        self._tried_until = clock()  # no fetch before this time
        self._recent: deque[float] = deque(maxlen=FETCHES)  # when keys were fetched
        self._lock = asyncio.Lock()
        self._tls: ssl.SSLContext | None = None
        if issuer.keys is not None:
            try:
                self._keys = read_keys(issuer.keys)
            except ValueError as error:
                raise InvalidInput(f"the keys of {issuer.issuer}: {error}") from None
            return
        for url in (issuer.issuer, issuer.jwks_uri or issuer.issuer):
            if not _is_safe(url):
                raise InvalidInput(
                    f"keys of issuer {issuer.issuer!r} need URLs with https and without a user"
                )
        self._tls = self.trust()

    def trust(self) -> ssl.SSLContext | None:
        """The trust in the issuer's CA file as it is now. Raises `InvalidInput`. Blocks."""
        is_needed = self._issuer.ca_file is not None and self._issuer.keys is None
        return _trusting(self._issuer) if is_needed else None

    def trust_in(self, trust: ssl.SSLContext | None) -> None:
        """Use `trust` when keys are fetched, which is possible at once after a failure. Fetched keys stay."""
        self._tls = trust
        self._tried_until = self._clock()

    async def find(self, kid: str, algorithm: str) -> Key:
        """The key `kid` for `algorithm`; with an empty `kid`, the only key for it. May fetch.

        Raises `TokenRefused`: ``key`` for an unknown key, ``unavailable`` when the keys cannot be fetched.
        """
        # While one caller fetches, the others use keys that are not too old.
        if (
            self._issuer.keys is None
            and not self._is_fresh()
            and (self._too_old() or not self._lock.locked())
        ):
            await self._refresh()
        key = self._known(kid, algorithm)
        if key is None and self._issuer.keys is None:
            await self._refresh()
            key = self._known(kid, algorithm)
        if key is None:
            raise TokenRefused("key", "The access token is signed by a key that its issuer does not have.")
        return key

    def _known(self, kid: str, algorithm: str) -> Key | None:
        fit = [
            key
            for key in self._keys
            if key.kind == KINDS[algorithm] and key.algorithm in ("", algorithm) and kid in ("", key.kid)
        ]
        return fit[0] if fit and (kid or len(fit) == 1) else None

    def _is_fresh(self) -> bool:
        return self._fetched is not None and self._clock() < self._fetched + FRESH_S

    def _too_old(self) -> bool:
        return self._fetched is None or self._clock() >= self._fetched + STALE_S

    async def _refresh(self) -> None:
        """Fetch, unless that was tried just now. Raises `TokenRefused` when there are no usable keys."""
        failed = "they could not be fetched just now"
        before = self._fetched
        async with self._lock:
            if self._fetched != before:  # another caller fetched meanwhile
                return
            if self._clock() >= self._tried_until:
                try:
                    async with asyncio.timeout(2 * TIMEOUT_S):
                        self._keys = read_keys(await self._fetch())
                except (OSError, ValueError, RecursionError) as error:
                    self._tried_until = self._clock() + PAUSE_AFTER_FAILURE_S
                    failed = str(error) or type(error).__name__
                    log.warning("the keys of %s could not be fetched: %s", self._issuer.issuer, failed)
                else:
                    self._fetched = self._clock()
                    self._recent.append(self._fetched)
                    if len(self._recent) == FETCHES:
                        self._tried_until = self._recent[0] + PAUSE_S
                    return
            if self._too_old():
                raise TokenRefused(
                    "unavailable",
                    f"The keys of the token's issuer {self._issuer.issuer} cannot be fetched: {failed}.",
                )

    async def _fetch(self) -> Any:
        uri = self._issuer.jwks_uri
        if not uri:
            place = f"{self._issuer.issuer.rstrip('/')}/.well-known/openid-configuration"
            said = await self._get(place)
            if not isinstance(said, Mapping) or said.get("issuer") != self._issuer.issuer:
                raise ValueError(f"{place} is the configuration of another issuer")
            uri = str(said.get("jwks_uri"))
            if not _is_safe(uri):
                raise ValueError(f"{place} has no jwks_uri with https")
        return await self._get(uri)

    async def _get(self, url: str) -> Any:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(url, ssl=self._tls or True, allow_redirects=False) as response,
            ):
                if response.status != 200:
                    raise ValueError(f"{url} responded with {response.status}")
                data = bytearray()
                async for piece in response.content.iter_chunked(65536):
                    data += piece
                    if len(data) > MAX_DOCUMENT:
                        raise ValueError(f"{url} has over {MAX_DOCUMENT} bytes")
        except TimeoutError:
            raise ValueError(f"{url} did not respond within {TIMEOUT_S:g} s") from None
        except aiohttp.ClientError as error:
            raise ValueError(f"{url}: {error}") from None
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise ValueError(f"{url} is not JSON") from None


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if parts.username is not None or parts.password is not None or not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def _trusting(issuer: Issuer) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cafile=issuer.ca_file)
    except ssl.SSLError:
        raise InvalidInput(f"{issuer.issuer}: {issuer.ca_file} holds no certificate in PEM form") from None
    except OSError as error:
        raise InvalidInput(f"{issuer.issuer}: {issuer.ca_file} cannot be read: {error.strerror}") from None
    return context

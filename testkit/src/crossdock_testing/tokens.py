"""A real token service on loopback, which docker-registry's ``auth: token`` trusts.

It speaks both forms of the distribution token protocol, GET with Basic and POST with OAuth2 grants, signs
JSON web tokens (ES256, certificate in ``x5c``) and records every request, so that tests can count them.
"""

from __future__ import annotations

import base64
import datetime
import json
import secrets
import ssl
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossdock_testing.threads import ThreadedServer

if TYPE_CHECKING:
    from aiohttp import web

ANONYMOUS = ""
EVERYTHING: Mapping[str, Collection[str]] = {"*": ("*",)}

REGISTRY_LEEWAY_S = 60.0
"""docker-registry 2.8 accepts a token this long after its ``exp`` (registry/auth/token: Leeway)."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One request to the service, and its outcome."""

    method: str
    status: int
    user: str  # empty: anonymous, or not recognized
    service: str
    scopes: tuple[str, ...]
    grant: str = ""  # POST only
    account: str = ""
    token: str = field(default="", repr=False)


class _Refused(Exception):
    """The credentials are wrong or the form is not supported; ``args``: status and message."""


class TokenServer(ThreadedServer):
    """The service. Use as a context manager, or call `start` and `close`."""

    def __init__(
        self,
        *,
        users: Mapping[str, str] | None = None,
        rights: Mapping[str, Mapping[str, Collection[str]]] | None = None,
        identity_tokens: Mapping[str, str] | None = None,
        service: str = "crossdock registry",
        lifetime_s: float = 300.0,
        announced_s: float | None = None,
        methods: Collection[str] = ("GET", "POST"),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`users`: passwords by name. `identity_tokens`: user names by token, for the ``refresh_token``
        grant.

        `rights`: actions by repository by user, ``*`` for any repository or action; users that it does not
        name may do everything, `ANONYMOUS` nothing. docker-registry refuses tokens after `lifetime_s`;
        `announced_s` is the ``expires_in`` of responses, by default the same, 0 to leave it out.
        """
        super().__init__("token server")
        self.users = dict(users or {})
        self.rights = dict(rights or {})
        self.identity_tokens = dict(identity_tokens or {})
        self.service = service
        self.issuer = "crossdock token service"
        self.lifetime_s = lifetime_s
        self.announced_s = announced_s
        self.methods = frozenset(methods)
        self.requests: list[TokenRequest] = []
        self._tls = tls
        self._key, self._certificate = _make_key(self.issuer)

    # -- the server ----------------------------------------------------------------------------------

    @property
    def realm(self) -> str:
        """The URL of the service, as challenges name it."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/token"

    async def _serve(self) -> None:
        from aiohttp import web

        app = web.Application()
        self._add_routes(app)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls).start()
            self.port = runner.addresses[0][1]
            await self._until_closed()
        finally:
            await runner.cleanup()

    def _add_routes(self, app: web.Application) -> None:
        app.router.add_route("*", "/token", self._answer)

    # -- for registries ------------------------------------------------------------------------------

    def registry_auth(self, directory: Path) -> dict[str, Any]:
        """The ``auth`` section of docker-registry's configuration; writes a certificate to `directory`."""
        bundle = directory / "token-service.pem"
        bundle.write_bytes(self.certificate_pem())
        return {
            "token": {
                "realm": self.realm,
                "service": self.service,
                "issuer": self.issuer,
                "rootcertbundle": str(bundle),
            }
        }

    def certificate_pem(self) -> bytes:
        """The certificate whose key signs the tokens."""
        from cryptography.hazmat.primitives.serialization import Encoding

        pem: bytes = self._certificate.public_bytes(Encoding.PEM)
        return pem

    def mint(self, scopes: Collection[str] = (), user: str = "test") -> str:
        """A token for exactly these scopes, without a request."""
        return self._sign(user, [_access(scope) for scope in scopes])

    # -- the protocol --------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.Response:
        from aiohttp import web

        form = await request.post() if request.method == "POST" else {}
        fields = {name: str(value) for name, value in form.items()}
        query = request.query
        scopes = fields.get("scope", "").split() if form else query.getall("scope", [])
        user, token, status = "", "", 200
        try:
            if request.method not in self.methods:
                raise _Refused(405, "method not allowed")
            if (fields.get("service") if form else query.get("service")) != self.service:
                raise _Refused(400, "unknown service")
            user = self._grant(fields) if form else self._basic(request.headers.get("Authorization", ""))
            token = self._sign(user, [self._allowed(user, _access(scope)) for scope in scopes])
            body: dict[str, Any] = {"access_token" if form else "token": token}
            announced = self.lifetime_s if self.announced_s is None else self.announced_s
            if announced:
                body["expires_in"] = announced if announced % 1 else int(announced)
        except _Refused as refusal:
            status, message = refusal.args
            body = {"details": message}
        self.requests.append(
            TokenRequest(
                request.method,
                status,
                user,
                fields.get("service") or query.get("service", ""),
                tuple(scopes),
                grant=fields.get("grant_type", ""),
                account=query.get("account", ""),
                token=token,
            )
        )
        return web.json_response(body, status=status)

    def _basic(self, authorization: str) -> str:
        if not authorization:
            return ANONYMOUS
        try:
            decoded = base64.b64decode(authorization.removeprefix("Basic "), validate=True).decode()
        except ValueError:
            raise _Refused(400, "no Basic credentials") from None
        user, _, password = decoded.partition(":")
        return self._checked(user, password)

    def _grant(self, fields: Mapping[str, str]) -> str:
        match fields.get("grant_type"):
            case "refresh_token":
                user = self.identity_tokens.get(fields.get("refresh_token", ""))
                if user is None:
                    raise _Refused(401, "unknown refresh token")
                return user
            case "password":
                return self._checked(fields.get("username", ""), fields.get("password", ""))
        raise _Refused(400, "unsupported grant type")

    def _checked(self, user: str, password: str) -> str:
        if not secrets.compare_digest(self.users.get(user, "").encode(), password.encode()) or not password:
            raise _Refused(401, "incorrect username or password")
        return user

    def _allowed(self, user: str, access: dict[str, Any]) -> dict[str, Any]:
        default: Mapping[str, Collection[str]] = {} if user == ANONYMOUS else EVERYTHING
        by_repository = self.rights.get(user, default)
        actions = by_repository.get(access["name"], by_repository.get("*", ()))
        return access | {"actions": [a for a in access["actions"] if "*" in actions or a in actions]}

    def _sign(self, user: str, access: list[dict[str, Any]]) -> str:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, utils
        from cryptography.hazmat.primitives.serialization import Encoding

        now = time.time()
        der = self._certificate.public_bytes(Encoding.DER)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        claims = {
            "iss": self.issuer,
            "sub": user,
            "aud": self.service,
            "exp": int(now + self.lifetime_s - REGISTRY_LEEWAY_S),
            "nbf": int(now - 2 * REGISTRY_LEEWAY_S),
            "iat": int(now),
            "jti": secrets.token_hex(8),
            "access": [entry for entry in access if entry["actions"]],
        }
        signed = f"{_base64url(json.dumps(header).encode())}.{_base64url(json.dumps(claims).encode())}"
        signature = self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
        r, s = utils.decode_dss_signature(signature)
        return f"{signed}.{_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _access(scope: str) -> dict[str, Any]:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return {"type": kind, "name": name, "actions": [action for action in actions.split(",") if action]}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _make_key(name: str) -> tuple[Any, Any]:
    """A key and its self-signed certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, certificate

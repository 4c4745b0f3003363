"""An identity provider in the form of Entra ID: one tenant, one application, one managed identity.

Their ids and the signing key are kept in a file, so that tokens outlive a restart. Errors are those of Entra
ID, as far as MSAL reads them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from msgspec import Struct

from crossdock.webtokens.values import Issuer
from crossdock_testing.azure.files import private_folder, read_if_there, write_private

LIFE_S = 3600  # of a token; clients renew it some minutes earlier
ARM_AUDIENCES = (
    "https://management.azure.com",
    "https://management.azure.com/",
    "https://management.core.windows.net",
    "https://management.core.windows.net/",
)
ACR_SUFFIX = "azurecr.io"
_OPENID_SCOPES = ("openid", "offline_access", "profile", "email")
_ANY_TENANT = ("adfs", "common", "organizations")


class Identities(Struct, frozen=True, forbid_unknown_fields=True):
    """The identities of the tenant. ``repr`` shows no secret."""

    tenant: str
    client_id: str
    client_secret: str
    object_id: str
    identity_header: str
    managed_object_id: str
    key: str  # PEM

    def __repr__(self) -> str:
        return f"<Identities of {self.tenant}>"


class Declined(Exception):
    """A token request that is refused; `.status` and `.document` are the response."""

    def __init__(self, status: int, error: str, number: int, message: str) -> None:
        super().__init__(message)
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        description = (
            f"AADSTS{number}: {message} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {now}"
        )
        self.status = status
        self.document: Mapping[str, Any] = {
            "error": error,
            "error_description": description,
            "error_codes": [number],
            "timestamp": now,
            "trace_id": trace,
            "correlation_id": correlation,
            "statusCode": status,  # this and the next are App Service's
            "message": description,
        }


class Provider:
    """Issues tokens. ``.base`` is the URL of the server, without a trailing slash, once it is known."""

    def __init__(self, folder: Path) -> None:
        """Reads or creates the identities in `folder`. Raises `StoreError`. Blocks."""
        self.who = _kept(folder / "identities.json") or _new(folder / "identities.json")
        self.base = ""
        key = serialization.load_pem_private_key(self.who.key.encode(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        self._key = key
        public = key.public_key()
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self._kid = hashlib.sha256(der).hexdigest()[:32]
        entry = RSAAlgorithm.to_jwk(public, as_dict=True)
        self._jwk = {
            **{name: entry[name] for name in ("kty", "n", "e")},
            "use": "sig",
            "alg": "RS256",
            "kid": self._kid,
        }

    @property
    def issuer(self) -> Issuer:
        """For the verifier of tokens for Azure Resource Manager in this process."""
        return Issuer(
            issuer=self._issuer,
            audiences=(self.base, f"{self.base}/", *ARM_AUDIENCES),
            keys=self.key_set(),
        )

    @property
    def _issuer(self) -> str:
        return f"{self.base}/{self.who.tenant}"

    # -- documents -----------------------------------------------------------------------------------

    def metadata(self) -> Mapping[str, Any]:
        """The response to ``az cloud register``."""
        return {
            "name": "crossdock",
            "portal": self.base,
            "authentication": {
                # With this suffix MSAL does not look the host up at login.microsoftonline.com.
                "loginEndpoint": f"{self.base}/adfs",
                "audiences": [self.base, ARM_AUDIENCES[0]],
                "tenant": self.who.tenant,
                "identityProvider": "AAD",
            },
            "resourceManager": self.base,
            "graphAudience": self.base,
            "graph": self.base,
            "suffixes": {
                "acrLoginServer": ACR_SUFFIX,
                "storage": "storage.invalid",
                "keyVaultDns": "vault.invalid",
                "sqlServerHostname": "sql.invalid",
            },
        }

    def configuration(self, tenant: str, prefix: str = "") -> Mapping[str, Any]:
        """The OpenID configuration of a tenant, whose paths begin with `prefix`. Raises `Declined`."""
        self._check_tenant(tenant)
        place = f"{self.base}{prefix}/{tenant}"
        return {
            "issuer": self._issuer,
            "authorization_endpoint": f"{place}/oauth2/v2.0/authorize",
            "token_endpoint": f"{place}/oauth2/v2.0/token",
            "device_authorization_endpoint": f"{place}/oauth2/v2.0/devicecode",
            "jwks_uri": f"{place}/discovery/v2.0/keys",
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }

    def key_set(self) -> Mapping[str, Any]:
        """The public keys (RFC 7517)."""
        return {"keys": [self._jwk]}

    # -- tokens --------------------------------------------------------------------------------------

    def by_secret(self, tenant: str, form: Mapping[str, str]) -> Mapping[str, Any]:
        """The response of the token endpoint to a form. Raises `Declined`."""
        self._check_tenant(tenant)
        if form.get("grant_type") != "client_credentials":
            raise Declined(
                400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type."
            )
        audience = _audience(form)
        client = form.get("client_id", "")
        if not client:
            raise Declined(400, "invalid_request", 900144, "The request body must contain 'client_id'.")
        if client.lower() != self.who.client_id:
            raise Declined(
                400,
                "unauthorized_client",
                700016,
                f"Application with identifier '{client[:64]}' was not found in the directory "
                f"'{self.who.tenant}'.",
            )
        given = form.get("client_secret", "").encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(given, self.who.client_secret.encode()):
            raise Declined(
                401,
                "invalid_client",
                7000215,
                "Invalid client secret provided. Ensure the secret being sent in the request is the client "
                f"secret value, not the client secret ID, for a secret added to app '{client}'.",
            )
        token = self.token(audience, self.who.object_id, appid=client, azp=client)
        return {"token_type": "Bearer", "expires_in": LIFE_S, "ext_expires_in": LIFE_S, "access_token": token}

    def by_machine(self, header: str, query: Mapping[str, str]) -> Mapping[str, Any]:
        """The response to a managed identity, in App Service's form. Raises `Declined`."""
        given = header.encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(given, self.who.identity_header.encode()):
            raise Declined(401, "invalid_request", 500011, "X-IDENTITY-HEADER is missing or wrong.")
        audience = query.get("resource", "")
        if not audience:
            raise Declined(400, "invalid_request", 900144, "The request must contain 'resource'.")
        token = self.token(audience, self.who.managed_object_id)
        return {
            "access_token": token,
            "expires_on": str(int(time.time()) + LIFE_S),
            "resource": audience,
            "token_type": "Bearer",
        }

    def token(self, audience: str, object_id: str, **more: str) -> str:
        """An application's token for `audience`."""
        now = int(time.time())
        said = {
            "aud": audience,
            "iss": self._issuer,
            "iat": now,
            "nbf": now,
            "exp": now + LIFE_S,
            "oid": object_id,
            "sub": object_id,
            "tid": self.who.tenant,
            "idtyp": "app",
            "ver": "2.0",
            "jti": str(uuid.uuid4()),
            **more,
        }
        return jwt.encode(said, self._key, "RS256", headers={"kid": self._kid})

    def _check_tenant(self, tenant: str) -> None:
        if tenant.lower() not in (self.who.tenant, *_ANY_TENANT):
            raise Declined(400, "invalid_request", 90002, f"Tenant '{tenant[:64]}' not found.")


def _audience(form: Mapping[str, str]) -> str:
    """The resource of a form; in version 2 the scope without its ``/.default``.

    Entra ID accepts OpenID Connect's own scopes besides, which MSAL for Go always sends.
    """
    if resource := form.get("resource"):
        return resource
    scopes = [each for each in form.get("scope", "").split() if each not in _OPENID_SCOPES]
    audience = scopes[0].removesuffix("/.default") if len(scopes) == 1 else ""
    if not audience or audience == scopes[0]:
        raise Declined(
            400,
            "invalid_scope",
            1002012,
            "The provided value for scope is not valid: it is not one RESOURCE/.default.",
        )
    return audience


def _kept(path: Path) -> Identities | None:
    try:
        return msgspec.json.decode(read_if_there(path), type=Identities)
    except msgspec.DecodeError:
        return None


def _new(path: Path) -> Identities:
    private_folder(path.parent)
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = Identities(
        tenant=str(uuid.uuid4()),
        client_id=str(uuid.uuid4()),
        client_secret=base64.b32encode(
            secrets.token_bytes(25)
        ).decode(),  # these letters need no quoting in a shell
        object_id=str(uuid.uuid4()),
        identity_header=str(uuid.uuid4()),
        managed_object_id=str(uuid.uuid4()),
        key=pem.decode(),
    )
    write_private(path, msgspec.json.encode(made))
    return made

"""Logins for Artifact Registry and Container Registry by google-auth (extra ``crossdock[google]``). Blocks.

The library finds the Application Default Credentials: the file of ``GOOGLE_APPLICATION_CREDENTIALS`` (a
service account's key, or workload identity federation, as of GitHub), that of ``gcloud auth
application-default login``, or the metadata service of GCE, GKE and Cloud Run. The registries take its access
token as the password of ``oauth2accesstoken``.
"""

from __future__ import annotations

import logging
import re
import warnings
from datetime import UTC
from typing import Any

from crossdock.errors import Advice, CredentialsError
from crossdock.options import Credentials
from crossdock.registry.auth.clouds import Answer

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
USER = "oauth2accesstoken"
TIMEOUT_S = 15.0  # of one request
METADATA_S = 1.0  # to find out whether there is a metadata service
MAX_REASON = 200  # characters of the library's own words

_OAUTH_CODE = re.compile(r"\b(?:invalid|unauthorized|unsupported)_[a-z_]+\b|\baccess_denied\b")


class Google:
    """The identity of this machine at Google."""

    def __init__(self) -> None:
        self._identity: Any = None

    def ask(self) -> Answer:
        """An access token, for an hour. # network

        Raises `CredentialsError` without the package or an identity, or if Google refuses it.
        """
        try:
            import requests
            from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
        except ImportError:
            raise CredentialsError(
                "the package google-auth is not installed, so no login of Google was looked for",
                advice=Advice("install", "pip install 'crossdock[google]'"),
            ) from None
        try:
            with requests.Session() as session:
                if self._identity is None:
                    self._identity = _find(session)
                identity = self._identity
                identity.refresh(_request(session, TIMEOUT_S))
        except DefaultCredentialsError as error:  # it names files and their fields
            words = str(error.args[0] if error.args else "").partition(". ")[0].rstrip(".")[:MAX_REASON]
            raise CredentialsError(f"google-auth found no credentials of Google: {words}") from None
        except GoogleAuthError as error:
            # The library's words may quote the output of a program, but a code of OAuth says enough.
            code = _OAUTH_CODE.search(str(error))
            words = f"{type(error).__name__}{f', {code[0]}' if code else ''}"
            raise CredentialsError(f"the login of Google cannot be used: {words}") from None
        except Exception as error:  # of a file that is not as the library expects it
            raise CredentialsError(f"the login of Google cannot be used: {type(error).__name__}") from None
        if not identity.token:
            raise CredentialsError("Google answered without an access token")
        ends = identity.expiry.replace(tzinfo=UTC).timestamp() if identity.expiry is not None else None
        return Answer(Credentials(USER, identity.token), ends)


def _find(session: Any) -> Any:
    """The Application Default Credentials."""
    import google.auth
    from google.auth.credentials import with_scopes_if_required

    # It logs every place without credentials, and that a user has no project, which is not needed here.
    logging.getLogger("google.auth").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="Your application has authenticated using end user credentials")

    identity, _ = google.auth.default(request=_request(session, METADATA_S, once=True))
    # Without scopes until now: with them the library asks for the name of the project too.
    return with_scopes_if_required(identity, [SCOPE])


def _request(session: Any, most: float, *, once: bool = False) -> Any:
    """The library's transport, whose requests take at most `most` seconds.

    `once`: the first that fails ends the search, where the library would try for some 10 s.
    """
    from google.auth.exceptions import DefaultCredentialsError, TransportError
    from google.auth.transport.requests import Request

    class Bounded(Request):  # type: ignore[misc]
        def __call__(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
            try:
                return super().__call__(*args, timeout=min(timeout or most, most), **kwargs)
            except TransportError:
                if once:
                    raise DefaultCredentialsError("there is no metadata service") from None
                raise

    return Bounded(session)

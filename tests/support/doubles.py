"""Strict doubles of registries that cannot run here: a row of data for each, over one registry in memory.

A double takes what the real registry takes and refuses what that refuses, with its status and words, as far
as they are published (`registry/kinds.json` has the sources). All are strict where the specification is:
chunks come in order, a manifest needs its content in the same repository, and every request but ``/v2/``
needs the rights of its login. `refusals` has every response that a copy should not have needed.

    double = start_double("ecr", closing, repositories=("team/app",))
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import parse_qs, urlencode

from support.scripted import INDEX, Reply, Request, ScriptedRegistry, digest_of

MB, MiB = 1_000_000, 1 << 20
USER, PASSWORD = "robot", "pass word"
LIFE_S = 60.0  # of signed URLs

_CONTENT = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|referrers)/(?P<reference>[^/]+)")
_TAGS = re.compile(r"/v2/(?P<name>.+)/tags/list")
_UPLOAD = re.compile(r"/v2/(?P<name>.+)/blobs/uploads/(?P<session>[^/]*)")
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_CHUNK = re.compile(r"(\d+)-(\d+)")


@dataclass(frozen=True)
class Refusal:
    """How something is refused."""

    status: int
    code: str = ""
    message: str = ""

    def reply(self, **headers: str) -> Reply:
        """The response; without a code, one without a body."""
        if not self.code:
            return Reply(self.status, self.message.encode(), dict(headers))
        errors = [{"code": self.code, "message": self.message}]
        return Reply(self.status, json.dumps({"errors": errors}).encode(), _json(headers))


@dataclass(frozen=True)
class Rules:
    """One kind. Sizes are bytes, as the real registry has them."""

    login: Literal["basic", "bearer"] = "bearer"
    service: str = ""  # of the challenge; empty: the host
    realm: str = "/token"
    headers: dict[str, str] = field(default_factory=dict)  # of every response, besides `_VERSION`
    put_most: int | None = None  # bytes of a closing PUT that carries the whole blob
    put_refusal: Refusal = Refusal(413)
    request_most: int | None = None  # bytes of any request of an upload
    chunk_most: int | None = None  # bytes of a PATCH; 0: none is taken
    chunk_refusal: Refusal = Refusal(416)
    chunk_least: int = 0  # of all but the last
    least_refusal: Refusal = Refusal(400)
    chunk_status: int = 202
    range_end: Literal["last", "next"] = "last"  # of queries of sessions, and of a refused chunk
    stuck_range: bool = False  # `Range` stays at the first chunk
    empty_put: Refusal | None = None  # to a closing PUT without a body, after chunks
    manifest_status: int = 201
    mounts: Literal["never", "at_once", "after_manifest"] = "at_once"
    referrers: bool = True
    tag_delete: Refusal | None = None  # None: a DELETE of a tag removes the tag alone
    manifest_delete: Refusal | None = None
    blob_delete: Refusal | None = None
    head_blobs: bool = True  # False: 401, whatever the login
    multi_tag: bool = False
    redirect: Literal["", "storage", "relative"] = ""  # of GETs of blobs
    storage_refusal: Refusal = Refusal(400)  # to a request with `Authorization`
    expired: Refusal = Refusal(403)  # of the storage, to a URL that was signed too long ago
    bad_token: Refusal | None = None  # to an `Authorization` that is not valid; None: a challenge
    head_manifests: bool = True
    range_unit: str = "bytes "
    whole_post: bool = False  # takes a blob in one POST
    creates: bool = True  # repositories, by a push
    missing: Refusal = Refusal(404, "NAME_UNKNOWN", "repository name not known to registry")
    token_post: Refusal | None = None  # to a POST at the token service; None: it is taken
    refuses_delete_scope: bool = False  # no rights at all if those to delete are asked for


def _xml(code: str, message: str = "", detail: str = "") -> str:
    """The body of a refusal by a storage service."""
    return f"<Error><Code>{code}</Code><Message>{message}</Message>{detail}</Error>"


_S3 = Refusal(400, "", _xml("InvalidArgument", "Only one auth mechanism allowed"))
_S3_EXPIRED = Refusal(403, "", _xml("AccessDenied", "Request has expired"))
_AZURE_SAYS = (
    "Server failed to authenticate the request. "
    "Make sure the value of Authorization header is formed correctly including the signature."
)
_AZURE = Refusal(403, "", _xml("AuthenticationFailed", _AZURE_SAYS))
_AZURE_EXPIRED = Refusal(
    403,
    "",
    _xml(
        "AuthenticationFailed",
        _AZURE_SAYS,
        "<AuthenticationErrorDetail>"
        "Signature not valid in the specified time frame</AuthenticationErrorDetail>",
    ),
)
_GCS = Refusal(400, "", _xml("InvalidArgument"))
_GCS_EXPIRED = Refusal(400, "", _xml("ExpiredToken", "The provided token has expired."))
_VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}
_UNSUPPORTED = Refusal(405, "UNSUPPORTED", "The operation is unsupported.")

_ECR = Rules(
    login="basic",
    service="ecr.amazonaws.com",
    chunk_most=20 * MiB,
    chunk_least=5 * MiB,
    least_refusal=Refusal(
        400, "LAYER_PART_TOO_SMALL", "All layer parts except the last part should be at least 5MB"
    ),
    chunk_status=201,
    stuck_range=True,
    empty_put=Refusal(500),
    mounts="after_manifest",
    redirect="storage",
    storage_refusal=_S3,
    expired=_S3_EXPIRED,
    creates=False,
    missing=Refusal(
        404,
        "NAME_UNKNOWN",
        "The repository with name '{name}' does not exist in the registry with id '123456789012'",
    ),
)

_GAR = Rules(
    service="europe-docker.pkg.dev",
    realm="/v2/token",
    chunk_most=0,
    chunk_refusal=Refusal(400, "UNSUPPORTED", "Artifact Registry does not support chunked uploads."),
    redirect="relative",
    token_post=Refusal(404),
)

RULES: dict[str, Rules] = {
    "ecr": _ECR,
    "ecr-public": replace(
        _ECR,
        login="bearer",
        service="public.ecr.aws",
        realm="/token/",
        head_blobs=False,
        bad_token=Refusal(400, "DENIED", "Your Authorization Token is invalid."),
        missing=Refusal(
            404,
            "NAME_UNKNOWN",
            "The repository with name '{name}' does not exist in the registry with id 'p8v8e7e5'",
        ),
    ),
    "gcr": replace(_GAR, service="gcr.io"),
    "gar": _GAR,
    "ghcr": Rules(
        service="ghcr.io",
        chunk_most=4 * MiB,
        chunk_refusal=Refusal(
            416,
            "REQUESTED_RANGE_NOT_SATISFIABLE",
            "the request body is too large and exceeds the maximum permissible limit of 4.00MiB",
        ),
        referrers=False,
        manifest_delete=_UNSUPPORTED,
        tag_delete=_UNSUPPORTED,
        redirect="storage",
        storage_refusal=_AZURE,
        expired=_AZURE_EXPIRED,
    ),
    "quay": Rules(
        service="quay.io",
        realm="/v2/auth",
        range_end="next",
        blob_delete=_UNSUPPORTED,
        redirect="storage",
        storage_refusal=_S3,
        expired=_S3_EXPIRED,
        refuses_delete_scope=True,
    ),
    "gitlab": Rules(
        service="container_registry",
        realm="/jwt/auth",
        headers={"Gitlab-Container-Registry-Version": "4.9.0-gitlab"},
        referrers=False,
        redirect="storage",
        storage_refusal=_GCS,
        expired=_GCS_EXPIRED,
    ),
    "artifactory": Rules(
        headers={"X-JFrog-Version": "Artifactory/7.98.7 79800700"},
        realm="/artifactory/api/docker/docker/v2/token",
        mounts="never",
        token_post=Refusal(401, "UNAUTHORIZED", "Bad credentials"),
    ),
    "nexus": Rules(
        login="basic",
        headers={"Server": "Nexus/3.75.1-01 (COMMUNITY)"},
        chunk_most=0,
        chunk_refusal=Refusal(400, "BLOB_UPLOAD_INVALID", "blob upload invalid"),
        referrers=False,
        head_manifests=False,
        range_unit="",
        mounts="never",
    ),
    "harbor": Rules(
        service="harbor-registry",
        realm="/service/token",
        creates=False,
        missing=Refusal(401, "UNAUTHORIZED", "project team not found: project team not found"),
    ),
    "docker-hub": Rules(
        service="registry.docker.io",
        put_most=16 * MiB,
        put_refusal=Refusal(400, "BLOB_UPLOAD_INVALID", "blob upload invalid"),
        referrers=False,
        manifest_delete=Refusal(403, "DENIED", "requested access to the resource is denied"),  # it has a tag
        tag_delete=_UNSUPPORTED,
        redirect="storage",
        storage_refusal=_S3,
        expired=_S3_EXPIRED,
    ),
    "acr": Rules(
        service="name.azurecr.io",
        realm="/oauth2/token",
        request_most=20 * MB,
        put_refusal=Refusal(413, "", "413 Request Entity Too Large - AzureContainerRegistry"),
        redirect="storage",
        storage_refusal=_AZURE,
        expired=_AZURE_EXPIRED,
        token_post=Refusal(400, "UNSUPPORTED", "grant type is not supported"),
    ),
}
"""The doubles by the name of their kind."""


@dataclass
class _Session:
    name: str
    data: bytearray = field(default_factory=bytearray)
    chunks: list[int] = field(default_factory=list)


@dataclass
class _Signed:
    digest: str
    ends: float
    uses: int | None


class DoubleRegistry(ScriptedRegistry):
    """A running double. `host` is the registry part of references; the login is `USER` and `PASSWORD`."""

    def __init__(self, kind: str, rules: Rules, closing: ExitStack, repositories: tuple[str, ...]) -> None:
        self.kind, self.rules = kind, rules
        self.repositories = set(repositories)
        self.uses: int | None = None  # GETs that a signed URL serves; None: any number, for `LIFE_S`
        self.cuts = 0  # GETs of the storage that are cut half-way, after which their URL has expired
        self.torn = 0  # PATCHes of which half is stored, before the server fails
        self.stored_bytes = 0  # that the storage has sent
        self.held: dict[str, set[str]] = {}  # repository → digests of its blobs
        self.referred: set[tuple[str, str]] = set()  # repository and digest of blobs that a manifest names
        self.refusals: list[tuple[str, str, int]] = []
        """Method, path and status; without challenges, and HEAD and GET of what is not there."""
        self._sessions: dict[str, _Session] = {}
        self._tokens: dict[str, list[str]] = {}
        self._signed: dict[str, _Signed] = {}  # by signature
        self.storage = ScriptedRegistry(closing, before=self._stored) if rules.redirect == "storage" else None
        super().__init__(closing)

    # -- content ---------------------------------------------------------------------------------------------

    def hold_image(self, name: str, tag: str, layers: tuple[bytes, ...], seed: str = "1") -> str:
        """Keep an image; the digest of its manifest."""
        self.repositories.add(name)
        digest = str(self.image(name, tag, seed, layers=layers)["digest"])
        for each in self._listed(self.document(name, tag)):
            self.held.setdefault(name, set()).add(each)
            self.referred.add((name, each))
        return digest

    @property
    def open_sessions(self) -> int:
        """Upload sessions that were neither closed nor cancelled."""
        return len(self._sessions)

    def end_tokens(self) -> None:
        """Refuse all tokens issued so far."""
        self._tokens.clear()

    # -- replies ---------------------------------------------------------------------------------------------

    def usual(self, request: Request) -> Reply:
        """The response, with the kind's headers."""
        reply = self._answer(request)
        reply.headers = {**_VERSION, **self.rules.headers, **reply.headers}
        absent = reply.status == 404 and request.method in ("GET", "HEAD")
        if reply.status >= 400 and reply.status != 401 and not absent:
            self.refusals.append((request.method, request.path, reply.status))
        return reply

    def _answer(self, request: Request) -> Reply:
        if request.path == self.rules.realm:
            return self._token(request)
        if request.path.startswith("/artifacts-downloads/"):
            return self._serve(request, request.path.rpartition("/")[2])
        challenge = self._challenge(request)
        if challenge is not None:
            return challenge
        if request.path in ("/v2", "/v2/"):
            return Reply.json({})
        if found := _UPLOAD.fullmatch(request.path):
            return self._uploading(request, found["name"], found["session"])
        if found := _TAGS.fullmatch(request.path):
            name = found["name"]
            tags = self.tags(name)
            return Reply.json({"name": name, "tags": tags}) if tags else self._no_name(name)
        if found := _CONTENT.fullmatch(request.path):
            name, reference = found["name"], found["reference"]
            match found["kind"]:
                case "blobs":
                    return self._blob_of(request, name, reference)
                case "referrers":
                    return self._referrers_of(name, reference)
            return self._manifest(request, name, reference)
        return Reply.error(404, "NOT_FOUND", "404 page not found")

    def _no_name(self, name: str) -> Reply:
        missing = self.rules.missing
        return replace(missing, message=missing.message.replace("{name}", name)).reply()

    # -- logins ----------------------------------------------------------------------------------------------

    def _challenge(self, request: Request) -> Reply | None:
        rules = self.rules
        scheme, _, text = request.authorization.partition(" ")
        service = rules.service or self.host
        if rules.login == "basic":
            if scheme.lower() == "basic" and _is_login(text):
                return None
            return _unauthorized(f'Basic realm="http://{self.host}/",service="{service}"')
        scope = self._scope_of(request)
        if not rules.head_blobs and request.method == "HEAD" and request.is_for("blobs"):
            scope.append("repository:nothing:nobody")
        rights = self._tokens.get(text) if scheme.lower() == "bearer" else None
        if rights is not None and all(
            each in rights or f"{each.rpartition(':')[0]}:*" in rights for each in scope
        ):
            return None
        if scheme and rights is None and rules.bad_token is not None:
            return rules.bad_token.reply()
        wanted = f',scope="{" ".join(scope)}"' if scope else ""
        return _unauthorized(f'Bearer realm="http://{self.host}{rules.realm}",service="{service}"{wanted}')

    def _scope_of(self, request: Request) -> list[str]:
        """``repository:NAME:ACTION`` of what the request needs."""
        found = _UPLOAD.fullmatch(request.path) or _CONTENT.fullmatch(request.path)
        found = found or _TAGS.fullmatch(request.path)
        if found is None:
            return []
        pulls = request.method in ("GET", "HEAD") and "/uploads/" not in request.path
        action = "pull" if pulls else "delete" if request.method == "DELETE" else "push"
        if action == "delete" and "/uploads/" in request.path:
            action = "push"
        scope = [f"repository:{found['name']}:{action}"]
        if "from" in request.query:
            scope.append(f"repository:{request.query['from']}:pull")
        return scope

    def _token(self, request: Request) -> Reply:
        if request.method == "POST" and self.rules.token_post is not None:
            return self.rules.token_post.reply()
        scheme, _, text = request.authorization.partition(" ")
        if scheme.lower() != "basic" or not _is_login(text):
            return Refusal(401, "UNAUTHORIZED", "incorrect username or password").reply()
        query = request.target.partition("?")[2]
        scopes = [part for part in _values(query, "scope") for part in part.split()]
        rights = [
            f"{resource}:{action}"
            for resource, _, actions in (each.rpartition(":") for each in scopes)
            for action in actions.split(",")
        ]
        if self.rules.refuses_delete_scope and any(each.endswith(":delete") for each in rights):
            rights = []
        token = secrets.token_urlsafe(12)
        self._tokens[token] = rights
        return Reply.json({"token": token, "expires_in": 300})

    # -- blobs -----------------------------------------------------------------------------------------------

    def _blob_of(self, request: Request, name: str, digest: str) -> Reply:
        if digest not in self.held.get(name, set()):
            return Reply.error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if request.method == "DELETE" and self.rules.blob_delete is not None:
            return self.rules.blob_delete.reply()
        if request.method == "DELETE":
            self.held[name].discard(digest)
            return Reply(202)
        size = len(self.blobs[digest])
        if request.method == "HEAD":
            return Reply(200, b"", {"Content-Length": str(size), "Docker-Content-Digest": digest})
        if self.rules.redirect == "relative":
            return Reply(302, b"", {"Location": f"/artifacts-downloads/namespaces/{digest}"})
        if self.storage is None:
            return self._serve(request, digest)
        signature = secrets.token_urlsafe(12)
        self._signed[signature] = _Signed(digest, time.monotonic() + LIFE_S, self.uses)
        query = urlencode({"se": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 300))})
        return Reply(307, b"", {"Location": f"http://{self.storage.host}/{signature}?{query}&sig=secret"})

    def _serve(self, request: Request, digest: str) -> Reply:
        data = self.blobs[digest]
        wanted = _RANGE.fullmatch(request.headers.get("range", ""))
        if wanted is None:
            return Reply(200, data, {"Accept-Ranges": "bytes"})
        first, last = int(wanted[1]), int(wanted[2])
        if first >= len(data):
            return Reply(416, b"", {"Content-Range": f"{self.rules.range_unit}*/{len(data)}"})
        part = data[first : last + 1]
        stated = f"{self.rules.range_unit}{first}-{first + len(part) - 1}/{len(data)}"
        return Reply(206, part, {"Content-Range": stated})

    def _stored(self, request: Request) -> Reply:
        """The storage's response. It serves only GETs of signed URLs, without a login."""
        signed = self._signed.get(request.path.strip("/"))
        refusal = None
        if request.authorization:
            refusal = self.rules.storage_refusal
        elif request.method != "GET" or signed is None:
            refusal = Refusal(403)
        elif signed.uses == 0 or time.monotonic() > signed.ends:
            refusal = self.rules.expired
        if signed is None or refusal is not None:
            refusal = refusal or Refusal(403)
            self.refusals.append((request.method, "storage", refusal.status))
            return refusal.reply()
        if signed.uses is not None:
            signed.uses -= 1
        reply = self._serve(request, signed.digest)
        if self.cuts and len(reply.body) > 1:
            self.cuts -= 1
            reply.cut, signed.uses = len(reply.body) // 2, 0
        self.stored_bytes += len(reply.body) if reply.cut is None else reply.cut
        return reply

    # -- uploads ---------------------------------------------------------------------------------------------

    def _uploading(self, request: Request, name: str, identifier: str) -> Reply:
        if not self.rules.creates and name not in self.repositories:
            return self._no_name(name)
        has_length = "content-length" in request.headers and "transfer-encoding" not in request.headers
        if request.method in ("POST", "PATCH", "PUT") and not has_length:
            return Refusal(400, "CONTENT_LENGTH_INVALID", "content length is required").reply()
        if request.method == "POST":
            return self._open(request, name)
        session = self._sessions.get(identifier)
        if session is None or session.name != name:
            return Refusal(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry").reply()
        match request.method:
            case "GET":
                return self._session(identifier, 204)
            case "DELETE":
                del self._sessions[identifier]
                return Reply(204)
            case "PATCH":
                return self._append(request, identifier, session)
        return self._close(request, identifier, session)

    def _open(self, request: Request, name: str) -> Reply:
        query = request.query
        if "mount" in query:
            source, digest = query.get("from", ""), query["mount"]
            there = digest in self.held.get(source, set())
            if self.rules.mounts == "after_manifest":
                there = there and (source, digest) in self.referred
            if there and self.rules.mounts != "never":
                return self._kept(name, digest)
        elif "digest" in query and request.body and self.rules.whole_post:
            if digest_of(request.body) != query["digest"]:
                return Refusal(
                    400, "DIGEST_INVALID", "provided digest did not match uploaded content"
                ).reply()
            self.blobs[query["digest"]] = request.body
            return self._kept(name, query["digest"])
        identifier = secrets.token_urlsafe(8)
        self._sessions[identifier] = _Session(name)
        return self._session(identifier, 202)

    def _session(self, identifier: str, status: int) -> Reply:
        session = self._sessions[identifier]
        held = session.chunks[0] if self.rules.stuck_range and session.chunks else len(session.data)
        location = f"/v2/{session.name}/blobs/uploads/{identifier}"
        stated = f"0-{max(0, held - 1)}"
        if self.rules.range_end == "next" and status == 204:
            stated = f"bytes=0-{held}"
        return Reply(status, b"", {"Location": location, "Range": stated})

    def _append(self, request: Request, identifier: str, session: _Session) -> Reply:
        refused = self._refused_chunk(request, session)
        if refused is not None:
            return refused
        if self.torn:
            self.torn -= 1
            session.data += request.body[: len(request.body) // 2]
            return Reply(500)
        session.chunks.append(len(request.body))
        session.data += request.body
        return self._session(identifier, self.rules.chunk_status)

    def _refused_chunk(self, request: Request, session: _Session) -> Reply | None:
        rules, size = self.rules, len(request.body)
        if rules.request_most is not None and size > rules.request_most:
            return rules.put_refusal.reply()
        if rules.chunk_most is not None and size > rules.chunk_most:
            return rules.chunk_refusal.reply()
        if session.chunks and session.chunks[-1] < rules.chunk_least and size:
            return rules.least_refusal.reply()
        stated = _CHUNK.fullmatch(request.headers.get("content-range", ""))
        if stated is not None and int(stated[1]) != len(session.data):
            last = len(session.data) - (rules.range_end == "last")
            return Reply(416, b"", {"Range": f"0-{max(0, last)}"})
        return None

    def _close(self, request: Request, identifier: str, session: _Session) -> Reply:
        rules, body = self.rules, request.body
        if session.chunks:
            if not body and rules.empty_put is not None:
                return rules.empty_put.reply()
            refused = self._refused_chunk(request, session) if body else None
            if refused is not None:
                return refused
        elif any(most is not None and len(body) > most for most in (rules.put_most, rules.request_most)):
            del self._sessions[identifier]
            return rules.put_refusal.reply()
        data = bytes(session.data) + body
        digest = request.query.get("digest", "")
        if digest_of(data) != digest:
            return Refusal(400, "DIGEST_INVALID", "provided digest did not match uploaded content").reply()
        del self._sessions[identifier]
        self.blobs[digest] = data
        return self._kept(session.name, digest)

    def _kept(self, name: str, digest: str) -> Reply:
        self.repositories.add(name)
        self.held.setdefault(name, set()).add(digest)
        headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}
        return Reply(201, b"", headers)

    # -- manifests -------------------------------------------------------------------------------------------

    def _manifest(self, request: Request, name: str, reference: str) -> Reply:
        if request.method == "PUT":
            return self._pushed(request, name, reference)
        if request.method == "HEAD" and not self.rules.head_manifests:
            return Reply(404)
        media_type, data = self.find(name, reference)
        if not data:
            return Refusal(404, "MANIFEST_UNKNOWN", "manifest unknown").reply()
        if request.method == "DELETE":
            return self._deleted(name, reference)
        return Reply(200, data, {"Content-Type": media_type, "Docker-Content-Digest": digest_of(data)})

    def _pushed(self, request: Request, name: str, reference: str) -> Reply:
        if not self.rules.creates and name not in self.repositories:
            return self._no_name(name)
        document = json.loads(request.body)
        missing = [each for each in self._listed(document) if each not in self.held.get(name, set())]
        missing += [
            each["digest"] for each in document.get("manifests", ()) if not self.find(name, each["digest"])[1]
        ]
        if missing:
            errors = [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown", "detail": missing}]
            return Reply(400, json.dumps({"errors": errors}).encode(), _json({}))
        digest = digest_of(request.body)
        tags = _values(request.target.partition("?")[2], "tag") if self.rules.multi_tag else []
        for each in (reference, digest, *tags):
            self.manifests[name, each] = request.headers.get("content-type", ""), request.body
        self.referred |= {(name, each) for each in self._listed(document)}
        headers = {"Docker-Content-Digest": digest, "Location": f"/v2/{name}/manifests/{digest}"}
        if tags:
            headers["OCI-Tag"] = ", ".join(tags)
        if document.get("subject") and self.rules.referrers:
            headers["OCI-Subject"] = document["subject"]["digest"]
        return Reply(self.rules.manifest_status, b"", headers)

    def _deleted(self, name: str, reference: str) -> Reply:
        refusal = self.rules.manifest_delete if ":" in reference else self.rules.tag_delete
        if refusal is not None:
            return refusal.reply()
        data = self.manifests[name, reference][1]
        for key in [key for key in self.manifests if key[0] == name]:
            if key[1] == reference or (":" in reference and self.manifests[key][1] == data):
                del self.manifests[key]
        return Reply(202)

    def _referrers_of(self, name: str, digest: str) -> Reply:
        if not self.rules.referrers:
            return Reply.error(404, "NOT_FOUND", "404 page not found")
        found = [
            {"mediaType": media_type, "digest": reference, "size": len(data)}
            for (other, reference), (media_type, data) in self.manifests.items()
            if other == name and ":" in reference
            if (json.loads(data).get("subject") or {}).get("digest") == digest
        ]
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": found}
        return Reply(200, json.dumps(document).encode(), {"Content-Type": INDEX})

    @staticmethod
    def _listed(document: dict[str, Any]) -> Iterator[str]:
        for each in (document.get("config"), *document.get("layers", ())):
            if each:
                yield each["digest"]


def start_double(kind: str, closing: ExitStack, *, repositories: tuple[str, ...] = ()) -> DoubleRegistry:
    """A double of the kind on loopback until `closing` ends. `repositories` exist from the start."""
    return DoubleRegistry(kind, RULES[kind], closing, repositories)


def _json(headers: dict[str, str]) -> dict[str, str]:
    return {"Content-Type": "application/json", **headers}


def _unauthorized(challenge: str) -> Reply:
    return Refusal(401, "UNAUTHORIZED", "authentication required").reply(**{"WWW-Authenticate": challenge})


def _is_login(text: str) -> bool:
    return text == base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def _values(query: str, name: str) -> list[str]:
    return parse_qs(query).get(name, [])

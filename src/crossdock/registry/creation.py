"""Repositories that are missing at a target are created, where its options ask for that (`CreateOptions`).

ECR says 404 NAME_UNKNOWN to the first write; CreateRepository of AWS's API follows, by the identity that
botocore finds, whatever login the registry itself gets. Harbor creates repositories, but not their project:
it answers 401 or 403 there, as to a login without rights, so its API is asked first whether the project is
there. Both happen once per repository or project.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Coroutine
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from crossdock.errors import Advice, CredentialsError, CrossdockError, Denied, NotFound, RegistryError
from crossdock.registry.auth.clouds import Cloud, cloud_of, ecr_host
from crossdock.registry.flight import SingleFlight

if TYPE_CHECKING:
    from crossdock.options import CreateOptions
    from crossdock.registry.auth.aws import Aws
    from crossdock.registry.client import RegistryClient, Reply
    from crossdock.registry.handle import Repository

HARBOR = "harbor"
_HARBOR_SERVICE = "harbor-registry"  # what its challenge names
_UNKNOWN = "NAME_UNKNOWN"
_EVERYTHING = {"kind": "doublestar", "pattern": "**"}


class Creation:
    """Creates what is missing at one registry."""

    def __init__(self, client: RegistryClient, options: CreateOptions, kind: str) -> None:
        """`kind` is what the inventory calls the registry."""
        self._client = client
        self._options = options
        cloud = cloud_of(client.host, kind, client.context.environ.get("AWS_REGION", ""))
        self._cloud = None if cloud is None or cloud.service == "google" else cloud
        self._aws: Aws | None = None
        self._there: set[str] = set()
        self._ends: dict[str, CrossdockError | bool] = {}  # by repository or project; whether it was created
        self._flights: SingleFlight[None] = SingleFlight()

    def knows(self, path: str) -> bool:
        """Whether the repository has taken something already."""
        return path in self._there

    def took(self, path: str) -> None:
        """The repository has taken something."""
        self._there.add(path)

    async def create(self, repository: Repository, refusal: CrossdockError) -> bool:
        """Create what `refusal` of a write says is missing; False: it says something else. # network

        Raises `Denied` or `RegistryError` if that fails.
        """
        if (cloud := self._cloud) is not None:
            if not isinstance(refusal, NotFound) or _UNKNOWN not in refusal.codes:
                return False
            return await self._once(repository.path, lambda: self._create_at_aws(cloud, repository.path))
        if self._client.kind.name != HARBOR and self._client.auth.service != _HARBOR_SERVICE:
            return False
        if getattr(refusal, "status", 0) not in (401, 403, 404):
            return False
        project = repository.path.partition("/")[0]
        was_created = await self._once(project, lambda: self._create_project(repository, project))
        if was_created:
            self._client.auth.forget(repository.path)  # those from before grant nothing
        return was_created

    async def _once(self, name: str, create: Callable[[], Coroutine[Any, Any, bool]]) -> bool:
        """Whether `create` has created it, now or before; raises its error, also that of before."""

        async def run() -> None:
            if name in self._ends:
                return
            try:
                self._ends[name] = await create()
            except CrossdockError as error:
                self._ends[name] = self._failed(name, error)

        await self._flights.run(name, run)
        end = self._ends[name]
        if isinstance(end, CrossdockError):
            raise end
        return end

    def _failed(self, name: str, error: CrossdockError) -> CrossdockError:
        what = f"{name} does not exist at {self._client.host} and could not be created: {error}"
        advice = error.advice or Advice("create-repository")
        if isinstance(error, RegistryError):
            return error.replace(what, advice=advice, retryable=False)
        kind = Denied if getattr(error, "code", "").startswith("AccessDenied") else RegistryError
        return kind(what, advice=advice)

    # -- ECR -----------------------------------------------------------------------------------------------

    async def _create_at_aws(self, cloud: Cloud, path: str) -> bool:
        from crossdock.registry.auth.cloudlogin import TIMEOUT_S, in_thread

        if self._aws is None:
            from crossdock.registry.auth.aws import Aws

            self._aws = Aws(cloud)
        aws = self._aws
        found = ecr_host(self._client.host)
        account = found["account"] if found is not None else ""
        if cloud.service == "ecr-public":
            path = path.partition("/")[2]  # behind the alias of the registry
            if self._options.immutable or self._options.scan:
                raise CredentialsError(
                    "ECR Public has no immutable tags and no scans",
                    advice=Advice("correct-file", "leave immutable and scan out of create"),
                )
        try:
            await in_thread(lambda: aws.create_repository(path, self._options, account), TIMEOUT_S)
        except TimeoutError:
            raise CredentialsError(f"AWS did not answer within {TIMEOUT_S:g} s") from None
        return True

    # -- Harbor --------------------------------------------------------------------------------------------

    async def _create_project(self, repository: Repository, project: str) -> bool:
        """Create the project. False if it exists, or if that cannot be found out: then the refusal stands."""
        try:
            query = urlencode({"project_name": project})
            if (await self._ask(repository, "HEAD", f"?{query}", ok=(200, 404))).status == 200:
                return False
        except RegistryError:
            return False
        metadata = {"public": "false", "auto_scan": "true" if self._options.scan else "false"}
        made = await self._ask(
            repository, "POST", "", {"project_name": project, "metadata": metadata}, ok=(201, 409)
        )
        if made.status == 409 or not self._options.immutable:  # 409: another client has just made it
            return True
        rule = {
            "disabled": False,
            "action": "immutable",
            "template": "immutable_template",
            "scope_selectors": {"repository": [{**_EVERYTHING, "decoration": "repoMatches"}]},
            "tag_selectors": [{**_EVERYTHING, "decoration": "matches"}],
        }
        try:
            path = f"/{quote(project, safe='')}/immutabletagrules"
            await self._ask(repository, "POST", path, rule, ok=(201,))
        except RegistryError as error:
            raise error.replace(
                f"the project was created, but not the rule that tags stay: {error}"
            ) from None
        return True

    async def _ask(
        self, repository: Repository, method: str, below: str, document: Any = None, *, ok: Collection[int]
    ) -> Reply:
        """The response of Harbor's API of projects, to the registry's login. # network"""
        from crossdock.registry.listings import harbor
        from crossdock.registry.listings.api import Asked

        asked = Asked(repository)
        await harbor.log_in(asked)
        body = None if document is None else json.dumps(document).encode()
        headers = (("Content-Type", "application/json"),) if body else ()
        return await asked.request(
            method, f"{harbor.ROOT}/projects{below}", headers=headers, body=body, ok=ok
        )

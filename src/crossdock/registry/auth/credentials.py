"""Finds the credentials for a registry: the first of these places that has some for the host.

1. The caller's (`RegistryOptions.credentials`, then its ``helper``; the command's flags, the inventory).
2. ``CROSSDOCK_SOURCE_USERNAME`` and ``_PASSWORD``, or ``CROSSDOCK_SOURCE_IDENTITY_TOKEN`` or
   ``_ACCESS_TOKEN`` (of Entra ID, for Azure registries); else the helper ``_CREDENTIAL_HELPER``; ``_TARGET_``
   for the other side (`variables` says which registries see them).
3. `RegistryOptions.authfile`, which is read before 2 and replaces all places below.
4. Named by the user: ``$REGISTRY_AUTH_FILE`` (podman, skopeo), then ``$DOCKER_AUTH_CONFIG``, which holds
   the text of a ``config.json`` (docker reads it before the file, GitLab's runners set it), then
   ``$DOCKER_CONFIG/config.json``.
5. Files in their usual places, in skopeo's order: ``$XDG_RUNTIME_DIR/containers/auth.json``
   (``/run/containers/UID/auth.json`` when unset), ``$XDG_CONFIG_HOME/containers/auth.json`` (``~/.config``
   when unset), ``~/.docker/config.json``, and ``~/.dockercfg``, whose document is the ``auths`` object
   itself. ``REGISTRY_AUTH_FILE`` replaces the first two, ``DOCKER_CONFIG`` the last two.
6. The identity of a cloud, at its own registries alone (`clouds`, `cloudlogin`).

Within one file, docker's order applies: the host's helper (``credHelpers``, else ``credsStore``) before
``auths`` (`files`). A public image needs no login, so an unusable place (a named file that is missing, a
folder in place of a file, a helper that is not installed or fails) is skipped and noted in
`CredentialStore.troubles`. An unreadable entry for this very host is an error.

No error shows a credential.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from crossdock.errors import (
    Advice,
    CredentialsError,
    Side,
)
from crossdock.oci.registryname import registry_key
from crossdock.options import AzLogin, Credentials, expand_home
from crossdock.protocol.acrtoken import AZURE_CLI, AZURE_HELPERS
from crossdock.registry.auth.files import (
    Config,
    Unreadable,
    find_helper,
    find_login,
    parse_config,
    read_config,
    server_key,
)
from crossdock.registry.auth.variables import ForRegistry, side_credentials
from crossdock.registry.flight import SingleFlight

if TYPE_CHECKING:
    from crossdock.registry.auth.cloudlogin import CloudLogin

__all__ = ["AZURE_HELPERS", "CredentialFile", "CredentialStore", "credential_files"]


class CredentialFile(Struct, frozen=True):
    """A file to search. ``named_by``: the user named it, so a missing file is reported."""

    path: Path
    named_by: str = ""
    text: str = ""  # the document, if the variable holds it instead of a path

    def __repr__(self) -> str:
        return f"<CredentialFile {self.name}>"

    @property
    def name(self) -> str:
        """Its name in messages."""
        return self.named_by if self.text else f"credential file {self.path}"

    def read(self) -> Config | None:
        """The document; None if the file is missing and was not named by the user.

        Raises `Unreadable` if a named file is missing or a file cannot be read, `CredentialsError` if it is
        malformed.
        """
        if self.text:
            try:
                return parse_config(self.text, self.name)
            except CredentialsError as error:
                raise Unreadable(str(error)) from None
        config = read_config(self.path)
        if config is None and self.named_by:
            raise Unreadable(f"{self.name}, named by {self.named_by}, does not exist")
        if config is not None and self.path.name == ".dockercfg":
            return {"auths": config}
        return config


def credential_files(environ: Mapping[str, str], authfile: Path | None = None) -> tuple[CredentialFile, ...]:
    """The files to search, in order; only `authfile` if given.

    A leading ``~/`` is the home folder. Without ``HOME`` the environment is not a user's (`user_environ`),
    and only the files that it names are read.
    """
    if authfile is not None:
        return (CredentialFile(authfile, "authfile"),)
    home = environ.get("HOME", "")
    files = []
    if named := environ.get("REGISTRY_AUTH_FILE"):
        files.append(CredentialFile(Path(expand_home(named, environ)), "REGISTRY_AUTH_FILE"))
    if text := environ.get("DOCKER_AUTH_CONFIG"):
        files.append(CredentialFile(Path(), "DOCKER_AUTH_CONFIG", text))
    if docker := environ.get("DOCKER_CONFIG"):
        files.append(CredentialFile(Path(expand_home(docker, environ), "config.json")))
    if not named:
        if runtime := environ.get("XDG_RUNTIME_DIR"):
            files.append(CredentialFile(Path(expand_home(runtime, environ), "containers", "auth.json")))
        elif home:
            files.append(CredentialFile(Path(f"/run/containers/{os.getuid()}/auth.json")))
        if config := environ.get("XDG_CONFIG_HOME") or (home and f"{home}/.config"):
            files.append(CredentialFile(Path(expand_home(config, environ), "containers", "auth.json")))
    if home and not docker:
        files.append(CredentialFile(Path(home, ".docker", "config.json")))
        files.append(CredentialFile(Path(home, ".dockercfg")))
    return tuple(files)


def user_environ(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The process's environment, with ``HOME`` from the password database if it is unset, as it is below
    ``env -i`` or a service manager."""
    if environ.get("HOME"):
        return environ
    import pwd

    try:
        return {**environ, "HOME": pwd.getpwuid(os.getuid()).pw_dir}
    except KeyError:  # a container may run as a user that is not in its password database
        return environ


def as_token(given: Credentials) -> Credentials:
    """A password without a user name is an access token, as for az."""
    if not given.password or given.username:
        return given
    return replace(given, password="", access_token=given.access_token or given.password)


class CredentialStore:
    """Finds the credentials of one side for one registry. Every result is cached."""

    def __init__(
        self,
        host: str,
        *,
        given: Credentials | None,
        environ: Mapping[str, str],
        side: Side,
        helper: str = "",
        authfile: Path | None = None,
        az_login: AzLogin = "",
        on_trouble: Callable[[str], None] = lambda message: None,
        own_only: bool = False,
        is_sole: Callable[[], bool] = lambda: True,
        cloud: CloudLogin | None = None,
    ) -> None:
        """`host` is given with its port, as in references. `helper` is run first; `az_login` says when az is.

        `on_trouble` is called once for each unusable place. `own_only` limits the search to `given` and
        `helper`. `is_sole` tells whether the side's variables can only mean this host. `cloud` is the login
        of the cloud whose registry it is. No I/O.
        """
        self._host = registry_key(host)
        self._given = given
        self._first_helper = helper
        self._environ = environ
        self._authfile = authfile
        self._az_login = az_login
        self._own_only = own_only
        self._is_sole = is_sole
        self._of_az: Credentials | None = None  # az's own login, used although the user did not choose it
        self._cloud = cloud
        self._of_cloud: Credentials | None = None  # likewise
        self._of_file: Credentials | None = None
        self._files_are_stale = False  # and az is logged in
        self._side = side
        self._found: dict[str, Credentials | None] = {}
        self._answers: dict[str, Credentials | None] = {}  # of helpers, by name
        self._files: tuple[CredentialFile, ...] | None = None  # the same for every repository
        self._configs: dict[int, Config | None] = {}  # their documents, by position in `_files`
        self._is_renewable = False  # a helper returned credentials
        self._is_bare: bool | None = None
        self._has_variables = any(name.startswith(f"CROSSDOCK_{side.upper()}_") for name in environ)
        self._past: list[Credentials] = []  # replaced, but still secret
        self._flights: SingleFlight[Credentials | None] = SingleFlight()
        self.troubles: dict[str, Advice | None] = {}
        """Unusable places, each with advice."""
        self.place = ""
        """The place where the last search of environment and files found credentials, for messages."""
        self._on_trouble = on_trouble

    @property
    def has_nothing(self) -> bool:
        """Whether it is already known that no repository of this registry has credentials."""
        return self._is_bare is True

    async def find(self, repository: str) -> Credentials | None:
        """Credentials for `repository` (empty: for the registry itself); None: continue anonymously.

        Raises `CredentialsError` if an entry, file or helper for this very host cannot be used.
        """
        if self._is_bare is None:
            self._is_bare = self._finds_nothing()
        if self._is_bare:
            return None
        while repository not in self._found:
            found = self._found  # `renew` may replace it
            found[repository] = await self._flights.run(repository, lambda: self._search(repository))
        known = self._found[repository]
        cloud = self._cloud_of(known)
        if cloud is None or (known is cloud.login and not cloud.is_due):
            return known
        return await self._follow(cloud)

    async def renew(self, repository: str, refused: Credentials | None) -> bool:
        """Run helpers again after `refused` was refused. Returns whether they gave other credentials.

        Credentials from cloud helpers expire after an hour to half a day, and a run of many copies may take
        longer. Tasks whose requests were refused together share one renewal, and later ones find its result.
        Raises as `find`.
        """
        if (cloud := self._cloud_of(refused)) is not None:
            return await self._follow(cloud, refused) is not refused
        is_stale = bool(self._az_login) and refused is not None and refused is self._of_file
        if await self.find(repository) == refused and (self._is_renewable or is_stale):
            self._files_are_stale = is_stale
            await self._flights.run(("renew",), lambda: self._renew(repository))
        return await self.find(repository) not in (None, refused)

    async def _follow(self, cloud: CloudLogin, refused: Credentials | None = None) -> Credentials | None:
        """The newest login of the cloud, in place of the one that was found before."""
        old = self._of_cloud
        new = await cloud.get(refused)
        if new is not old and old is not None:
            self._past.append(old)
            self._found = {path: new if found is old else found for path, found in self._found.items()}
            self._of_cloud = new
        return new

    def renewed_at(self, found: Credentials | None) -> float:
        """When `found` is to be looked for again (monotonic)."""
        cloud = self._cloud_of(found)
        return cloud.due if cloud is not None else math.inf

    async def _renew(self, repository: str) -> Credentials | None:
        answers, self._answers = self._answers, {}
        self._configs.clear()
        new = await self._search(repository)
        if new is None:  # the helper fails now, so the search found nothing new
            self._answers, self._files_are_stale = answers, False
        else:
            self._past += filter(None, self._found.values())
            self._found = {repository: new}
        return new

    def known(self, repository: str) -> Credentials | None:
        """The result of an earlier `find`."""
        return self._found.get(repository)

    def all_known(self) -> Iterator[Credentials]:
        """Every credential found so far."""
        return filter(None, (*self._past, *self._found.values()))

    async def _search(self, repository: str) -> Credentials | None:
        if self._given is not None:
            return as_token(self._given)
        if self._first_helper and (found := await self._ask_first(self._first_helper, "the inventory")):
            return found
        if self._own_only:
            return None
        found = await self._search_around(repository)
        found = found or (await self._search_az() if self._az_login else None)
        return found or (await self._search_cloud(self._cloud) if self._cloud is not None else None)

    def _finds_nothing(self) -> bool:
        """Whether no search can succeed: most runs have no logins but touch many repositories."""
        if self._given is not None or self._first_helper:
            return False
        if self._own_only:
            return True
        if self._has_variables or self._az_login or self._cloud is not None:
            return False
        return not any(self._read(place, file) for place, file in enumerate(self._all_files()))

    def _all_files(self) -> tuple[CredentialFile, ...]:
        if self._files is None:
            self._files = tuple(credential_files(self._environ, self._authfile))
        return self._files

    async def _search_around(self, repository: str) -> Credentials | None:
        """Search the environment and the files."""
        if self._authfile is not None:
            found = await self._search_files(repository)
            return found or self._search_held(self._held())
        held = self._held()
        if (found := self._search_held(held)) is not None:
            return found
        variable = f"CROSSDOCK_{self._side.upper()}_CREDENTIAL_HELPER"
        if held.helper and (found := await self._ask_first(held.helper, variable)):
            self.place = variable
            return found
        if self._az_login == "before files" and (found := await self._search_az()):
            return found
        if self._files_are_stale:
            return None
        self._of_file = await self._search_files(repository)
        return self._of_file

    def _search_held(self, held: ForRegistry) -> Credentials | None:
        """Use the credentials that the side's variables hold."""
        if (found := held.credentials) is not None:
            kind = (
                "USERNAME" if found.password else "IDENTITY_TOKEN" if found.identity_token else "ACCESS_TOKEN"
            )
            self.place = f"CROSSDOCK_{self._side.upper()}_{kind}"
        return held.credentials

    def _held(self) -> ForRegistry:
        """The contents of the side's variables for the host."""
        if not self._has_variables:  # called for every repository, and look-ups are slow
            return ForRegistry()
        held = side_credentials(
            self._environ, self._side, self._host, is_sole=self._is_sole(), azure_helpers=AZURE_HELPERS
        )
        if held.trouble:
            self._pass_over(CredentialsError(held.trouble, advice=held.remedy))
        return held

    async def _search_files(self, repository: str) -> Credentials | None:
        for place, file in enumerate(self._all_files()):
            if (found := await self._search_file(place, file, repository)) is not None:
                return found
        return None

    async def _search_az(self) -> Credentials | None:
        """The credentials of az's own login. The user did not choose it, so a failure is only noted."""
        try:
            self._of_az = await self._ask_first(AZURE_CLI, "az login")
        except CredentialsError as error:
            self._answers[AZURE_CLI] = None
            self.troubles[str(error)] = error.advice
            return None
        return self._of_az

    async def _search_cloud(self, cloud: CloudLogin) -> Credentials | None:
        """The login of the cloud's identity. The user did not choose it, so a failure is only noted."""
        try:
            self._of_cloud = await cloud.get()
        except CredentialsError as error:
            self.troubles[str(error)] = error.advice
            return None
        return self._of_cloud

    def is_of_az(self, found: Credentials | None) -> bool:
        """Whether `found` is az's own login, used although the user did not choose it."""
        return found is not None and found is self._of_az

    def cloud_of(self, found: Credentials | None) -> str:
        """The cloud whose login `found` is, used although the user did not choose it; empty if it is not."""
        cloud = self._cloud_of(found)
        return cloud.cloud.name if cloud is not None else ""

    def _cloud_of(self, found: Credentials | None) -> CloudLogin | None:
        return self._cloud if found is not None and found is self._of_cloud else None

    def withdraw(self, repository: str, refused: Credentials | None, why: str) -> bool:
        """Continue anonymously if `refused` is a login that the user did not choose. Returns whether it is.

        `why` follows the name of the login. az's is given up, that of a cloud for this repository only.
        """
        cloud = self.cloud_of(refused)
        if refused is None or not (cloud or self.is_of_az(refused)):
            return False
        if cloud:
            advice = Advice("give-rights", f"give the identity at {cloud} a role on this registry, or log in")
            self.troubles.setdefault(f"the login of {cloud} {why}", advice)
        else:
            advice = Advice("az-login", "log in with az login as a user who has a role on this registry")
            self.troubles.setdefault(f"az's login {why}", advice)
            self._az_login = ""
        self._past.append(refused)
        self._found[repository] = None
        return True

    async def _search_file(self, place: int, file: CredentialFile, repository: str) -> Credentials | None:
        config = self._read(place, file)
        if config is None:
            return None
        in_file = find_login(config, self._host, repository, file.name)
        helper = find_helper(config, self._host, file.name)
        self.place = file.name.removeprefix("credential file ")
        if not helper:
            return in_file
        try:
            if found := await self._ask(helper, self.place):
                self.place = f"docker-credential-{helper}"
            return found or in_file
        except CredentialsError as error:
            self._answers[helper] = None  # for all repositories, since a failing run may take a minute
            if (
                in_file is None
            ):  # else: a helper of another machine (credsStore: desktop) next to a usable entry
                self._pass_over(error)
            return in_file

    def _read(self, place: int, file: CredentialFile) -> Config | None:
        """The file's document; read once, and again after `renew`."""
        if place not in self._configs:
            try:
                self._configs[place] = file.read()
            except Unreadable as error:
                self._pass_over(error)
                self._configs[place] = None
        return self._configs[place]

    def _pass_over(self, error: CredentialsError) -> None:
        if str(error) not in self.troubles:
            self.troubles[str(error)] = error.advice
            self._on_trouble(f"{error}; continuing without it")

    async def _ask_first(self, helper: str, named_by: str) -> Credentials | None:
        """Run a helper that was named for this side or registry, not in one of docker's files."""
        if helper not in AZURE_HELPERS:
            return await self._ask(helper, named_by)
        from crossdock.registry.auth.azure import ask_azure

        async def ask() -> Credentials:
            return Credentials(access_token=await ask_azure(helper, self._environ))

        return await self._once(helper, ask)

    async def _ask(self, helper: str, named_by: str) -> Credentials | None:
        # imported here, since few runs use a helper and it loads asyncio's subprocess support
        from crossdock.registry.auth.helpers import ask_helper

        server = server_key(self._host)
        return await self._once(
            helper, lambda: ask_helper(helper, server, environ=self._environ, named_by=named_by)
        )

    async def _once(
        self, helper: str, ask: Callable[[], Coroutine[Any, Any, Credentials | None]]
    ) -> Credentials | None:
        """The helper's result, which is the same for all repositories."""
        if helper not in self._answers:
            answer = await self._flights.run(("helper", helper), ask)
            self._answers[helper] = answer
            self._is_renewable = self._is_renewable or answer is not None
        return self._answers[helper]

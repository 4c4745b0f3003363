"""Credentials from every place, Basic and tokens that expire in the middle; secrets never show."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Fault
from crossdock_testing.tokens import TokenServer
from support.command import AUTH, Crossdock
from support.docker_registry import DockerRegistry, htpasswd_file
from support.images import Graph, assert_holds, one_layer_image, push

pytestmark = pytest.mark.real

USER, PASSWORD = "ann", "pa:ss wörd-$%~s3cret"
LOGIN = f"{USER}:{PASSWORD}"
ENCODED = base64.b64encode(LOGIN.encode()).decode()

StartToken = Callable[..., TokenServer]


@pytest.fixture
def private(new_registry: Callable[..., DockerRegistry], tmp_path: Path) -> DockerRegistry:
    """A docker-registry that only `LOGIN` may use."""
    path = htpasswd_file(tmp_path / "htpasswd", USER, PASSWORD)
    return new_registry("private", auth={"htpasswd": {"realm": "here", "path": str(path)}}, basic=LOGIN)


@pytest.fixture
def start_tokens(closing: ExitStack) -> StartToken:
    """Starts a token server."""
    return lambda **options: closing.enter_context(TokenServer(**options))


@pytest.fixture
def token_registry(
    new_registry: Callable[..., DockerRegistry], tmp_path: Path
) -> Callable[[str, TokenServer], DockerRegistry]:
    """Starts a docker-registry that trusts a token server; its `remote` may do everything."""

    def start(name: str, server: TokenServer) -> DockerRegistry:
        folder = tmp_path / f"auth-{name}"
        folder.mkdir()

        def everything() -> str:
            return server.mint([f"repository:{repository}:*" for repository in repositories])

        return new_registry(name, auth=server.registry_auth(folder), bearer=everything)

    repositories: list[str] = ["it/tokens", "it/tokens/other"]
    return start


TOKEN_REPOSITORY = "it/tokens"


@pytest.fixture
def image(source: DockerRegistry, repository: str, builder: ImageBuilder) -> Graph:
    """An image with one layer in the open source registry, tagged ``v1``."""
    content, _ = one_layer_image(builder, 300_000)
    return push(source.remote, repository, builder, content, "v1")


@dataclass
class Secrets:
    """Runs the command and looks for the secret everywhere it must not be."""

    command: Crossdock
    folder: Path

    def run(self, *args: str, **how: object) -> str:
        """Run a command that must succeed, with the most verbose output, without secrets; returns the
        output."""
        report = self.folder / "report.json"
        done = self.command.ok(*args, "--progress", "plain", "--output", "json", "--report", report, **how)
        self.absent(" ".join(done.argv), done.stdout, done.stderr, report.read_text())
        return done.stdout

    def absent(self, *texts: str) -> None:
        """None of the texts holds the password, in any form."""
        for text in texts:
            for secret in (PASSWORD, "s3cret", ENCODED, "Bearer ey", "eyJ"):
                assert secret not in text, f"{secret!r} is in: {text}"


@pytest.fixture
def secrets(crossdock: Crossdock, tmp_path: Path) -> Secrets:
    """The command, watched for secrets."""
    return Secrets(crossdock, tmp_path)


# -- places ------------------------------------------------------------------------------------------


def config_of(host: str, login: str = LOGIN) -> str:
    """A docker config.json with one entry in ``auths``."""
    return json.dumps({"auths": {host: {"auth": base64.b64encode(login.encode()).decode()}}})


def copy_to(private: DockerRegistry, source: DockerRegistry, repository: str) -> tuple[str, str, str]:
    """The words of a copy into the private registry."""
    return "copy", f"{source.host}/{repository}:v1", f"{private.host}/{repository}:v1"


def test_dest_creds_stdin(
    secrets: Secrets, source: DockerRegistry, private: DockerRegistry, repository: str, image: Graph
) -> None:
    secrets.run(*copy_to(private, source, repository), "--dest-creds-stdin", stdin=LOGIN + "\n")
    assert_holds(private.remote, repository, "v1", image)


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_src_creds_stdin_with_any_line_ending(
    ending: str,
    secrets: Secrets,
    target: DockerRegistry,
    private: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    graph = push(private.remote, repository, builder, builder.helm_chart(), "v1")
    words = f"{private.host}/{repository}:v1", f"{target.host}/{repository}:v1"
    secrets.run("copy", *words, "--src-creds-stdin", stdin=LOGIN + ending)
    assert_holds(target.remote, repository, "v1", graph)


@pytest.mark.parametrize(
    "flags", [("--src-creds-stdin", "--dest-creds-stdin"), ("--dest-creds-stdin", "--src-creds-stdin")]
)
def test_with_both_flags_the_sources_line_comes_first(
    flags: tuple[str, str],
    secrets: Secrets,
    new_registry: Callable[..., DockerRegistry],
    private: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    path = htpasswd_file(tmp_path / "htpasswd-of-bob", "bob", "b0b")
    other = new_registry("other", auth={"htpasswd": {"realm": "there", "path": str(path)}}, basic="bob:b0b")
    graph = push(private.remote, repository, builder, builder.helm_chart(), "v1")
    words = f"{private.host}/{repository}:v1", f"{other.host}/{repository}:v1"
    secrets.run("copy", *words, *flags, stdin=f"{LOGIN}\nbob:b0b\n")
    assert_holds(other.remote, repository, "v1", graph)
    secrets.command.fail_copy(*words, *flags, stdin=f"bob:b0b\n{LOGIN}\n", code=AUTH, naming=["source"])


@pytest.mark.parametrize("stdin", ["", "\n", "no colon here\n"])
def test_a_creds_line_that_is_none_is_refused_before_anything_is_sent(
    stdin: str,
    crossdock: Crossdock,
    source: DockerRegistry,
    private: DockerRegistry,
    repository: str,
    image: Graph,
) -> None:
    mark = private.mark()
    done = crossdock(*copy_to(private, source, repository), "--dest-creds-stdin", stdin=stdin)
    assert done.code in (2, AUTH), str(done)
    assert "Traceback" not in done.stderr
    assert "no colon here" not in done.stderr
    assert private.accesses(mark) == []


def test_the_environment_names_credentials_per_side(
    secrets: Secrets, source: DockerRegistry, private: DockerRegistry, repository: str, image: Graph
) -> None:
    env = {"CROSSDOCK_TARGET_USERNAME": USER, "CROSSDOCK_TARGET_PASSWORD": PASSWORD}
    secrets.run(*copy_to(private, source, repository), env=env)
    assert_holds(private.remote, repository, "v1", image)


@pytest.mark.parametrize(
    ("place", "variable"),
    [
        ("home/.docker/config.json", None),
        ("home/.config/containers/auth.json", None),
        ("docker/config.json", "DOCKER_CONFIG"),
        ("somewhere/auth.json", "REGISTRY_AUTH_FILE"),
        ("run/containers/auth.json", "XDG_RUNTIME_DIR"),
        ("xdg/containers/auth.json", "XDG_CONFIG_HOME"),
    ],
)
def test_credential_files_are_found(
    place: str,
    variable: str | None,
    secrets: Secrets,
    source: DockerRegistry,
    private: DockerRegistry,
    repository: str,
    image: Graph,
    tmp_path: Path,
) -> None:
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(config_of(private.host))
    value = file if variable == "REGISTRY_AUTH_FILE" else tmp_path / place.split("/")[0]
    secrets.run(*copy_to(private, source, repository), env={variable: str(value)} if variable else {})
    assert_holds(private.remote, repository, "v1", image)


@pytest.mark.parametrize("how", ["credHelpers", "credsStore"])
def test_credential_helpers_are_used(
    how: str,
    secrets: Secrets,
    source: DockerRegistry,
    private: DockerRegistry,
    repository: str,
    image: Graph,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    helper = folder / "docker-credential-suite"
    answer = json.dumps({"ServerURL": private.host, "Username": USER, "Secret": PASSWORD})
    script = f"""#!/bin/sh
read -r host || true
echo "$1 $host" >> {tmp_path}/asked
if [ "$1" != get ] || [ "$host" != {private.host} ]; then
    echo "credentials not found in native keychain"
    exit 1
fi
cat {tmp_path}/answer
"""
    helper.write_text(script)
    (tmp_path / "answer").write_text(answer)
    helper.chmod(0o755)
    config = {"credsStore": "suite"} if how == "credsStore" else {"credHelpers": {private.host: "suite"}}
    (secrets.command.home / ".docker").mkdir()
    (secrets.command.home / ".docker" / "config.json").write_text(json.dumps(config))
    path = f"{folder}:{secrets.command.environment['PATH']}"
    secrets.run(*copy_to(private, source, repository), env={"PATH": path})
    assert_holds(private.remote, repository, "v1", image)
    assert f"get {private.host}" in (tmp_path / "asked").read_text().splitlines()


def test_a_helper_that_is_missing_is_reported_in_one_line(
    crossdock: Crossdock, source: DockerRegistry, private: DockerRegistry, repository: str, image: Graph
) -> None:
    (crossdock.home / ".docker").mkdir()
    config = {"credHelpers": {private.host: "not-installed"}}
    (crossdock.home / ".docker" / "config.json").write_text(json.dumps(config))
    _, *words = copy_to(private, source, repository)
    crossdock.fail_copy(*words, code=AUTH, naming=["target", "docker-credential-not-installed"])


def test_a_credential_file_that_is_not_json_is_reported_without_its_content(
    crossdock: Crossdock, source: DockerRegistry, private: DockerRegistry, repository: str, image: Graph
) -> None:
    (crossdock.home / ".docker").mkdir()
    (crossdock.home / ".docker" / "config.json").write_text('{"auths": {"x": {"auth": "s3cret-text"')
    _, *words = copy_to(private, source, repository)
    line = crossdock.fail_copy(*words, code=AUTH, naming=["config.json"])
    assert "s3cret-text" not in line


def test_flags_come_before_the_environment_and_that_before_files(
    secrets: Secrets, source: DockerRegistry, private: DockerRegistry, repository: str, image: Graph
) -> None:
    docker = secrets.command.home / ".docker"
    docker.mkdir()
    (docker / "config.json").write_text(config_of(private.host, "ann:wrong-in-file"))
    wrong = {"CROSSDOCK_TARGET_USERNAME": USER, "CROSSDOCK_TARGET_PASSWORD": "wrong-in-environment"}
    right = {**wrong, "CROSSDOCK_TARGET_PASSWORD": PASSWORD}
    words = copy_to(private, source, repository)
    secrets.run(*words, "--dest-creds-stdin", stdin=LOGIN + "\n", env=wrong)
    secrets.run(*words, env=right)
    line = secrets.command.fail(*words, "--progress", "none", env=wrong, code=AUTH, naming=["target"])
    secrets.absent(line.replace("wrong-in-environment", "s3cret"))


def test_a_file_for_another_port_is_not_used(
    crossdock: Crossdock, source: DockerRegistry, private: DockerRegistry, repository: str, image: Graph
) -> None:
    (crossdock.home / ".docker").mkdir()
    (crossdock.home / ".docker" / "config.json").write_text(config_of("127.0.0.1:1"))
    _, *words = copy_to(private, source, repository)
    crossdock.fail_copy(*words, code=AUTH, naming=["target"])
    assert private.remote.tags(repository) == []


def test_inspect_and_tags_take_credentials(
    secrets: Secrets, private: DockerRegistry, repository: str, builder: ImageBuilder
) -> None:
    graph = push(private.remote, repository, builder, builder.helm_chart(), "v1")
    (secrets.command.home / ".docker").mkdir()
    (secrets.command.home / ".docker" / "config.json").write_text(config_of(private.host))
    assert graph.root in secrets.command.ok("inspect", f"{private.host}/{repository}:v1").stdout
    assert secrets.command.ok("tags", f"{private.host}/{repository}").stdout == "v1\n"


def test_a_password_flag_is_never_repeated(crossdock: Crossdock) -> None:
    done = crossdock("copy", "a", "b", f"--dest-creds={LOGIN}", "--src-password", PASSWORD)
    assert done.code == 2
    assert "s3cret" not in done.stdout + done.stderr


# -- tokens ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("methods", [("GET", "POST"), ("GET",)])
def test_scoped_tokens_are_requested_from_a_token_server(
    methods: tuple[str, ...],
    secrets: Secrets,
    start_tokens: StartToken,
    token_registry: Callable[[str, TokenServer], DockerRegistry],
    builder: ImageBuilder,
) -> None:
    server = start_tokens(users={USER: PASSWORD}, methods=methods)
    one, two = token_registry("one", server), token_registry("two", server)
    content, _ = one_layer_image(builder, 300_000)
    graph = push(one.remote, TOKEN_REPOSITORY, builder, content, "v1")
    words = f"{one.host}/{TOKEN_REPOSITORY}:v1", f"{two.host}/{TOKEN_REPOSITORY}:v1"
    flags = "--src-creds-stdin", "--dest-creds-stdin"
    secrets.run("copy", *words, *flags, "--chunk-size", "64KiB", stdin=f"{LOGIN}\n{LOGIN}\n")
    assert_holds(two.remote, TOKEN_REPOSITORY, "v1", graph)
    granted = [request for request in server.requests if request.status == 200]
    assert {request.user for request in granted} == {USER}
    assert len(granted) <= 4, "a token is asked for once per scope, not once per request"
    asked = {scope for request in granted for scope in request.scopes}
    assert f"repository:{TOKEN_REPOSITORY}:pull" in asked
    assert not [scope for scope in asked if "delete" in scope or "*" in scope]
    if methods == ("GET",):
        assert [request.method for request in granted] == ["GET"] * len(granted)


def test_anonymous_tokens_are_enough_where_pulling_is_free(
    crossdock: Crossdock,
    start_tokens: StartToken,
    token_registry: Callable[[str, TokenServer], DockerRegistry],
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    server = start_tokens(users={USER: PASSWORD}, rights={"": {"*": ("pull",)}})
    public = token_registry("public", server)
    graph = push(public.remote, TOKEN_REPOSITORY, builder, builder.helm_chart(), "v1")
    crossdock.copy(f"{public.host}/{TOKEN_REPOSITORY}:v1", f"{target.host}/{repository}:v1")
    assert_holds(target.remote, repository, "v1", graph)
    assert "v1" in crossdock.ok("tags", f"{public.host}/{TOKEN_REPOSITORY}").stdout
    crossdock.fail_copy(
        f"{target.host}/{repository}:v1",
        f"{public.host}/{TOKEN_REPOSITORY}:v2",
        code=AUTH,
        naming=["target", f"{public.host}/{TOKEN_REPOSITORY}:v2"],
    )
    assert public.remote.tags(TOKEN_REPOSITORY) == ["v1"]


def test_a_token_server_that_refuses_is_exit_code_3(
    crossdock: Crossdock,
    start_tokens: StartToken,
    token_registry: Callable[[str, TokenServer], DockerRegistry],
    target: DockerRegistry,
    repository: str,
) -> None:
    closed = token_registry("closed", start_tokens(users={USER: PASSWORD}))
    wanted = f"{closed.host}/{TOKEN_REPOSITORY}:v1"
    line = crossdock.fail_copy(
        wanted,
        f"{target.host}/{repository}:v1",
        "--src-creds-stdin",
        stdin="ann:wrong-word\n",
        code=AUTH,
        naming=["source", wanted],
    )
    assert "wrong-word" not in line


IN_CHUNKS = ("--resume-above", "1MiB", "--upload-chunk", "512KiB")


@pytest.mark.parametrize("flags", [(), IN_CHUNKS], ids=["whole", "in chunks"])
@pytest.mark.parametrize("announced", [None, 300.0, 0.0], ids=["announced", "lied about", "not announced"])
def test_tokens_that_expire_in_mid_copy_are_renewed(
    announced: float | None,
    flags: tuple[str, ...],
    secrets: Secrets,
    start_tokens: StartToken,
    token_registry: Callable[[str, TokenServer], DockerRegistry],
    fault_proxy: Callable[[str], FaultProxy],
    builder: ImageBuilder,
) -> None:
    server = start_tokens(users={USER: PASSWORD}, lifetime_s=3.0, announced_s=announced)
    one, two = token_registry("one", server), token_registry("two", server)
    content, layer = one_layer_image(builder, 6_000_000)
    graph = push(one.remote, TOKEN_REPOSITORY, builder, content, "v1")
    slow = fault_proxy(one.host)
    slow.add(Fault(lambda request: request.is_blob_get(layer.digest), times=None, rate=1_200_000))
    secrets.run(
        *("copy", f"{slow.host}/{TOKEN_REPOSITORY}:v1", f"{two.host}/{TOKEN_REPOSITORY}:v1"),
        *("--src-creds-stdin", "--dest-creds-stdin", "--connections", "1", "--chunk-size", "512KiB", *flags),
        stdin=f"{LOGIN}\n{LOGIN}\n",
    )
    assert_holds(two.remote, TOKEN_REPOSITORY, "v1", graph)
    tokens = {request.token for request in server.requests if request.status == 200}
    assert len(tokens) > 3


def test_an_identity_token_is_used_as_a_refresh_token(
    secrets: Secrets,
    start_tokens: StartToken,
    token_registry: Callable[[str, TokenServer], DockerRegistry],
    source: DockerRegistry,
    repository: str,
    image: Graph,
) -> None:
    server = start_tokens(users={USER: PASSWORD}, identity_tokens={"s3cret-identity": USER})
    closed = token_registry("closed", server)
    entry = {"auth": base64.b64encode(b"00000000-0000-0000-0000-000000000000:").decode()}
    config = {"auths": {closed.host: {**entry, "identitytoken": "s3cret-identity"}}}
    (secrets.command.home / ".docker").mkdir()
    (secrets.command.home / ".docker" / "config.json").write_text(json.dumps(config))
    secrets.run("copy", f"{source.host}/{repository}:v1", f"{closed.host}/{TOKEN_REPOSITORY}:v1")
    assert_holds(closed.remote, TOKEN_REPOSITORY, "v1", image)
    assert {request.grant for request in server.requests if request.status == 200} == {"refresh_token"}


def test_a_mount_asks_for_pull_on_the_other_repository(
    secrets: Secrets,
    start_tokens: StartToken,
    token_registry: Callable[[str, TokenServer], DockerRegistry],
    builder: ImageBuilder,
) -> None:
    server = start_tokens(users={USER: PASSWORD})
    registry = token_registry("one", server)
    content, _ = one_layer_image(builder, 100_000)
    graph = push(registry.remote, TOKEN_REPOSITORY, builder, content, "v1")
    words = f"{registry.host}/{TOKEN_REPOSITORY}:v1", f"{registry.host}/{TOKEN_REPOSITORY}/other:v1"
    flags = "--src-creds-stdin", "--dest-creds-stdin"
    result = json.loads(secrets.run("copy", *words, *flags, stdin=f"{LOGIN}\n{LOGIN}\n"))
    assert result["bytes_mounted"] == graph.blob_bytes
    assert_holds(registry.remote, f"{TOKEN_REPOSITORY}/other", "v1", graph)


def test_copies_of_a_run_mount_what_they_share_with_tokens_for_both_repositories(
    secrets: Secrets,
    start_tokens: StartToken,
    token_registry: Callable[[str, TokenServer], DockerRegistry],
    source: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    server = start_tokens(users={USER: PASSWORD})
    closed = token_registry("closed", server)
    content, _ = one_layer_image(builder, 100_000)
    names = [f"{TOKEN_REPOSITORY}/{number}" for number in range(4)]
    path = tmp_path / "list"
    path.write_text("".join(f"{source.host}/{repository}:v1 {closed.host}/{name}:v1\n" for name in names))
    graph = push(source.remote, repository, builder, content, "v1")
    words = "copy", "--from-file", str(path), "--dest-creds-stdin"
    totals = json.loads(secrets.run(*words, stdin=f"{LOGIN}\n"))["totals"]
    assert (totals["copied"], totals["retries"]) == (len(names), 0)
    assert (totals["bytes_moved"], totals["bytes_mounted"]) == (graph.blob_bytes, 3 * graph.blob_bytes)


def test_a_401_in_the_middle_is_answered_with_a_new_token(
    secrets: Secrets,
    start_tokens: StartToken,
    token_registry: Callable[[str, TokenServer], DockerRegistry],
    fault_proxy: Callable[[str], FaultProxy],
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    server = start_tokens(users={USER: PASSWORD})
    closed = token_registry("closed", server)
    content, layer = one_layer_image(builder, 3_000_000)
    graph = push(closed.remote, TOKEN_REPOSITORY, builder, content, "v1")
    proxy = fault_proxy(closed.host)
    challenge = (
        f'Bearer realm="{server.realm}",service="{server.service}",'
        f'scope="repository:{TOKEN_REPOSITORY}:pull",error="invalid_token"'
    )
    later = Fault(
        lambda r: r.is_blob_get(layer.digest) and not r.range.startswith("bytes=0-"),
        answer=Answer(401, {"WWW-Authenticate": challenge}, b"{}"),
    )
    proxy.add(later)
    words = f"{proxy.host}/{TOKEN_REPOSITORY}:v1", f"{target.host}/{repository}:v1"
    secrets.run("copy", *words, "--src-creds-stdin", "--chunk-size", "512KiB", stdin=LOGIN + "\n")
    assert later.reached.is_set()
    assert_holds(target.remote, repository, "v1", graph)

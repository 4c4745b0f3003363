"""The command line as a table: the option of each flag, and the message for each mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crossdock.cli.command import run
from crossdock.cli.exits import UsageError
from crossdock.cli.flags import copy_options
from crossdock.cli.parser import parse
from crossdock.errors import InvalidOption
from crossdock.options import CopyOptions, Credentials, NetworkOptions, RegistryOptions
from support.command import error_of

MiB = 1 << 20


def options_of(*flags: str) -> CopyOptions:
    return copy_options(parse(["copy", "a", "b", *flags]), None, None)


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the command uses by default."""
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    return Path("/var/state/crossdock")


def test_without_flags_the_options_are_the_defaults(state: Path) -> None:
    assert options_of() == CopyOptions(state=state)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--platform", "linux/amd64"], {"platforms": ("linux/amd64",)}),
        (["--foreign-layers", "copy"], {"foreign_layers": "copy"}),
        (
            ["--platform", "linux/amd64", "--platform=linux/arm/v7"],
            {"platforms": ("linux/amd64", "linux/arm/v7")},
        ),
        (["--chunk-size", "4MiB"], {"chunk_size": 4 * MiB}),
        (["--memory", "64MiB"], {"memory": 64 * MiB}),
        (["--paranoid"], {"paranoid": True}),
        (["--verify", "target"], {"verify": "target"}),
        (["--connections", "3"], {"network": NetworkOptions(connections=3)}),
        (
            ["--timeout", "500ms"],
            {"network": NetworkOptions(timeout=0.5, commit_timeout=0.5, connect_timeout=0.5)},
        ),
        (["--timeout", "1h"], {"network": NetworkOptions(timeout=3600, commit_timeout=3600)}),
        (["--state", "x/y"], {"state": Path("x/y")}),
        (["--state", "none"], {"state": None}),
        (["--resume-above", "8MiB"], {"resume_above": 8 * MiB}),
        (["--upload-chunk", "4MiB"], {"upload_chunk": 4 * MiB}),
        (["--retries", "0"], {"network": NetworkOptions(retries=0, retries_closed=0)}),
        (["--src-plain-http"], {"source": RegistryOptions(plain_http=True)}),
        (["--dest-plain-http"], {"target": RegistryOptions(plain_http=True)}),
    ],
)
def test_each_flag_becomes_its_option(flags: list[str], expected: dict[str, Any], state: Path) -> None:
    assert options_of(*flags) == CopyOptions(**{"state": state, **expected})


def test_files_of_each_side_stay_on_their_side(tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    pem.touch()
    for prefix, side in (("src", "source"), ("dest", "target")):
        options = options_of(
            f"--{prefix}-ca", str(pem), f"--{prefix}-cert", str(pem), f"--{prefix}-key", str(pem)
        )
        assert getattr(options, side) == RegistryOptions(ca_file=pem, cert_file=pem, key_file=pem)


def test_flags_may_stand_anywhere() -> None:
    namespace = parse(["copy", "--retries", "1", "a", "--paranoid", "b", "--progress", "none"])
    assert (namespace.source, namespace.targets, namespace.progress) == ("a", ["b"], "none")


def test_targets_may_stand_before_and_behind_flags() -> None:
    namespace = parse(["copy", "a", "b", "--retries", "1", "c", "d", "--paranoid", "e"])
    assert (namespace.source, namespace.targets) == ("a", ["b", "c", "d", "e"])


@pytest.mark.parametrize("command", ["inspect", "tags"])
@pytest.mark.parametrize("prefix", ["", "src-"])
def test_reading_commands_take_connection_flags_with_and_without_prefix(
    command: str, prefix: str, tmp_path: Path
) -> None:
    pem = tmp_path / "pem"
    pem.touch()
    namespace = parse([command, "x", f"--{prefix}ca", str(pem), f"--{prefix}creds-stdin"])
    assert namespace.source_creds_stdin
    credentials = Credentials("u", "p")
    assert copy_options(namespace, credentials, None).source == RegistryOptions(
        credentials=credentials, ca_file=pem
    )


def test_the_registry_listens_on_loopback_unless_told() -> None:
    assert parse(["registry", "--root", "d"]).listen == "127.0.0.1:5000"
    assert parse(["registry", "--root", "d", "--listen", "[::1]:0"]).listen == "[::1]:0"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["COMMAND"]),
        (["fly"], ["no such command", "copy"]),
        (["copy"], ["SOURCE"]),
        (["copy", "a"], ["TARGET"]),
        (["inspect", "a", "b"], ["1 argument too many"]),
        (["copy", "a", "b", "--paranoid", "c", "--bogus"], ["unknown flag --bogus"]),
        (["copy", "a", "b", "--bogus"], ["unknown flag --bogus"]),
        (["copy", "a", "b", "--plat", "linux/amd64"], ["unknown flag --plat"]),
        (["copy", "a", "b", "--chunk-size", "big"], ["--chunk-size", "'big' is not a size"]),
        (["copy", "a", "b", "--chunk-size", "1KiB"], ["--chunk-size", "at least 64KiB"]),
        (["copy", "a", "b", "--memory", "1"], ["--memory", "at least 4MiB"]),
        (["copy", "a", "b", "--timeout", "soon"], ["--timeout", "'soon' is not a duration"]),
        (["copy", "a", "b", "--timeout", "0"], ["--timeout", "more than 0"]),
        (["copy", "a", "b", "--retries", "many"], ["--retries", "'many' is not a whole number"]),
        (["copy", "a", "b", "--retries", "-1"], ["--retries", "0 or more"]),
        (["copy", "a", "b", "--connections", "0"], ["--connections", "between 1 and 256"]),
        (["copy", "a", "b", "--platform", "linux"], ["--platform", "'linux' is not a platform"]),
        (["copy", "a", "b", "--progress", "loud"], ["--progress", "loud"]),
        (["copy", "a", "b", "--output", "xml"], ["--output", "xml"]),
        (["copy", "a", "b", "--src-ca", "/no/such/file"], ["--src-ca", "/no/such/file", "No such file"]),
        (["copy", "a", "b", "--dest-key", "/"], ["--dest-key", "directory"]),
        (["registry"], ["--root"]),
        (["registry", "--root", "d", "--listen", "5000"], ["--listen", "HOST:PORT"]),
        (["registry", "--root", "d", "--listen", "h:99999"], ["--listen", "not a port"]),
        (["demo", "--size", "1"], ["--size", "at least 1MiB"]),
    ],
)
def test_each_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("crossdock: ")
    assert error_of(err)
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["copy", "a", "b", "--src-creds", "me:sesame"],
        ["copy", "a", "b", "--src-creds=me:sesame"],
        ["copy", "a", "b", "--src-creds-stdin=me:sesame"],
        ["copy", "a", "b", "--src-creds-stdin", "me:sesame"],
        ["copy", "--src-creds-stdin", "me:sesame", "a", "b"],
        ["inspect", "a", "--password=sesame"],
        ["copy", "https://me:sesame@registry.example/app", "b"],
        ["copy", "docker://me:sesame@registry.example/app", "b"],
    ],
)
def test_a_password_given_as_an_argument_is_refused_and_not_repeated(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert "sesame" not in "".join(capsys.readouterr())


def test_options_that_contradict_each_other_name_their_side(tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    pem.touch()
    with pytest.raises(InvalidOption, match="source: a client key"):
        options_of("--src-key", str(pem))
    with pytest.raises(InvalidOption, match="target: plain HTTP and a CA"):
        options_of("--dest-plain-http", "--dest-ca", str(pem))


def test_parsing_raises_a_usage_error_that_names_the_subcommand() -> None:
    with pytest.raises(UsageError) as caught:
        parse(["copy", "a", "b", "--memory", "x"])
    assert caught.value.command == "crossdock copy"


def test_help_ends_well_and_lists_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["copy", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--src-creds-stdin" in out
    assert "exit-codes" in out


def test_a_list_stands_in_for_source_and_target() -> None:
    namespace = parse(["copy", "--retries", "1", "--from-file", "-", "--fail-fast"])
    assert (namespace.from_file, namespace.fail_fast, namespace.source) == ("-", True, None)
    assert parse(["copy", "--from-file=list", "--src-creds-stdin"]).source_creds_stdin


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a", "b", "--fail-fast"], "--fail-fast needs --from-file"),
        (["--from-file", "list", "a", "b"], "--from-file replaces SOURCE and TARGET"),
        (["a", "--from-file", "list"], "--from-file replaces SOURCE and TARGET"),
        (["a", "--from-file=list", "--paranoid", "b"], "--from-file replaces SOURCE and TARGET"),
        (["--from-file", "-", "--src-creds-stdin"], "both read stdin"),
        (["--from-file", "-", "--dest-creds-stdin"], "both read stdin"),
        (["--from-file"], "expected one argument"),
        (["--fail-fast"], "required: SOURCE, TARGET"),
    ],
    ids=str,
)
def test_flags_that_contradict_a_list_are_a_usage_error(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["copy", *words]) == 2
    assert told in capsys.readouterr().err


def test_flags_of_az_may_be_cut_short_and_choices_be_in_capitals_as_az_takes_them() -> None:
    got = parse(
        [
            "acr",
            "import",
            "-n",
            "a",
            "--sour",
            "b",
            "--im",
            "c",
            "--forc",
            "--no-w",
            "--res",
            "g",
            "--out",
            "TSV",
        ]
    )
    assert (got.source, got.images, got.resource_group, got.output) == ("b", ["c"], "g", "tsv")
    assert got.force
    assert got.no_wait
    got = parse(
        ["acr", "repository", "show-tags", "-n", "a", "--repo", "b", "--order", "Time_Desc", "--out", "Table"]
    )
    assert (got.orderby, got.output) == ("time_desc", "table")


def test_policy_flags_of_az_are_taken() -> None:
    extra = "--acquire-policy-token", "--change-reference", "x", "--verbose"
    assert parse(["acr", "import", "-n", "a", "--source", "b", *extra]).source == "b"
    assert parse(["acr", "repository", "list", "-n", "a", *extra]).registry == "a"


def test_a_flag_cut_too_short_does_not_tell_its_value() -> None:
    with pytest.raises(UsageError, match="could match --password, --password-stdin") as caught:
        parse(["acr", "import", "-n", "a", "--source", "b", "--pass=s3cret\n=x could match"])
    assert "s3cret" not in str(caught.value)


def test_flags_of_other_commands_are_never_cut_short() -> None:
    with pytest.raises(UsageError, match="unknown flag --out"):
        parse(["copy", "a", "b", "--out", "json"])


def test_requests_a_second_may_be_fewer_than_one() -> None:
    assert options_of("--limit-requests", "0.5").limit_requests == 0.5
    with pytest.raises(UsageError, match="'nan' is not a number"):
        options_of("--limit-requests", "nan")

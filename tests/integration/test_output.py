"""The command's output and where it goes, and its behavior in unusual environments."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from crossdock.imagebuilder import ImageBuilder, sample_index
from support.command import DONE, NOT_FOUND, USAGE, Crossdock, error_of, without_colors
from support.docker_registry import DockerRegistry
from support.images import Graph, assert_holds, push

pytestmark = pytest.mark.real

NUMBERS = (
    "manifests",
    "blobs_moved",
    "blobs_skipped",
    "blobs_mounted",
    "bytes_moved",
    "bytes_skipped",
    "bytes_mounted",
    "bytes_requested",
    "retries",
)


@pytest.fixture
def image(source: DockerRegistry, repository: str, builder: ImageBuilder) -> Graph:
    """A small multi-platform image in the source, tagged ``v1``."""
    return push(source.remote, repository, builder, sample_index(builder), "v1")


@pytest.fixture
def words(source: DockerRegistry, target: DockerRegistry, repository: str) -> tuple[str, str]:
    """The two references of a copy."""
    return f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v1"


def test_json_output_is_one_object_and_nothing_else(
    crossdock: Crossdock, image: Graph, words: tuple[str, str]
) -> None:
    done = crossdock.ok("copy", *words, "--output", "json", "--progress", "none")
    assert done.stderr == ""
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    assert words[0] in result["source"]
    assert words[1] in result["target"]
    assert (result["digest"], result["media_type"]) == (image.root, image.media_type)
    for name in NUMBERS:
        assert type(result[name]) is int, name
    assert isinstance(result["seconds"], float | int)


def test_json_output_stays_clean_beside_plain_progress(
    crossdock: Crossdock,
    source: DockerRegistry,
    words: tuple[str, str],
    repository: str,
    builder: ImageBuilder,
) -> None:
    layer = builder.random_layer(9_000_000)
    graph = push(source.remote, repository, builder, builder.image([layer]), "v1")
    done = crossdock.ok("copy", *words, "--output", "json", "--progress", "plain")
    assert done.result["digest"] == graph.root
    assert layer.digest.removeprefix("sha256:")[:8] in done.stderr
    assert "\x1b" not in done.stderr


def test_text_output_is_a_line_to_paste_into_a_ticket(
    crossdock: Crossdock, image: Graph, words: tuple[str, str]
) -> None:
    done = crossdock.ok("copy", *words)
    told = done.stdout + done.stderr
    assert image.root in told
    assert words[1] in told
    assert "\x1b" not in told


def test_json_progress_is_one_event_a_line(
    crossdock: Crossdock, image: Graph, words: tuple[str, str]
) -> None:
    done = crossdock.ok("copy", *words, "--progress", "json", "--output", "json")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert all(isinstance(event, dict) for event in events)
    assert len(events) >= 2 + len(image.blobs) + len(image.manifests)
    text = done.stderr
    for digest in (*image.blobs, *image.manifests):
        assert digest in text
    kinds = [tuple(sorted(event)) for event in events]
    assert len(set(kinds)) > 1
    assert done.result["digest"] == image.root


def test_json_progress_of_a_failure_is_still_json_or_one_error_line(
    crossdock: Crossdock, source: DockerRegistry, target: DockerRegistry, repository: str
) -> None:
    done = crossdock(
        "copy", f"{source.host}/{repository}:none", f"{target.host}/{repository}:v1", "--progress", "json"
    )
    assert done.code == NOT_FOUND
    other = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert error_of("\n".join(other))
    for line in done.stderr.splitlines():
        if line.startswith("{"):
            json.loads(line)
    assert f"{source.host}/{repository}:none" in done.stderr


def test_no_progress_means_a_silent_stderr(
    crossdock: Crossdock, image: Graph, words: tuple[str, str]
) -> None:
    assert crossdock.ok("copy", *words, "--progress", "none").stderr == ""


def test_a_terminal_shows_live_progress_and_a_closing_line(
    crossdock: Crossdock, image: Graph, words: tuple[str, str]
) -> None:
    code, text = crossdock.on_a_terminal("copy", *words)
    assert code == DONE, text
    assert "\x1b[" in text
    assert "Traceback" not in text
    assert image.root[:19] in without_colors(text)


def test_the_report_holds_the_result(
    crossdock: Crossdock, image: Graph, words: tuple[str, str], tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    result = crossdock.copy(*words, "--report", report)
    text = report.read_text()
    document = json.loads(text)
    assert image.root in text
    flat = document.get("result", document)
    for name in NUMBERS:
        assert flat[name] == result[name]


def test_the_report_of_a_failure_says_what_failed(
    crossdock: Crossdock, source: DockerRegistry, words: tuple[str, str], repository: str, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    wanted = f"{source.host}/{repository}:none"
    line = crossdock.fail_copy(
        wanted, words[1], "--report", report, code=NOT_FOUND, naming=["source", wanted]
    )
    document = json.loads(report.read_text())
    assert document["error"]["exit_code"] == NOT_FOUND
    assert document["error"]["side"] == "source"
    assert document["error"]["message"] in line


def test_a_report_that_cannot_be_written_is_reported_in_one_line(
    crossdock: Crossdock, image: Graph, words: tuple[str, str], tmp_path: Path
) -> None:
    done = crossdock(
        "copy", *words, "--progress", "none", "--report", tmp_path / "no" / "such" / "folder" / "r"
    )
    assert done.code != DONE
    assert "Traceback" not in done.stderr
    assert "report" in done.error


def test_help_documents_the_exit_codes_and_flags(crossdock: Crossdock) -> None:
    text = crossdock.ok("copy", "--help").stdout
    for flag in [
        "--platform",
        "--src-creds-stdin",
        "--dest-creds-stdin",
        "--src-ca",
        "--dest-ca",
        "--src-cert",
        "--src-key",
        "--dest-cert",
        "--dest-key",
        "--src-plain-http",
        "--dest-plain-http",
        "--connections",
        "--chunk-size",
        "--memory",
        "--timeout",
        "--retries",
        "--progress",
        "--output",
        "--report",
    ]:
        assert flag in text
    codes = crossdock.ok("help", "exit-codes").stdout
    for code in ("0", "2", "3", "4", "5", "6", "7", "8", "130"):
        assert re.search(rf"^\s*{code}\s", codes, re.MULTILINE), code


@pytest.mark.parametrize(
    "words", [["--help"], ["inspect", "--help"], ["tags", "--help"], ["registry", "--help"]]
)
def test_every_help_page_prints(crossdock: Crossdock, words: list[str]) -> None:
    assert "usage" in crossdock.ok(*words).stdout.lower()


def test_version_is_one_line(crossdock: Crossdock) -> None:
    assert re.fullmatch(r"crossdock \d+\.\d+\.\d+\b[^\n]*\n", crossdock.ok("--version").stdout)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["copy"],
        ["copy", "one"],
        ["copy", "a", "b", "--no-such-flag"],
        ["copy", "a", "b", "--chunk-size", "16 bananas"],
        ["copy", "a", "b", "--memory", "-1"],
        ["copy", "a", "b", "--timeout", "soon"],
        ["copy", "a", "b", "--retries", "-3"],
        ["copy", "a", "b", "--connections", "0"],
        ["copy", "a", "b", "--progress", "loud"],
        ["copy", "a", "b", "--output", "xml"],
        ["copy", "a", "b", "--platform", "not a platform"],
        ["copy", "a", "b", "--src-ca", "/nonexistent/ca.pem"],
        ["copy", "a", "b", "--src-key", "/dev/null"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2_without_a_traceback(crossdock: Crossdock, words: list[str]) -> None:
    done = crossdock(*words)
    assert done.code == USAGE, str(done)
    assert done.stdout == ""
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "env",
    [
        {"LC_ALL": "C", "LANG": None},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"HOME": None},
        {"HOME": "/nonexistent"},
        {"HOME": "/dev/null"},
        {"HOME": "/proc/1/fdinfo"},
        {"XDG_RUNTIME_DIR": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent"},
        {"TERM": "dumb", "NO_COLOR": "1"},
        {"CROSSDOCK_KERNELS": "pure"},
        {"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"},
    ],
    ids=lambda env: " ".join(f"{k}={v}" for k, v in env.items()),
)
def test_a_copy_works_in_odd_environments(
    env: dict[str, str | None],
    crossdock: Crossdock,
    image: Graph,
    words: tuple[str, str],
    target: DockerRegistry,
    repository: str,
) -> None:
    done = crossdock("copy", *words, env=env)
    assert done.code == DONE, str(done)
    assert "Traceback" not in done.stderr
    assert_holds(target.remote, repository, "v1", image)


def test_a_home_that_cannot_be_written_is_enough(
    image: Graph, words: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()  # root may write wherever there is a folder
    done = Crossdock(tmp_path / "file" / "home").ok("copy", *words, cwd=Path("/"))
    assert "warning" not in done.stderr, str(done)


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "<&-", "> /dev/full"])
def test_closed_or_full_streams_do_not_break_the_copy(
    redirection: str,
    crossdock: Crossdock,
    image: Graph,
    words: tuple[str, str],
    target: DockerRegistry,
    repository: str,
) -> None:
    done = crossdock(
        "copy", *words, "--output", "json", prefix=("sh", "-c", f'exec "$@" {redirection}', "sh")
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert_holds(target.remote, repository, "v1", image)
    if "/dev/full" not in redirection:
        assert done.code == DONE, str(done)


def test_a_reader_of_stdout_that_went_away_causes_no_traceback(
    crossdock: Crossdock, source: DockerRegistry, image: Graph, repository: str
) -> None:
    script = '"$@" | true; exit 0'
    done = crossdock("tags", f"{source.host}/{repository}", prefix=("sh", "-c", script, "sh"))
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_debug_shows_the_traceback_that_is_hidden_otherwise(
    crossdock: Crossdock, source: DockerRegistry, target: DockerRegistry, repository: str
) -> None:
    words = f"{source.host}/{repository}:none", f"{target.host}/{repository}:v1"
    crossdock.fail_copy(*words, code=NOT_FOUND)
    assert "Traceback" in crossdock("copy", *words, "--debug").stderr


def test_paranoid_runs_are_exact(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    graph = push(source.remote, repository, builder, builder.image([builder.random_layer(9_000_000)]), "v1")
    words = f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v1"
    crossdock.copy(*words, "--paranoid", "--chunk-size", "1MiB")
    assert_holds(target.remote, repository, "v1", graph)


@pytest.mark.parametrize(
    ("verify", "said"), [("stream", "unchanged"), ("target", "by the target alone"), ("reread", "read back")]
)
def test_the_result_says_who_verified(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    verify: str,
    said: str,
) -> None:
    layers = [builder.random_layer(9_000_000), builder.random_layer(5_000)]
    graph = push(source.remote, repository, builder, builder.image(layers), "v1")
    words = f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v1"
    done = crossdock.ok("copy", *words, "--verify", verify, "--output", "json")
    assert done.result["verified"] == verify
    assert_holds(target.remote, repository, "v1", graph)
    line = crossdock.ok("copy", *words, "--verify", verify).stdout
    assert said in line
    assert ("verified by" in line or "read back" in line) == (verify != "stream")


def test_a_layout_is_not_a_target_that_verifies(
    crossdock: Crossdock, image: Graph, words: tuple[str, str], tmp_path: Path
) -> None:
    done = crossdock.ok("copy", words[0], f"oci:{tmp_path}/out:v1", "--verify", "target", "--output", "json")
    assert done.result["verified"] == "stream"
    assert "hashed here" in done.result["warnings"][0]


def test_quiet_prints_one_line_and_nothing_else(
    crossdock: Crossdock, image: Graph, words: tuple[str, str], tmp_path: Path
) -> None:
    source, target = words
    done = crossdock.ok("copy", source, target, "-q")
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")
    pairs = tmp_path / "pairs"
    pairs.write_text(f"{source} {target}\n{source} {target}-2\n{source} {target}-3 {target}-4\n")
    done = crossdock.ok("copy", "--from-file", pairs, "--quiet", "--progress", "plain")
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


def test_verbose_prints_requests_and_responses(
    crossdock: Crossdock, image: Graph, words: tuple[str, str]
) -> None:
    done = crossdock.ok("copy", *words, "-v")
    url = f"http://{words[0].replace(':v1', '/manifests/v1').replace('/', '/v2/', 1)}"
    assert f"HEAD {url}" in done.stderr
    assert f"200 for HEAD {url}" in done.stderr
    assert len(done.stdout.splitlines()) == 1

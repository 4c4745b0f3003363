"""Help, completion, the manual: one parser, and what people see of it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crossdock.cli.command import run
from crossdock.cli.commands import COMMANDS
from crossdock.cli.examples import EXAMPLES
from crossdock.cli.exits import ExitCode, UsageError
from crossdock.cli.parser import full_parser, parse

ROOT = Path(__file__).parents[3]
PARSERS = {parser.prog: parser for parser in full_parser().tree()}
LEAVES = [prog for prog, parser in PARSERS.items() if not parser.children()]
FILES = (".yaml", ".json", ".txt")

COMMON = {
    "copy": ("--platform", "--from-file", "--existing", "--output", "--report", "-q", "-v"),
    "mirror": ("--repository", "--tags", "--dry-run", "--output", "--report", "-q", "-v"),
    "apply": ("--failed", "--output", "--report", "-q", "-v"),
    "verify": ("--level", "--output", "-q", "-v"),
    "acr import": ("--name", "--source", "--image", "--force", "-v"),
}


@pytest.fixture(autouse=True)
def _at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_every_command_has_examples() -> None:
    assert set(EXAMPLES) == set(PARSERS)


@pytest.mark.parametrize("prog", LEAVES)
def test_examples_are_of_their_command_and_parse(
    prog: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for line in EXAMPLES[prog]:
        command = line.rpartition("| ")[2].removeprefix("source <(").removesuffix(")").partition(" > ")[0]
        words = shlex.split(command)
        assert command.startswith(prog)
        for word in words:
            if word.endswith(FILES):
                (tmp_path / word).touch()
        assert parse(words[1:]).parser.prog == prog


@pytest.mark.parametrize("prog", PARSERS)
def test_help_is_80_columns_wide_and_begins_with_usage_and_arguments(prog: str) -> None:
    text = PARSERS[prog].format_help()
    assert text.startswith(f"usage: {prog} ")
    lines = text.splitlines()
    examples = {f"  {line}" for line in EXAMPLES[prog]}
    assert [line for line in lines if len(line) > 80 and line not in examples] == []
    shown = "\n".join(lines[:40])
    arguments = [each.metavar for each in PARSERS[prog]._actions if not each.option_strings]
    assert all(str(word).split()[0] in shown for word in arguments)
    assert "\nflags:\n" in shown


@pytest.mark.parametrize("command", COMMON)
def test_the_first_40_lines_of_help_hold_the_common_flags(command: str) -> None:
    shown = "\n".join(PARSERS[f"crossdock {command}"].format_help().splitlines()[:40])
    assert [flag for flag in COMMON[command] if not re.search(rf"(?<![\w-]){flag}(?![\w-])", shown)] == []


def printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(words) == ExitCode.DONE
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize(
    "words", [[], ["copy"], ["state", "list"], ["acr", "manifest", "show"]], ids=" ".join
)
def test_help_explains_a_command_as_its_flag_does(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed(["help", *words], capsys) == printed([*words, "--help"], capsys)


def test_help_lists_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(["help", "exit-codes"], capsys)
    assert re.findall(r"^ +(\d+)  \w", text, re.MULTILINE) == [str(code.value) for code in ExitCode]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["cpoy", "a", "b"], "no such command\n  did you mean copy?"),
        (["state", "lst"], "no such action\n  did you mean list?"),
        (["acr", "manifset", "show"], "no such group\n  did you mean manifest?"),
        (["help", "miror"], "no such topic\n  did you mean mirror?"),
        (["copy", "a", "b", "--platfrom", "x"], "unknown flag --platfrom\n  did you mean --platform?"),
        (["state", "prune", "--older"], "unknown flag --older\n  did you mean --older-than?"),
        (["copy", "a", "b", "--src-tls-verify=false"], "certificates are always verified"),
        (["copy", "a", "b", "--all"], "all platforms are copied"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistyped_word_is_told_what_was_meant(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == ExitCode.USAGE
    assert told in capsys.readouterr().err


def test_the_value_of_an_unknown_flag_is_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        parse(["login", "h", "--pasword=s3cr3t"])
    assert "s3cr3t" not in f"{caught.value} {caught.value.advice}"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_the_shell(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(["completion", shell], capsys)
    assert "from-file" in text
    assert "show-tags" in text
    if (program := shutil.which(shell)) is not None:
        script = tmp_path / "script"
        script.write_text(text)
        subprocess.run([program, "-n", script], check=True)


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_the_manual_has_a_page_for_each_command(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "man.py", tmp_path], check=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        "crossdock.1",
        *(f"crossdock-{name}.1" for name in COMMANDS),
    }
    for path in tmp_path.iterdir():
        words = ["groff", "-man", "-ww", "-W", "break", "-z", "-Tutf8", path]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert "\n.SH EXAMPLES\n" in path.read_text()


def test_bash_completes_commands_and_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "script"
    script.write_text(printed(["completion", "bash"], capsys))
    asked = """
        source ./script
        complete_words() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            $(complete -p crossdock | sed 's/.*-F \\([^ ]*\\).*/\\1/')
            echo "${COMPREPLY[@]}"
        }
        complete_words crossdock mir
        complete_words crossdock copy --from-f
        complete_words crossdock state pr
    """
    done = subprocess.run(["bash", "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["mirror", "--from-file", "prune"]

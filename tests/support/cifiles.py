"""What CI systems make of action.yml and of the templates in deploy/: steps with their inputs filled in."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Step:
    """Lines for bash, and variables that only they see."""

    script: str
    environment: Mapping[str, str] = field(default_factory=dict)


def github_steps(given: Mapping[str, str], contexts: Mapping[str, str]) -> list[Step]:
    """The steps of action.yml for the `with` of a workflow. `contexts` has the values of its expressions."""
    action = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    unknown = set(given) - set(action["inputs"])
    missing = {name for name, each in action["inputs"].items() if each.get("required")} - set(given)
    assert (unknown, missing) == (set(), set())
    known = {f"inputs.{name}": str(each.get("default", "")) for name, each in action["inputs"].items()}
    known |= {f"inputs.{name}": _filled(value, contexts) for name, value in given.items()}
    steps = []
    for step in action["runs"]["steps"]:
        assert "${{" not in step["run"], "an expression in a script may become a command"
        condition = re.fullmatch(r"(inputs\.[a-z-]+) != '(\w+)'", step.get("if", "inputs.args != 'none'"))
        assert condition is not None
        if known[condition[1]] != condition[2]:
            values = {name: _filled(value, known) for name, value in step["env"].items()}
            steps.append(Step(step["run"], values))
    return steps


def gitlab_job(given: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """The name and the job of the GitLab template for the `inputs` of an include."""
    header, text = (ROOT / "deploy/gitlab/crossdock.yml").read_text("utf-8").split("\n---\n")
    inputs = yaml.safe_load(header)["spec"]["inputs"]
    assert set(given) <= set(inputs)
    values = {name: given.get(name, each.get("default")) for name, each in inputs.items()}
    assert None not in values.values()

    def replaced(node: Any) -> Any:
        if isinstance(node, dict):
            return {replaced(key): replaced(value) for key, value in node.items()}
        if isinstance(node, list):
            return [replaced(each) for each in node]
        return re.sub(r"\$\[\[ inputs\.(\w+) \]\]", lambda match: values[match[1]], node)

    [(name, job)] = replaced(yaml.safe_load(text)).items()
    return name, job


def azure_steps(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps of the template of Azure Pipelines for these parameters."""
    template = yaml.safe_load((ROOT / "deploy/azure-pipelines/crossdock.yml").read_text("utf-8"))
    values = {each["name"]: given.get(each["name"], each.get("default")) for each in template["parameters"]}
    assert set(given) <= set(values)
    assert None not in values.values()
    chosen = (
        "${{ else }}" if values["serviceConnection"] else "${{ if eq(parameters.serviceConnection, '') }}"
    )

    def replaced(node: Any) -> Any:
        if isinstance(node, list):
            found = []
            for each in node:
                if isinstance(each, dict) and next(iter(each)).startswith("${{"):
                    found += replaced(each.get(chosen, []))
                else:
                    found.append(replaced(each))
            return found
        if isinstance(node, dict):
            made = {key: replaced(value) for key, value in node.items()}
            return made | made.pop("${{ insert }}", {})
        whole = re.fullmatch(r"\$\{\{ parameters\.(\w+) \}\}", node)
        return (
            values[whole[1]] if whole else _filled(node, {f"parameters.{key}": values[key] for key in values})
        )

    steps: list[dict[str, Any]] = replaced(template["steps"])
    return steps


def azure_scripts(steps: list[dict[str, Any]]) -> list[Step]:
    """What the agent runs for these steps."""
    return [Step(each.get("bash") or each["inputs"]["inlineScript"], each.get("env", {})) for each in steps]


def _filled(text: str, values: Mapping[str, Any]) -> str:
    return re.sub(r"\$\{\{ ([\w.-]+) \}\}", lambda match: str(values[match[1]]), text)


def run_steps(steps: list[Step], environment: Mapping[str, str], folder: Path) -> list[str]:
    """Run the steps as a runner does; returns what pip was told to install.

    pip installs nothing: the crossdock of this environment is in the folder that it would fill.
    """
    programs = folder / "stand-ins"
    programs.mkdir()
    asked = folder / "pip.txt"
    (programs / "python3").write_text(
        f'#!/bin/sh\nmkdir -p "$3/bin"\nln -s "$(command -v crossdock)" "$3/bin/crossdock"\n'
        f'printf \'#!/bin/sh\\nfor last; do :; done; echo "$last" >> {asked}\\n\' > "$3/bin/pip"\n'
        'chmod +x "$3/bin/pip"\n'
    )
    (programs / "python3").chmod(0o755)
    paths = folder / "paths.txt"
    paths.touch()
    known = {
        **environment,
        "PATH": f"{programs}:{environment.get('PATH', os.environ['PATH'])}",
        "RUNNER_TEMP": str(folder / "temp"),
        "AGENT_TEMPDIRECTORY": str(folder / "temp"),
        "GITHUB_PATH": str(paths),
        "GITHUB_ACTION_PATH": "THE-ACTION",
    }
    for step in steps:
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step.script],
            cwd=folder,
            env={**known, **step.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{step.script}\n{done.stdout}\n{done.stderr}"
        added = re.findall(r"##vso\[task\.prependpath\](.*)", done.stdout) + paths.read_text().split()
        known["PATH"] = ":".join((*added, known["PATH"]))
    return asked.read_text().split() if asked.exists() else []

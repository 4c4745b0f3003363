"""The examples of schedulers in ``deploy/``: their files parse, and their commands are crossdock's."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from crossdock.cli.parser import parse

DEPLOY = Path(__file__).parents[2] / "deploy"
SLURM = (DEPLOY / "slurm/apply.sh").read_text("utf-8")
FILES = ("/etc/crossdock/migration.yaml", "migration.yaml", "/run/secrets/crossdock/auth.json", "/auth.json")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a file to read."""
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parsed(words: list[str], here: Path) -> argparse.Namespace:
    """The command line, in which files that are read there are one that is here."""
    for name in FILES:
        words = [re.sub(rf"(^|=){re.escape(name)}$", rf"\g<1>{here / 'file'}", word) for word in words]
    return parse(words)


def kubernetes(name: str, kind: str) -> dict[str, Any]:
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text("utf-8")))
    [found] = [each for each in documents if each["kind"] == kind]
    claims = {each["metadata"]["name"] for each in documents if each["kind"] == "PersistentVolumeClaim"}
    spec: dict[str, Any] = found["spec"]
    pod = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]["spec"]
    assert claims == {
        each["persistentVolumeClaim"]["claimName"]
        for each in pod["volumes"]
        if "persistentVolumeClaim" in each
    }
    [container] = pod["containers"]
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}
    return {**spec, "pod": pod, "container": container}


def test_the_indexed_job_has_as_many_shards_as_completions(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = kubernetes("indexed-job.yaml", "Job")
    assert job["completionMode"] == "Indexed"
    [index] = job["container"]["env"]
    for number in range(job["completions"]):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(number))
        args = [each.replace(f"$({index['name']})", str(number)) for each in job["container"]["args"]]
        assert not any("$(" in each for each in args)
        found = parsed(args, here)
        assert str(found.shard) == f"{number}/{job['completions']}"
        assert str(found.report) == f"/var/lib/crossdock/{number}.json"


def test_a_usage_error_is_not_tried_again() -> None:
    job = kubernetes("indexed-job.yaml", "Job")
    codes = [
        rule["onExitCodes"]["values"] for rule in job["podFailurePolicy"]["rules"] if "onExitCodes" in rule
    ]
    assert codes == [[2]]
    assert job["pod"]["restartPolicy"] == "Never", "Kubernetes demands it for backoffLimitPerIndex"


def test_the_cron_job(here: Path) -> None:
    job = kubernetes("cronjob.yaml", "CronJob")
    assert job["concurrencyPolicy"] == "Forbid"
    found = parsed(job["container"]["args"], here)
    assert (found.command, found.shard) == ("apply", None)


def arguments(text: str) -> list[str]:
    """What a step gives to the image."""
    return shlex.split(text.replace("\\\n", "").partition('"$IMAGE"')[2])


def test_the_workflow(here: Path) -> None:
    workflow = yaml.safe_load((DEPLOY / "github/mirror.yaml").read_text("utf-8"))
    jobs = workflow["jobs"]
    shards = jobs["shard"]["strategy"]["matrix"]["shard"]
    assert shards == list(range(len(shards)))
    [step] = [each for each in jobs["shard"]["steps"] if "--shard" in each.get("run", "")]
    for number in shards:
        values = {"strategy.job-index": number, "strategy.job-total": len(shards), "matrix.shard": number}
        known = {
            f"${name}": re.sub(r"\$\{\{ (.*?) \}\}", lambda match, of=values: str(of.get(match[1])), text)
            for name, text in step["env"].items()
        }
        words = [
            re.sub(r"\$[A-Z]+", lambda match, of=known: of[match[0]], word) for word in arguments(step["run"])
        ]
        found = parsed(words, here)
        assert (str(found.shard), str(found.report)) == (f"{number}/{len(shards)}", f"{number}.json")
    [text] = [step["run"] for step in jobs["report"]["steps"] if "run" in step]
    words = arguments(text)
    assert words == ["report", "merge", "whole.json", *(f"{number}.json" for number in shards)]


def test_the_batch_script(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "crossdock").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    (here / "crossdock").chmod(0o755)
    array = re.search(r"^#SBATCH --array=(\d+)-(\d+)$", SLURM, re.MULTILINE)
    assert array is not None
    first, last = map(int, array.groups())
    for number in range(first, last + 1):
        environ = {"ID": number, "COUNT": last - first + 1, "MIN": first, "MAX": last, "STEP": 1}
        for name, value in environ.items():
            monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
        done = subprocess.run(
            ["bash", DEPLOY / "slurm/apply.sh", "migration.yaml"],
            env={"PATH": f"{here}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": str(number)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        found = parsed(done.stdout.splitlines(), here)
        assert str(found.shard) == f"{number - first}/{last - first + 1}"
        assert str(found.report) == f"shards/{number}.json"


def test_the_batch_script_needs_a_file() -> None:
    done = subprocess.run(
        ["bash", DEPLOY / "slurm/apply.sh"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "usage: sbatch" in done.stderr

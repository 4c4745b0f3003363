"""``make az-demo``: a cloud on this machine, and the documentation's commands run by the real az.

Everything listens on loopback and uses one temporary folder, which is removed at the end.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

from crossdock.imagebuilder import ImageBuilder, sample_index

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
READY_S = 30.0
STOP_S = 20.0
ACCEPT = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
PDEATHSIG = "import ctypes, sys; ctypes.CDLL(None).prctl(1, 15); "  # servers end with this process, however
CROSSDOCK = (PYTHON, "-c", PDEATHSIG + "from crossdock.cli.main import main; sys.exit(main(sys.argv[1:]))")

# What there is to import: repositories of the source, under the names that the documentation uses.
IMAGES = {"library/hello-world": "latest", "windows/servercore": "ltsc2019", "aci-helloworld": "latest"}

LOGIN = (
    "az cloud register -n local --endpoint-resource-manager $ARM",
    "az cloud set -n local",
    "az login --service-principal -u $CLIENT_ID -p $CLIENT_SECRET --tenant $TENANT --output table",
)
IMPORTS = (
    """az acr import \\
  --name myregistry \\
  --source docker.io/library/hello-world:latest \\
  --image hello-world:latest""",
    """az acr import \\
   --name myregistry \\
   --source docker.io/library/hello-world@$DIGEST \\
   --repository hello-world""",
    """az acr import \\
--name myregistry \\
--source mcr.microsoft.com/windows/servercore:ltsc2019 \\
--image servercore:ltsc2019""",
    f"""az acr import \\
  --name myregistry \\
  --source aci-helloworld:latest \\
  --image aci-helloworld:latest \\
  --registry /subscriptions/{SUBSCRIPTION}/resourceGroups/\
sourceResourceGroup/providers/Microsoft.ContainerRegistry/registries/mysourceregistry""",
)
CONFLICT = (
    "az acr import -n myregistry --source mysourceregistry.azurecr.io/aci-helloworld -t hello-world:latest"
)
LOOKING = (
    "az acr list --output table",
    "az acr repository list --name myregistry --output table",
    "az acr repository show-tags --name myregistry --repository hello-world --output table",
    "az acr manifest list-metadata --registry myregistry --name hello-world"
    " --query '[].{digest: digest, os: os, architecture: architecture, tags: tags[0]}' --output table",
)
COPIES = {  # repository and tag at the target: at the source
    ("hello-world", "latest"): ("library/hello-world", "latest"),
    ("servercore", "ltsc2019"): ("windows/servercore", "ltsc2019"),
    ("aci-helloworld", "latest"): ("aci-helloworld", "latest"),
}


class Failed(Exception):
    """The demo cannot go on."""


class Demo:
    """The cloud in `folder`, and a shell whose az is logged in to it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._environment = {
            "PATH": f"{ROOT}/.az/bin:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(folder),
            "AZURE_CONFIG_DIR": str(folder / "azure"),
            "AZURE_CORE_COLLECT_TELEMETRY": "no",
            "AZURE_CORE_SURVEY_MESSAGE": "no",
            "AZURE_CORE_NO_COLOR": "yes",
        }
        self.source = f"127.0.0.1:{free_port()}"
        self.target = f"localhost:{free_port()}"
        self.ca = folder / "state/dev/ca.pem"

    def start(self) -> None:
        """Start the service and two registries, and let the target know the service's identity provider."""
        images = self._folder / "source"
        for number, (repository, tag) in enumerate(IMAGES.items()):
            builder = ImageBuilder(images / repository, seed=number)
            builder.tag(sample_index(builder), tag)
        mine: dict[str, object] = {
            "name": "myregistry",
            "login_server": self.target,
            "resource_group": "MyResourceGroup",
        }
        theirs: dict[str, object] = {"name": "mysourceregistry", "login_server": self.source}
        entries = [
            {**mine, "tls": {"ca": str(self.ca)}, "credentials": self._credentials()},
            {**theirs, "resource_group": "sourceResourceGroup"},
        ]
        document = {
            "registries": [{**each, "subscription": SUBSCRIPTION} for each in entries],
            "hosts": {"docker.io": self.source, "mcr.microsoft.com": self.source},
        }
        inventory, info_file = self._folder / "inventory.yaml", self._folder / "info.json"
        inventory.write_text(json.dumps(document))
        words = ["--inventory", str(inventory), "--listen", "localhost:0", "--state", str(self.ca.parents[1])]
        self._serve("serve", "--dev", "--dev-info", str(info_file), *words)
        info = json.loads(info_file.read_text())
        issuer = {"issuer": info["authority"], "ca": info["ca"], "scopes": ["repository:*:*", "registry:*:*"]}
        users = {"users": [{"name": "crossdock", "password": self._password}], "issuers": [issuer]}
        users_file = self._folder / "users.json"
        users_file.write_text(json.dumps(users))
        self._serve("registry", "--root", str(images), "--listen", self.source)
        certificate = ["--cert", f"{self.ca.parent}/server.pem", "--key", f"{self.ca.parent}/server.key"]
        target = ["--root", str(self._folder / "target"), "--listen", self.target, "--users", str(users_file)]
        self._serve("registry", *target, *certificate)
        self._environment |= {
            "REQUESTS_CA_BUNDLE": info["ca"],
            "ARM": info["arm"],
            "CLIENT_ID": info["client_id"],
            "CLIENT_SECRET": info["client_secret"],
            "TENANT": info["tenant"],
            "DIGEST": self.manifest(f"http://{self.source}", "library/hello-world", "latest")[0],
        }
        print(f"  service            {info['arm']}")
        print(f"  myregistry         https://{self.target}")
        print(f"  mysourceregistry   http://{self.source}, also docker.io and mcr.microsoft.com")

    def _credentials(self) -> dict[str, str]:
        self._password = os.urandom(12).hex()
        path = self._folder / "password"
        path.touch(0o600)
        path.write_text(self._password)
        return {"username": "crossdock", "password_file": str(path)}

    def _serve(self, *words: str) -> None:
        """Start one of crossdock's servers, which prints a line when it is ready."""
        log = self._folder / f"{words[0]}.log"
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [*CROSSDOCK, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
            )
        self._stack.callback(stop, process)
        assert process.stdout is not None
        is_there = select.select([process.stdout], [], [], READY_S)[0]
        if not is_there or b" at http" not in process.stdout.readline():
            raise Failed(f"crossdock {words[0]} did not start: {log.read_text()[-500:]}")

    def az(self, command: str, expected: int = 0) -> None:
        """Print the command, run it, print its output."""
        print("\n$ " + command.replace("\n", "\n> "), flush=True)
        started = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", command],
            env=self._environment,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        for line in done.stdout.splitlines():
            print(f"  {line}")
        print(f"  [exit {done.returncode}, {time.monotonic() - started:.1f} s]")
        if done.returncode != expected:
            raise Failed(f"az ended with {done.returncode}, not {expected}")

    def manifest(self, base: str, repository: str, reference: str) -> tuple[str, bytes]:
        """Digest and bytes of a manifest as the registry serves it, read without crossdock."""
        basic = base64.b64encode(f"crossdock:{self._password}".encode()).decode()
        headers = {"Accept": ACCEPT, "Authorization": f"Basic {basic}"}
        request = urllib.request.Request(f"{base}/v2/{repository}/manifests/{reference}", headers=headers)
        context = ssl.create_default_context(cafile=str(self.ca))
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            data: bytes = answer.read()
        return f"sha256:{hashlib.sha256(data).hexdigest()}", data

    def compare(self) -> int:
        """Read every manifest back from both registries; returns their number. Raises `Failed`."""
        compared = 0
        for (target, target_tag), (source, source_tag) in COPIES.items():
            pending = [(source_tag, target_tag)]
            while pending:
                there, here = pending.pop()
                left = self.manifest(f"http://{self.source}", source, there)
                right = self.manifest(f"https://{self.target}", target, here)
                if left != right:
                    raise Failed(f"{source} and {target} differ: {left[0]}, {right[0]}")
                pending += [(each["digest"],) * 2 for each in json.loads(left[1]).get("manifests", ())]
                compared += 1
                if here == target_tag:
                    print(f"  {f'{target}:{here}':<24}{left[0]}")
        return compared


def main() -> int:
    """Run the demo; its exit code."""
    signal.signal(signal.SIGTERM, interrupt)
    folder = Path(tempfile.mkdtemp(prefix="crossdock-az-demo-"))
    try:
        with ExitStack() as stack:
            demo = Demo(folder, stack)
            print("A cloud on this machine: certificate authority, identity provider, service, registries.")
            demo.start()
            print("\nThe real az, as for any other cloud:")
            for command in LOGIN:
                demo.az(command)
            print("\nCommands of az's documentation. On success az acr import prints nothing:")
            for command in IMPORTS:
                demo.az(command)
            print("\nA tag that means something else is not overwritten without --force:")
            demo.az(CONFLICT, expected=1)
            demo.az(f"{CONFLICT} --force")
            demo.az(f"{IMPORTS[0]} --force")
            print("\nWhat there is now:")
            for command in LOOKING:
                demo.az(command)
            print("\nEvery manifest, read back from both registries and compared:")
            compared = demo.compare()
    except KeyboardInterrupt:
        print("\naz-demo: interrupted", file=sys.stderr)
        return 130
    except (Failed, OSError, subprocess.TimeoutExpired) as error:
        print(f"\naz-demo: FAILED: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\naz-demo: OK: {compared} manifests are equal byte for byte; servers stopped, {folder} removed.")
    return 0


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and wait for its end."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def free_port() -> int:
    """A free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def interrupt(number: int, frame: object) -> NoReturn:
    """Unwind the stack, so that servers and files go."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

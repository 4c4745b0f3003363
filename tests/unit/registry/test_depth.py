"""How many calls are between the engine and the transport."""

from __future__ import annotations

import json
import sys

from crossdock.oci import mediatype
from crossdock.oci.digest import Digest
from crossdock.options import RegistryOptions
from crossdock.registry.client import RegistryClient
from crossdock.registry.context import Context
from crossdock.registry.repository import RegistryRepository
from crossdock.tally import Tally
from crossdock.transfer import image
from crossdock.transfer.image import ImageCopy
from crossdock.transfer.request import CopyRequest
from crossdock.transport.base import Request, ResponseHead
from unit.transfer.memorystore import MemoryTarget
from unit.transfer.shop import assert_nothing_left, make_workshop
from unit.transfer.test_own_stores import WHOLE

MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": []}).encode()
DIGEST = Digest.of(MANIFEST)
MOST = 9  # calls, those of the engine and of the transport included


class ScriptedExchange:
    """An exchange with the response that the request has in `ScriptedHttp`."""

    authorization = None
    answered_early = False

    def __init__(self, request: Request) -> None:
        self.url = request.url
        self._body = MANIFEST if request.method == "GET" else b""

    async def response(self, timeout: float | None = None) -> ResponseHead:
        fields = {
            "content-type": mediatype.OCI_INDEX,
            "content-length": str(len(MANIFEST)),
            "docker-content-digest": str(DIGEST),
        }
        return ResponseHead(200, "", tuple(fields.items()), len(MANIFEST), fields)

    async def read(self, limit: int) -> bytes:
        return self._body

    async def read_start(self, limit: int) -> bytes:
        return self._body

    async def receive(self, sink: object) -> int:
        raise AssertionError

    async def write(self, data: object) -> None:
        raise AssertionError

    def resume(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class ScriptedHttp:
    """A transport without sockets that counts the calls from `ImageCopy` to its `send`."""

    def __init__(self) -> None:
        self.depths: dict[str, list[str]] = {}

    async def send(self, request: Request) -> ScriptedExchange:
        calls, frame = ["send"], sys._getframe().f_back
        while frame is not None and frame.f_code.co_filename != image.__file__:
            calls.append(f"{frame.f_globals['__name__']}.{frame.f_code.co_name}")
            frame = frame.f_back
        if frame is not None:
            self.depths[request.method] = [*calls, f"ImageCopy.{frame.f_code.co_name}"]
        return ScriptedExchange(request)

    async def close(self) -> None:
        """Nothing to do."""


async def test_a_manifest_get_is_few_calls_deep() -> None:
    http = ScriptedHttp()
    client = RegistryClient(
        "registry.test",
        "source",
        RegistryOptions(own_only=True),
        Context(environ={}),
        http=http,  # type: ignore[arg-type]
    )
    source = RegistryRepository(client, "registry.test/x")
    workshop = make_workshop()
    request = CopyRequest("registry.test/x:1", "memory/target:2", "1", None, "2", None, (), ())
    tally = Tally(lambda event: None)
    await ImageCopy(request, source, MemoryTarget("memory/target"), workshop, WHOLE, tally).run()
    assert_nothing_left(workshop)
    workshop.hashing.close()
    workshop.supply.budget.close()
    assert len(http.depths["GET"]) <= MOST, http.depths["GET"]

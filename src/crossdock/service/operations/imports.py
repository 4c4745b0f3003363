"""Accepted imports and the tasks that run them."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping

from crossdock.acr.command import check_request
from crossdock.acr.importing import run_import
from crossdock.acr.plan import make_plan, plan_options
from crossdock.errors import Cancelled
from crossdock.events import BlobPlanned, BlobStarted, Event
from crossdock.inventory.values import Inventory
from crossdock.options import CopyOptions
from crossdock.service.problems import problem_of
from crossdock.service.values import ENDED, Operation, Order
from crossdock.transfer.tasks import stop

log = logging.getLogger(__name__)


class Imports:
    """All imports of one service. Use it in an ``async with`` block."""

    def __init__(
        self,
        inventory: Inventory,
        options: CopyOptions,
        environ: Mapping[str, str],
        *,
        at_once: int = 4,
    ) -> None:
        self._inventory = inventory
        self._options = options
        self._environ = environ
        self._slots = asyncio.Semaphore(at_once)
        self._operations: dict[str, Operation] = {}
        self._by_request: dict[tuple[str, str], str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Imports:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End what runs; results can still be asked for."""
        for task in list(self._tasks.values()):
            await stop(task)

    async def submit(self, order: Order) -> Operation:
        """The operation of this order: a new one, or that of the same order posted before."""
        key = (order.principal.id, order.request_id)
        if order.request_id and (known := self._by_request.get(key)):
            operation = self._operations[known]
            if operation.order.request == order.request and operation.order.registry == order.registry:
                return operation
        operation = Operation(id=self._new_id(order.request_id), order=order, created=time.time())
        self._operations[operation.id] = operation
        if order.request_id:
            self._by_request[key] = operation.id
        task = asyncio.create_task(self._run(operation))
        self._tasks[operation.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(operation.id, None))
        return operation

    def find(self, operation_id: str) -> Operation | None:
        """The operation of this id."""
        return self._operations.get(operation_id.lower())

    def all(self) -> list[Operation]:
        """Every operation that is known, the newest first."""
        return sorted(self._operations.values(), key=lambda each: -each.created)

    async def cancel(self, operation_id: str) -> Operation | None:
        """Stop the import if it has not ended, and wait until it has."""
        operation = self.find(operation_id)
        task = self._tasks.get(operation_id.lower())
        if operation is not None and task is not None:
            await stop(task)
            if operation.state not in ENDED:
                self._end(operation, Cancelled("the import was cancelled"))
        return operation

    def _new_id(self, request_id: str) -> str:
        try:
            wanted = str(uuid.UUID(request_id))
        except ValueError:
            wanted = ""
        return wanted if wanted and wanted not in self._operations else str(uuid.uuid4())

    async def _run(self, operation: Operation) -> None:
        order = operation.order
        try:
            async with self._slots:
                operation.state, operation.started = "Running", time.time()
                target = self._inventory.find(str(order.registry))
                assert target is not None, "it was found when the order came"
                plan = make_plan(check_request(order.request, target, self._inventory))
                options = plan_options(plan, self._options, self._inventory, self._environ)
                result = await run_import(plan, options, on_event=_follow(operation))
            operation.result = result.as_dict()
            operation.state, operation.ended = "Succeeded", time.time()
        except asyncio.CancelledError:
            self._end(operation, Cancelled("the import was cancelled"))
            raise
        except Exception as error:
            self._end(operation, error)

    def _end(self, operation: Operation, error: BaseException) -> None:
        operation.problem = problem_of(
            error, registry=str(operation.order.registry), operation=f"registries-{operation.id}"
        )
        operation.state = "Canceled" if isinstance(error, Cancelled) else "Failed"
        operation.ended = time.time()


def _follow(operation: Operation) -> Callable[[Event], None]:
    """A listener that keeps the operation's progress."""
    progress = operation.progress

    def listen(event: Event) -> None:
        match event:
            case BlobPlanned():
                progress.total += event.size
            case BlobStarted():
                progress.blob = str(event.digest)

    return listen

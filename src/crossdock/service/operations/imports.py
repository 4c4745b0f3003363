"""Accepted imports: on disk before the response, run in turn, resumed after a restart.

- After a restart, unfinished imports are queued again in their old order, and resume by the journal of
  uploads. The source's tag is resolved once; later runs use the same digest.
- All imports of the process share the memory for blobs and the journal.
- A stop keeps imports in the store and their uploads at the target; a cancel drops both.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import msgspec
from msgspec.structs import replace as changed

from crossdock.acr.comparing import FoundSource
from crossdock.acr.importing import Import, ImportResult
from crossdock.acr.limits import ImageLimits
from crossdock.acr.plan import ImportPlan, find_source, make_plan, plan_options
from crossdock.errors import (
    Advice,
    Cancelled,
    CredentialsLost,
    CrossdockError,
    InvalidInput,
    StoreError,
    TimedOut,
)
from crossdock.errors import Stopping as ServiceStopping
from crossdock.events import Event
from crossdock.inventory.values import Inventory
from crossdock.oci.registryname import registry_key
from crossdock.options import CopyOptions
from crossdock.service import audit
from crossdock.service.config import Settings
from crossdock.service.operations import pace
from crossdock.service.operations.following import Following, quiet
from crossdock.service.operations.pace import Pace, Work
from crossdock.service.operations.queue import FairQueue, Job
from crossdock.service.operations.saving import PERIOD_S, Saving
from crossdock.service.operations.secrets import Sealer, read_key
from crossdock.service.operations.store import (
    OperationStore,
    Unfinished,
    added,
    touched,
    updated,
    without_credentials,
)
from crossdock.service.problems import problem_of
from crossdock.service.values import ENDED, Operation, Order, Progress
from crossdock.session import Session
from crossdock.tasks import stop

log = logging.getLogger(__name__)

STOP_S = 20.0  # for running imports to reach a point recorded in the journal
SHORTEST_KEEP_S = 3600.0  # clients must be able to poll a result
RECENT = 1000  # ended imports in memory, for lists and the page; all are on disk
LEAST_FREE = 1 << 20  # free bytes required in the state folder: a row and its log take up to 600 KiB
DAY_S = 86_400.0


@dataclass(eq=False, kw_only=True, slots=True)
class _Active:
    """An accepted import, until its end is stored."""

    operation: Operation
    plan: ImportPlan | None = None  # None if it could not be made after a restart; the import then fails
    mark: bytes | None = None
    following: Following | None = None  # while it runs
    task: asyncio.Task[None] | None = None  # runs the import, or ends it
    is_unwanted: bool = False  # a caller cancelled it


class Imports:
    """All imports of one service. Use it in an ``async with`` block.

    Entering raises `StoreError` when the state folder cannot be used, or another service has it, and
    `InvalidOption` for a bad key.
    """

    def __init__(
        self,
        inventory: Inventory,
        options: CopyOptions,
        environ: Mapping[str, str],
        settings: Settings | None = None,
    ) -> None:
        """`options` apply to every copy; their `state` is the folder of journal and imports."""
        assert options.state is not None
        self._folder = options.state
        self._settings = settings or Settings()
        limits = self._settings.limits
        self._keep_s = max(limits.keep_results_days * DAY_S, SHORTEST_KEEP_S)
        self._inventory = inventory
        self._options = replace(options, memory=limits.memory)
        self._environ = environ
        self._image_limits = ImageLimits(
            manifests=limits.manifests_per_image or None,
            advice=Advice(
                "split-import",
                "import its platforms one by one, or have the operator raise limits.manifests_per_image",
            ),
        )
        self._queue = FairQueue(
            at_once=limits.imports, per_registry=limits.imports_per_registry, length=limits.queue
        )
        self._active: dict[str, _Active] = {}  # by id
        self._recent: dict[str, Operation] = {}  # ended imports, the oldest first
        self._marks: dict[bytes, _Active] = {}
        self._arriving: dict[bytes | object, asyncio.Task[Operation]] = {}
        self._coming: Counter[str] = Counter()  # of these, by principal
        self._restoring: asyncio.Task[None] | None = None
        self._is_stopping = False

    async def __aenter__(self) -> Imports:
        settings = self._settings
        async with AsyncExitStack() as stack:
            key = await asyncio.to_thread(read_key, settings.key_file, settings.key_env, self._environ)
            self._store = await asyncio.to_thread(OperationStore, self._folder)
            stack.callback(self._store.close)
            self._sealer = await asyncio.to_thread(Sealer, key, self._store.salt)
            self._saving = await stack.enter_async_context(Saving(self._store, self._keep_s))
            self._session = await stack.enter_async_context(Session(self._options))
            await self._session.shared()  # makes bad limits fail now
            for operation in reversed(await asyncio.to_thread(self._store.newest, RECENT)):
                if operation.state in ENDED:
                    self._recent[operation.id] = operation
            unfinished = await asyncio.to_thread(self._store.unfinished)
            stack.push_async_callback(self.stop)
            self._stack = stack.pop_all()
        self._restoring = asyncio.create_task(self._restore_all(unfinished))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # -- for the web -------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Number of waiting imports."""
        return self._queue.waiting

    @property
    def running(self) -> int:
        """Number of running imports."""
        return self._queue.running

    async def submit(self, order: Order, plan: ImportPlan) -> Operation:
        """Store an order and return its operation, or return that of an equal earlier order.

        `plan` is the order's plan. Raises `Stopping`, `QueueFull` and `StoreError`.
        """
        await self.restored()
        if self._is_stopping:
            raise ServiceStopping(
                "the service is being stopped",
                advice=Advice("retry-later", "post the import again in a minute"),
            )
        mark = self._mark(order)
        if mark is not None and mark not in self._arriving:
            known = self._marks.get(mark)
            found = known.operation if known else self._store.find_marked(mark)
            if found is not None and self._is_kept(found):
                return found
        key = mark or object()
        task = self._arriving.get(key)
        if task is None:
            principal = _owner(order)
            self._queue.check_room(principal, self._coming)
            self._coming[principal] += 1
            task = self._arriving[key] = asyncio.create_task(self._accept(order, plan, mark))
            task.add_done_callback(lambda done: self._arrived(key, principal, done))
        return await asyncio.shield(task)  # a disconnecting client does not cancel it

    def find(self, operation_id: str) -> Operation | None:
        """The operation with this id. Raises `StoreError`."""
        wanted = operation_id.lower()
        active = self._active.get(wanted)
        if active is not None and active.following is not None:
            active.following.refresh()
        found = active.operation if active else self._recent.get(wanted) or self._store.find(wanted)
        return found if found is not None and self._is_kept(found) else None

    def all(self) -> list[Operation]:
        """All open operations and the `RECENT` last ended ones, the newest first."""
        for each in self._active.values():
            if each.following is not None:
                each.following.refresh()
        ended = filter(self._is_kept, self._recent.values())
        open_ = (each.operation for each in self._active.values())
        return sorted([*ended, *open_], key=lambda each: -each.created)

    def waits_for(self, operation: Operation) -> str:
        """The reason for which an open import waits, as text; empty if none is known."""
        active = self._active.get(operation.id)
        if active is None:
            return ""
        if operation.state == "Accepted":
            return ", and ".join(self._queue.reasons(operation.id))
        if self.running > 1 and active.following is not None and active.following.waits_for_others:
            return "memory or a place for its blobs, which other imports use"
        return operation.progress.limited_by

    async def check(self) -> None:
        """Raise `StoreError` unless imports can be stored now."""
        await self._saving.save(touched())
        # A small write may succeed although the next import would not fit.
        if (await asyncio.to_thread(shutil.disk_usage, self._folder)).free < LEAST_FREE:
            raise StoreError(
                f"no space is left in {self._folder}", advice=Advice("free-space", "free space there")
            )

    async def cancel(self, operation_id: str) -> Operation | None:
        """Stop the import unless it has ended, wait for its end, and drop its uploads."""
        await self.restored()
        operation = self.find(operation_id)
        if operation is None or operation.state in ENDED:
            return operation
        active = self._active.get(operation.id) or self._activate(_Active(operation=operation))
        is_first, active.is_unwanted = not active.is_unwanted, True
        task = active.task
        if task is None:
            task = self._begin(active, self._end(active, Cancelled("the import was cancelled")))
        elif is_first:
            task.cancel()
        await asyncio.wait({task})
        if operation.state not in ENDED and not self._is_stopping:  # it was cancelled before its first step
            task = self._begin(active, self._end(active, Cancelled("the import was cancelled")))
            await asyncio.wait({task})
        return operation

    async def stop(self) -> None:
        """Accept no more imports, and stop running ones at a point recorded in the journal.

        They stay in the store and can still be polled.
        """
        self._is_stopping = True
        if self._restoring is not None:
            await stop(self._restoring)
        tasks = [each.task for each in self._active.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        # Imports that are being accepted are not cancelled: their clients wait for the disk.
        waited = {*tasks, *self._arriving.values()}
        if waited:
            _, late = await asyncio.wait(waited, timeout=STOP_S)
            if late:
                log.warning("%d imports did not stop within %g s", len(late), STOP_S)

    def _is_kept(self, operation: Operation) -> bool:
        return operation.ended == 0 or operation.ended >= time.time() - self._keep_s

    # -- accepting -----------------------------------------------------------------------------------------

    def _mark(self, order: Order) -> bytes | None:
        """A hash that equal requests of one principal share; None for a request without an id."""
        if not order.request_id:
            return None
        return self._sealer.mark(
            order.principal.issuer.encode(),
            order.principal.id.encode(),
            order.request_id.encode(),
            str(order.registry).lower().encode(),
            msgspec.json.encode(order.request),
            is_secret=order.request.source.credentials is not None,
        )

    def _activate(self, active: _Active) -> _Active:
        self._active[active.operation.id] = active
        return active

    async def _accept(self, order: Order, plan: ImportPlan, mark: bytes | None) -> Operation:
        operation = Operation(id=self._new_id(order.request_id), order=order, created=time.time())
        active = self._activate(_Active(operation=operation, plan=plan, mark=mark))
        credentials = order.request.source.credentials
        sealed = self._sealer.seal(operation.id, credentials) if credentials is not None else None
        try:
            await self._saving.save(added(operation, mark, credentials is not None, sealed))
        except BaseException:
            self._active.pop(operation.id, None)
            raise
        audit.write(audit.accepted(order, operation.id))
        if operation.state not in ENDED:  # cancelled meanwhile
            if mark is not None:
                self._marks[mark] = active
            self._queue.add(_job(operation, plan))
            self._start_ready()
        return operation

    def _arrived(self, key: bytes | object, principal: str, task: asyncio.Task[Operation]) -> None:
        del self._arriving[key]
        self._coming[principal] -= 1
        self._coming = +self._coming
        if not task.cancelled():
            task.exception()  # its client may have disconnected

    def _new_id(self, request_id: str) -> str:
        """The request's own id if it is an unused GUID, else a new one (az-contract 2.3)."""
        try:
            wanted = str(uuid.UUID(request_id))
        except ValueError:
            return str(uuid.uuid4())
        is_free = wanted not in self._active and self.find(wanted) is None
        return wanted if is_free else str(uuid.uuid4())

    async def restored(self) -> None:
        """Wait until the imports of an earlier process are queued again, before new ones."""
        if self._restoring is not None and not self._restoring.done():
            await asyncio.wait({self._restoring})

    async def _restore_all(self, unfinished: list[Unfinished]) -> None:
        """Restore all, yielding to requests in between: a thousand imports take seconds."""
        for each in unfinished:
            self._restore(each)
            await asyncio.sleep(0)
        self._start_ready()

    def _restore(self, unfinished: Unfinished) -> None:
        """Queue an import that an earlier process did not finish; end it if that is impossible."""
        operation, order = unfinished.operation, unfinished.operation.order
        operation.state = "Accepted"
        quiet(operation.progress)
        active = self._activate(_Active(operation=operation, mark=unfinished.mark))
        if unfinished.mark is not None:
            self._marks[unfinished.mark] = active
        try:
            if unfinished.has_credentials:
                credentials = self._sealer.open(operation.id, unfinished.sealed)
                source = changed(order.request.source, credentials=credentials)
                operation.order = changed(order, request=changed(order.request, source=source))
            active.plan = plan_again(operation.order, self._inventory)
        except CrossdockError as error:
            if isinstance(error, CredentialsLost):
                log.warning("import %s ends: %s", operation.id, error)
            self._begin(active, self._end(active, error))
        else:
            self._queue.add(_job(operation, active.plan))

    # -- running -------------------------------------------------------------------------------------------

    def _start_ready(self) -> None:
        while not self._is_stopping and (job := self._queue.start_next()) is not None:
            active = self._active[job.id]
            assert active.plan is not None
            self._begin(active, self._run(active, active.plan))

    def _begin(self, active: _Active, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        def done(task: asyncio.Task[None]) -> None:
            if active.task is task:
                active.task = None

        task = active.task = asyncio.create_task(work)
        task.add_done_callback(done)
        return task

    async def _run(self, active: _Active, plan: ImportPlan) -> None:
        operation = active.operation
        operation.state, operation.started = "Running", operation.started or time.time()
        self._saving.note(operation)
        try:
            result = await self._import(active, plan)
        except asyncio.CancelledError:
            if not active.is_unwanted:
                self._saving.note(operation)
                raise  # the service stops
            await self._end(active, Cancelled("the import was cancelled"))
        except Exception as error:
            if not isinstance(error, CrossdockError):
                log.exception("import %s failed", operation.id)
            await self._end(active, error)
        else:
            operation.result = msgspec.to_builtins(
                result.as_dict(), enc_hook=str
            )  # digests are a subclass of str
            await self._end(active, None)

    async def _import(self, active: _Active, plan: ImportPlan) -> ImportResult:
        operation = active.operation
        options = plan_options(plan, self._options, self._inventory, self._environ, for_others=True)
        operation.progress = Progress()
        work = Work()

        def set_aside(done: int) -> None:
            places = _registries(plan)
            # Before the source responds there was no request to the target; work done means that the target
            # took it.
            is_source = done or not operation.progress.manifests
            self._queue.set_aside(operation.id, frozenset(places[:1] if is_source else places))
            self._start_ready()

        async def found(source: FoundSource) -> None:
            following.found(source)
            if not operation.source_digest:
                operation.source_digest = str(source.digest)
                await self._saving.save(updated(operation))

        importing = Import(
            plan,
            limits=self._image_limits,
            digest=operation.source_digest,
            by_login=operation.order.by_login,
            on_found=found,
        )
        following = active.following = Following(operation.progress, plan, importing.totals)
        now = asyncio.get_running_loop().time
        bound = asyncio.timeout(pace.STALL_S)
        due = pace.STALL_WORK

        def listen(index: int, event: Event) -> None:
            nonlocal due
            following(event)
            work(event)
            self._saving.note(operation)
            if work.done >= due and not bound.expired():
                due = work.done + pace.STALL_WORK
                bound.reschedule(now() + pace.STALL_S)

        try:
            with Pace(work, set_aside, lambda: self._queue.take_back(operation.id)):
                share = self._session.share(options, operation.id, lambda: not active.is_unwanted)
                async with bound, share as session:
                    result = await session.start(importing, listen)
        except TimeoutError as error:
            if bound.expired():
                least = f"{pace.STALL_WORK >> 20} MiB"
                raise TimedOut(f"less than {least} moved in {pace.STALL_S:g} s", phase="import") from error
            raise
        following.all_done()
        return result

    async def _end(self, active: _Active, error: BaseException | None) -> None:
        """End the import. Its end is stored when this returns, unless the service stops."""
        operation = active.operation
        if active.following is not None:
            active.following.refresh()
            active.following = None
        quiet(operation.progress)
        if error is not None:
            operation.problem = problem_of(
                error, registry=str(operation.order.registry), operation=f"registries-{operation.id}"
            )
        operation.state = (
            "Succeeded" if error is None else "Canceled" if isinstance(error, Cancelled) else "Failed"
        )
        operation.ended = time.time()
        audit.write(audit.ended(operation))
        operation.order = without_credentials(operation.order)
        self._queue.remove(operation.id)
        self._start_ready()
        while True:
            try:
                await self._saving.save(updated(operation))
                break
            except StoreError:
                if self._is_stopping:
                    break  # it will run again and find everything at the target
                await asyncio.sleep(PERIOD_S)
        self._active.pop(operation.id, None)
        self._recent[operation.id] = operation
        while len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]
        if active.mark is not None and self._marks.get(active.mark) is active:
            del self._marks[active.mark]


def plan_again(order: Order, inventory: Inventory) -> ImportPlan:
    """The plan of an order that an earlier process accepted, for the current inventory.

    Raises `InvalidInput` and `PolicyRefused` if it can no longer be imported.
    """
    target = inventory.find(str(order.registry))
    if target is None:
        raise InvalidInput("the service's inventory does not have the target registry any more")
    order.request.check_targets()
    return make_plan(order.request, target, find_source(order.request, target, inventory))


def _job(operation: Operation, plan: ImportPlan) -> Job:
    return Job(operation.id, _owner(operation.order), frozenset(_registries(plan)))


def _owner(order: Order) -> str:
    return f"{order.principal.issuer} {order.principal.id}"


def _registries(plan: ImportPlan) -> tuple[str, str]:
    """The keys of source and target, for the queue."""
    return registry_key(plan.source.registry), registry_key(plan.target_entry.login_server)

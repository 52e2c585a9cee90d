"""Work on many things in processes of their own, where no failure stops the rest.

items -> idle workers, one item each, in bounds of time and memory -> results as they come

Not ``concurrent.futures``: its workers finish all that they hold when a run is interrupted, and
one that is killed, out of memory, takes the work of all others with it.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from types import FrameType
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

SHUTDOWN_GRACE_S = 20.0
"""How long an interrupted worker may take to remove its half-made files."""


@dataclass(frozen=True, kw_only=True)
class WorkerCrash:
    """What came of an item whose process ended before its result."""

    exit_code: int | None
    """Of the process; a signal is negative."""
    timed_out: bool = False
    """It was ended because its time was up."""


def map_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    n_workers: int,
    timeout_s: float | None = None,
    memory_limit_bytes: int | None = None,
) -> Generator[tuple[int, Result | WorkerCrash], None, None]:
    """Do some work on every item.

    Closing the iterator, or any exception in whoever reads it, Ctrl-C above all, interrupts
    the workers, each of which cleans up as Ctrl-C would have it, and waits for their end.

    Args:
        function: a function of a module, so that another process finds it.
        items: what to work on.
        n_workers: processes at a time.
        timeout_s: an item that takes longer costs its process; None is as long as it takes.
        memory_limit_bytes: memory that a process may hold; beyond it there is a ``MemoryError`` in it,
            or it dies. None is as much as there is. Windows knows no such limit.

    Yields:
        number of an item and its result, in the order in which they are done.
    """
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    waiting = iter(enumerate(items))
    workers: dict[Connection, _Worker[Item, Result]] = {}
    try:
        for index, item in waiting:
            worker = _Worker(function, context, memory_limit_bytes)
            workers[worker.pipe] = worker
            worker.send_task(index, item)
            if len(workers) == n_workers:
                break
        while workers:
            ready = set(wait(list(workers), _remaining_timeout_s(workers.values(), timeout_s)))
            late = {
                pipe
                for pipe, worker in workers.items()
                if timeout_s is not None and worker.task_elapsed_s() >= timeout_s
            }
            for pipe in [*ready, *(late - ready)]:
                assert isinstance(pipe, Connection)
                worker = workers[pipe]
                result = worker.receive_result() if pipe in ready else worker.kill()
                if isinstance(result, _WorkerReady):
                    worker.start_timer()
                    continue
                index = worker.index
                if isinstance(result, WorkerCrash):
                    del workers[pipe]
                following = next(waiting, None)
                if following is not None:
                    if isinstance(result, WorkerCrash):
                        worker = _Worker(function, context, memory_limit_bytes)
                        workers[worker.pipe] = worker
                    worker.send_task(*following)
                elif pipe in workers:
                    workers.pop(pipe).close()
                yield index, result
    finally:
        for worker in workers.values():
            worker.process.terminate()
        for worker in workers.values():
            worker.process.join(SHUTDOWN_GRACE_S)
            worker.process.kill()
            worker.process.join()


def _remaining_timeout_s(
    workers: "Iterable[_Worker[Item, Result]]", timeout_s: float | None
) -> float | None:
    """How long to wait until some worker's time is up."""
    if timeout_s is None:
        return None
    return max(0.0, timeout_s - max(worker.task_elapsed_s() for worker in workers))


@dataclass(frozen=True)
class _WorkerReady:
    """What a worker says first: how long its imports took is no item's fault."""


class _Worker(Generic[Item, Result]):
    """A process, seen from the one that gives it work."""

    def __init__(
        self,
        function: Callable[[Item], Result],
        context: SpawnContext,
        memory_limit_bytes: int | None,
    ) -> None:
        self.index = -1
        self._task_started_s: float | None = None
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_worker_main, args=(function, theirs, memory_limit_bytes), daemon=True
        )
        with _sigint_blocked():
            self.process.start()
        theirs.close()

    def send_task(self, index: int, item: Item) -> None:
        self.index = index
        if self._task_started_s is not None:
            self._task_started_s = time.monotonic()
        try:
            self.pipe.send(item)
        except BrokenPipeError:
            pass  # it died; `receive_result` will tell

    def start_timer(self) -> None:
        """From now on its first item takes time."""
        self._task_started_s = time.monotonic()

    def receive_result(self) -> Result | WorkerCrash | _WorkerReady:
        try:
            result: Result | _WorkerReady = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return WorkerCrash(exit_code=self.process.exitcode)
        return result

    def task_elapsed_s(self) -> float:
        """Since it was given its item, or came to life."""
        return 0.0 if self._task_started_s is None else time.monotonic() - self._task_started_s

    def kill(self) -> WorkerCrash:
        """End it where it is: a native loop hears no signal that Python handles."""
        self.process.kill()
        self.process.join()
        return WorkerCrash(exit_code=self.process.exitcode, timed_out=True)

    def close(self) -> None:
        self.pipe.close()
        self.process.join()


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Processes started in here do not hear Ctrl-C until they choose to.

    A terminal sends it to all of them, and one that is still starting would print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # it would lift the mask when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _worker_main(
    function: Callable[[Item], Result], pipe: Connection, memory_limit_bytes: int | None
) -> None:
    """What a worker does: items until the pipe closes or it is interrupted."""
    if memory_limit_bytes is not None:
        limit_memory(memory_limit_bytes)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who gives the work decides
    signal.signal(signal.SIGTERM, _raise_interrupt)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        pipe.send(_WorkerReady())
        while True:
            try:
                item = pipe.recv()
            except EOFError:
                return
            result = function(item)
            pipe.send(result)
    except KeyboardInterrupt:
        return


def limit_memory(memory_limit_bytes: int) -> None:
    """Bound what this process may hold: its own data, not the files it maps."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most != resource.RLIM_INFINITY:
        memory_limit_bytes = min(memory_limit_bytes, most)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_limit_bytes, most))


def _raise_interrupt(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: the clean-up is not disturbed
    raise KeyboardInterrupt


def _exit_with_parent() -> None:
    """End with the parent, even if it was killed and could not say so."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

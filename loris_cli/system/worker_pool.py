"""Run a function on many items in worker processes, where no failure stops the rest.

items -> one thread a worker, one item at a time, in bounds of time and memory -> results

Not ``concurrent.futures``: one worker that is killed, out of memory, ends the pool. Not pebble
5.2: its workers share one pipe, so one that is killed as it sends its result blocks the others.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

SHUTDOWN_GRACE_S = 20.0
"""How long an interrupted worker may take to remove its temporary files."""


@dataclass(frozen=True, kw_only=True)
class WorkerCrash:
    """The outcome of an item whose process ended before its result."""

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
    """Apply a function to every item.

    Closing the iterator, or any exception in its reader, Ctrl-C above all, interrupts
    the workers, each of which cleans up as on Ctrl-C, and waits for their end.

    Args:
        function: a function of a module, so that another process finds it.
        items: its arguments.
        n_workers: processes at a time.
        timeout_s: an item that takes longer costs its process; None is as long as it takes.
        memory_limit_bytes: memory that a process may hold; beyond it there is a ``MemoryError``
            in it, or it dies. None is as much as there is. Windows knows no such limit.

    Yields:
        number of an item and its result, in the order in which they are done.
    """
    pool = _WorkerPool(function, timeout_s, memory_limit_bytes)
    with ThreadPoolExecutor(max(1, n_workers), initializer=_block_sigint) as threads:
        try:
            futures = {threads.submit(pool.call, item): k for k, item in enumerate(items)}
            for future in as_completed(futures):
                yield futures.pop(future), future.result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            pool.close()


class _WorkerPool(Generic[Item, Result]):
    """Worker processes, one for each thread that calls."""

    def __init__(
        self,
        function: Callable[[Item], Result],
        timeout_s: float | None,
        memory_limit_bytes: int | None,
    ) -> None:
        self._worker_args = function, memory_limit_bytes
        self._timeout_s = timeout_s
        self._thread_local = threading.local()
        self._processes: set[SpawnProcess] = set()
        self._closed = False
        # For start and join: in both multiprocessing reaps the children of all threads.
        self._lock = threading.Lock()

    def call(self, item: Item) -> Result | WorkerCrash:
        """Apply the function to an item in the process of this thread."""
        is_new = not hasattr(self._thread_local, "worker")
        if is_new:
            self._thread_local.worker = self._start_worker()
        process, pipe = self._thread_local.worker
        timed_out = False
        try:
            if is_new:
                pipe.recv()  # it is ready: the time of its imports does not count
            pipe.send(item)
            if pipe.poll(self._timeout_s):
                result: Result = pipe.recv()
                return result
            timed_out = True
            process.kill()  # a native loop does not return to Python's signal handlers
        except (EOFError, ConnectionError):  # it died
            pass
        del self._thread_local.worker
        self._join(process)
        return WorkerCrash(exit_code=process.exitcode, timed_out=timed_out)

    def close(self) -> None:
        """Interrupt all processes and wait for their end."""
        with self._lock:
            self._closed = True
            processes = list(self._processes)
        for process in processes:
            process.terminate()
        for process in processes:
            wait([process.sentinel], SHUTDOWN_GRACE_S)
            process.kill()
            self._join(process)

    def _start_worker(self) -> tuple[SpawnProcess, Connection]:
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        pipe, worker_pipe = context.Pipe()
        args = worker_pipe, *self._worker_args
        process = context.Process(target=_worker_main, args=args, daemon=True)
        with self._lock:
            if self._closed:
                raise CancelledError
            process.start()
            self._processes.add(process)
        worker_pipe.close()
        return process, pipe

    def _join(self, process: SpawnProcess) -> None:
        wait([process.sentinel])
        with self._lock:
            process.join()
            self._processes.discard(process)


def _block_sigint() -> None:
    """Keep Ctrl-C from this thread and from the processes that it starts.

    A terminal sends it to all processes; one that is still starting would print a traceback.
    """
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        resource_tracker.ensure_running()  # it would lift the mask when it starts
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _worker_main(
    pipe: Connection, function: Callable[[Item], Result], memory_limit_bytes: int | None
) -> None:
    """Apply the function to items from a pipe until it closes or the process is interrupted."""
    if memory_limit_bytes is not None:
        limit_memory(memory_limit_bytes)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, _raise_interrupt)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        pipe.send("ready")
        while True:
            try:
                item = pipe.recv()
            except EOFError:
                return
            pipe.send(function(item))
    except KeyboardInterrupt:
        return


def limit_memory(memory_limit_bytes: int) -> None:
    """Bound the memory of this process: its own data, not the files it maps."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard_limit = resource.getrlimit(resource.RLIMIT_DATA)
    if hard_limit != resource.RLIM_INFINITY:
        memory_limit_bytes = min(memory_limit_bytes, hard_limit)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_limit_bytes, hard_limit))


def _raise_interrupt(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: the clean-up is not disturbed
    raise KeyboardInterrupt


def _exit_with_parent() -> None:
    """End with the parent, even if it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

"""Map a function over items in worker processes; a failed item does not stop the others.

items -> one thread per worker, one item at a time, limited in time and memory -> results

``concurrent.futures`` is not used: one worker killed for lack of memory breaks the whole pool.
pebble 5.2 is not used: its workers share one pipe, so a worker that is killed while it sends a
result blocks the others.
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
"""Time that an interrupted worker has to remove its temporary files."""


@dataclass(frozen=True, kw_only=True)
class WorkerCrash:
    """Outcome of an item whose process ended without a result."""

    exit_code: int | None
    """Exit code of the process; negative for a signal."""
    timed_out: bool = False
    """Whether the process was killed at the time limit."""


def map_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    n_workers: int,
    timeout_s: float | None = None,
    memory_limit_bytes: int | None = None,
) -> Generator[tuple[int, Result | WorkerCrash], None, None]:
    """Apply a function to every item.

    When the iterator is closed or its consumer raises an exception (Ctrl-C above all), the
    workers are interrupted, and the pool waits until they have cleaned up and exited.

    Args:
        function: module-level function, so that another process can import it.
        items: arguments of the function.
        n_workers: number of parallel processes.
        timeout_s: time limit per item, after which its process is killed; None is no limit.
        memory_limit_bytes: memory limit per process, beyond which it raises a ``MemoryError``
            or crashes; None is no limit. Not supported on Windows.

    Yields:
        Index of an item and its result, in order of completion.
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
    """Worker processes, one per calling thread."""

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
        # Guards start and join: in both, multiprocessing reaps the children of all threads.
        self._lock = threading.Lock()

    def call(self, item: Item) -> Result | WorkerCrash:
        """Apply the function to an item in the worker process of this thread."""
        is_new = not hasattr(self._thread_local, "worker")
        if is_new:
            self._thread_local.worker = self._start_worker()
        process, pipe = self._thread_local.worker
        timed_out = False
        try:
            if is_new:
                pipe.recv()  # "ready": the time limit does not include the worker's imports
            pipe.send(item)
            if pipe.poll(self._timeout_s):
                result: Result = pipe.recv()
                return result
            timed_out = True
            process.kill()  # native code does not return to Python's signal handlers
        except (EOFError, ConnectionError):  # the process crashed
            pass
        del self._thread_local.worker
        self._join(process)
        return WorkerCrash(exit_code=process.exitcode, timed_out=timed_out)

    def close(self) -> None:
        """Interrupt all processes and wait until they have exited."""
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
    """Block SIGINT in this thread and in the processes that it starts.

    A terminal sends Ctrl-C to all processes; one that is still starting would print a
    traceback.
    """
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        resource_tracker.ensure_running()  # first, because its start unblocks SIGINT
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _worker_main(
    pipe: Connection, function: Callable[[Item], Result], memory_limit_bytes: int | None
) -> None:
    """Apply the function to items from a pipe until it closes or the process is interrupted."""
    if memory_limit_bytes is not None:
        limit_memory(memory_limit_bytes)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
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
    """Limit the data segment of this process; memory-mapped files are not included."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard_limit = resource.getrlimit(resource.RLIMIT_DATA)
    if hard_limit != resource.RLIM_INFINITY:
        memory_limit_bytes = min(memory_limit_bytes, hard_limit)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_limit_bytes, hard_limit))


def _raise_interrupt(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not stop the clean-up
    raise KeyboardInterrupt


def _exit_with_parent() -> None:
    """Exit when the parent process exits, even if it is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

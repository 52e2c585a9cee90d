"""Items of an iterator, computed in a thread ahead of their use."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")


def prefetch_items(items: Iterable[Item], *, max_items: int) -> Generator[Item, None, None]:
    """Yield the items of an iterator that runs in its own thread.

    Errors of the iterator are raised in place of its next item. The iterator is closed with
    this generator.

    Args:
        items: the iterator; it must not depend on what its reader does with earlier items.
        max_items: maximum number of items that wait to be read.
    """
    iterator, end = iter(items), object()
    pending: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="loris-read") as executor:
        try:
            for _ in range(max_items):
                pending.append(executor.submit(next, iterator, end))
            while (item := pending.popleft().result()) is not end:
                pending.append(executor.submit(next, iterator, end))
                yield item
        finally:
            for future in pending:
                future.cancel()
            executor.submit(getattr(iterator, "close", lambda: None)).result()

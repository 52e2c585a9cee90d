"""Items of an iterator that runs in a thread: order, errors, closing, bounded lead."""

import threading
from collections.abc import Iterator

import pytest

from loris_cli.system.prefetch import prefetch_items


def test_items_and_their_end_are_those_of_the_iterator() -> None:
    assert list(prefetch_items(iter(range(20)), max_items=3)) == list(range(20))
    assert list(prefetch_items([], max_items=3)) == []


def test_an_error_follows_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("damaged")

    reader = prefetch_items(items(), max_items=5)
    assert [next(reader), next(reader)] == [1, 2]
    with pytest.raises(OSError, match="damaged"):
        next(reader)


def test_the_iterator_is_closed_with_its_reader() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.set()

    reader = prefetch_items(items(), max_items=2)
    assert next(reader) == 0
    reader.close()
    assert closed.is_set()


def test_the_iterator_is_at_most_max_items_ahead() -> None:
    n_made = 0

    def items() -> Iterator[int]:
        nonlocal n_made
        for k in range(50):
            n_made += 1
            yield k

    for k in prefetch_items(items(), max_items=4):
        assert n_made <= k + 5


def test_items_are_computed_in_one_other_thread() -> None:
    def items() -> Iterator[int]:
        for _ in range(10):
            yield threading.get_ident()

    threads = set(prefetch_items(items(), max_items=2))
    assert len(threads) == 1
    assert threading.get_ident() not in threads

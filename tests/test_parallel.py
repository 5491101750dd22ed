"""Threads change how long work takes, never its results or their order."""

import threading
import time

import pytest

from codesign.parallel import cores, in_order


@pytest.mark.parametrize("workers", [1, 2, 5, None])
def test_results_come_in_the_order_of_the_items(workers):
    def work(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        return item * item

    assert list(in_order(work, range(20), workers)) == [i * i for i in range(20)]
    assert list(in_order(work, [], workers)) == []


def test_workers_work_at_the_same_time():
    """Each waits for the other one: with one thread neither would end."""
    meeting = threading.Barrier(2, timeout=30)
    assert sorted(in_order(lambda _: meeting.wait(), range(2), workers=2)) == [0, 1]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_comes_where_the_result_would_have(workers):
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        return 6 // (3 - item)

    results = in_order(work, range(1000), workers)
    assert [next(results) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(begun) < 20


@pytest.mark.parametrize("workers", [1, 2])
def test_items_are_taken_as_they_are_needed(workers):
    taken: list[int] = []

    def items():
        for item in range(1000):
            taken.append(item)
            yield item

    results = in_order(str, items(), workers)
    assert next(results) == "0" and len(taken) <= 2 * workers
    results.close()


def test_there_is_a_core():
    assert cores() >= 1

"""Small matrices by one thread, and as many threads as before for all others."""

from __future__ import annotations

import threading

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from wrappers.algebra import ONE_THREAD


def blas_threads() -> set[int]:
    np.ones((2, 2)) @ np.ones((2, 2))
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def test_inside_there_is_one_thread_until_the_last_has_left():
    with threadpool_limits(2, user_api="blas"):
        entered, leave, seen = threading.Event(), threading.Event(), []

        def other():
            with ONE_THREAD:
                entered.set()
                leave.wait(10)
                seen.append(blas_threads())

        with ONE_THREAD:
            thread = threading.Thread(target=other)
            thread.start()
            assert entered.wait(10)
            assert blas_threads() == {1}
        assert blas_threads() == {1}  # the other is still inside
        leave.set()
        thread.join(10)
        assert seen == [{1}] and blas_threads() == {2}

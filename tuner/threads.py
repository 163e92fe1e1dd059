"""Threads of processes that share a machine."""

from __future__ import annotations

import numba
from threadpoolctl import threadpool_limits

from wrappers.extras import missing

__all__ = ["share_cores", "single_threaded_algebra"]

_MOST = numba.get_num_threads()


def single_threaded_algebra() -> None:
    """Let PyTorch and the linear algebra of NumPy and SciPy use one thread each.

    On the small matrices of a Gaussian process or a policy, threads that wait for each other cost
    several times the work. Numba's first parallel loop sets PyTorch's number anew, so this is
    to be called after it.
    """
    if not missing("gp", "torch"):
        import torch

        torch.set_num_threads(1)
    threadpool_limits(1, user_api="blas")


def share_cores(processes: int) -> None:
    """Take this process's share of the cores for Numba; see also `single_threaded_algebra`.

    Parameters
    ----------
    processes : int
        That work at the same time.
    """
    numba.set_num_threads(max(_MOST // processes, 1))
    single_threaded_algebra()

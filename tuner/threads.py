"""Threads of processes that share a machine."""

from __future__ import annotations

import numba
import torch

__all__ = ["share_cores"]

_MOST = numba.get_num_threads()


def share_cores(processes: int) -> None:
    """Take this process's share of the cores for Numba, and one thread for PyTorch.

    Small networks run many times slower on more threads. Numba's first parallel loop sets
    PyTorch's number anew, so this is to be called after it.

    Parameters
    ----------
    processes : int
        That work at the same time.
    """
    numba.set_num_threads(max(_MOST // processes, 1))
    torch.set_num_threads(1)

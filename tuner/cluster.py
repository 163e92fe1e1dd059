"""Connecting to a cluster whose workers evaluate settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from wrappers.errors import InputError, ProgramError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["connect"]

PATIENCE = 600
"""Seconds to wait for a first worker; a queue may take its time."""


@contextmanager
def connect(cluster: str | None, jobs: int) -> Iterator[Client | None]:
    """Connect to a Dask cluster, or start one; what was started is ended afterwards.

    Parameters
    ----------
    cluster : str or None
        "local" starts `jobs` worker processes on this machine; "slurm" submits `jobs` jobs as
        the user's Dask configuration (``jobqueue.slurm``) describes them; anything else is the
        address of a running scheduler. None yields None.
    jobs : int
        Worker processes, or jobs of the queue.

    Raises
    ------
    InputError
        If Dask is not installed, the address is wrong, or nothing answers there.
    ProgramError
        If no worker comes up.
    """
    if cluster is None:
        yield None
        return
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise InputError(
            f"--cluster {cluster} needs Dask: pip install 'sfx-tuner[cluster]'"
        ) from error
    with ExitStack() as stack:
        if cluster == "local":
            # No other machine gets in, nor sees the dashboard.
            started = LocalCluster(
                n_workers=jobs,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
            )
            client = stack.enter_context(Client(stack.enter_context(started)))
        elif cluster == "slurm":
            client = stack.enter_context(Client(stack.enter_context(_slurm(jobs))))
        else:
            try:
                client = stack.enter_context(Client(cluster, timeout=30))
            except (OSError, ValueError) as error:
                raise InputError(
                    f"no Dask scheduler answers at {cluster!r} ({error}): give an address such "
                    "as tcp://host:8786, or local, or slurm"
                ) from error
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise ProgramError(
                f"the cluster ({cluster}) has no worker after {PATIENCE} s: look at its queue"
            ) from error
        yield client


def _slurm(jobs: int):  # type: ignore[no-untyped-def]  # dask_jobqueue has no types
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise InputError(
            "--cluster slurm needs dask-jobqueue: pip install 'sfx-tuner[cluster]'"
        ) from error
    try:
        cluster = SLURMCluster()
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the Dask configuration of SLURM jobs (jobqueue.slurm) does not do: {error}; see "
            "https://jobqueue.dask.org"
        ) from error
    cluster.scale(jobs=jobs)
    return cluster

"""Connecting to a cluster whose workers evaluate settings.

Whoever can talk to a Dask scheduler or worker has them run programs. So what is started here talks
TLS, with certificates that are made for the session, at both ends: without them nobody gets an
answer, on this machine or another. The workers' pages for a browser are switched off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wrappers.errors import InputError, ProgramError
from wrappers.extras import require

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

__all__ = ["connect"]

PATIENCE = 600
"""Seconds to wait for a first worker; a queue may take its time."""


@contextmanager
def connect(
    cluster: str | None, jobs: int, on_warning: Callable[[str], None] = lambda sentence: None
) -> Iterator[Client | None]:
    """Connect to a Dask cluster, or start one; what was started is ended afterwards.

    Parameters
    ----------
    cluster : str or None
        "local" starts `jobs` worker processes on this machine; "slurm" submits `jobs` jobs as
        the user's Dask configuration (``jobqueue.slurm``) describes them; anything else is the
        address of a running scheduler. None yields None.
    jobs : int
        Worker processes, or jobs of the queue.
    on_warning : callable
        Called with a sentence where others could use the cluster.

    Raises
    ------
    InputError
        If Dask is not installed, the address is wrong, or nothing answers there; or if the
        certificates of a cluster that is to be started cannot be made.
    ProgramError
        If no worker comes up.
    """
    if cluster is None:
        yield None
        return
    needed = ("dask_jobqueue",) if cluster == "slurm" else ()
    require("cluster", f"--cluster {cluster}", "distributed", "cryptography", *needed)
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        if cluster == "local":
            stack.enter_context(_without_pages())
            started = LocalCluster(
                n_workers=jobs,
                threads_per_worker=1,
                host="127.0.0.1",
                protocol="tls://",
                security=_certificates(),
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
            )
            client = stack.enter_context(Client(stack.enter_context(started)))
        elif cluster == "slurm":
            stack.enter_context(_without_pages())
            client = stack.enter_context(Client(stack.enter_context(_slurm(jobs))))
        else:
            if not cluster.startswith("tls://"):
                on_warning(
                    f"the scheduler at {cluster} has no TLS: whoever can reach it can run programs "
                    "as you"
                )
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


def _certificates() -> Security:
    """Make a key and a certificate that only this session and its workers have."""
    from distributed.security import Security

    return Security.temporary()


@contextmanager
def _without_pages() -> Iterator[None]:
    """Have schedulers and workers serve nothing over HTTP, which knows no certificates."""
    import dask

    names = ("distributed.scheduler.http.routes", "distributed.worker.http.routes")
    with dask.config.set({name: [] for name in names}):
        yield


def _slurm(jobs: int):  # type: ignore[no-untyped-def]  # dask_jobqueue has no types
    import dask
    from dask_jobqueue import SLURMCluster

    try:
        cluster = SLURMCluster(
            protocol="tls://",
            security=_certificates(),
            scheduler_options={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            # Where the jobs read the certificates: a folder that all machines see.
            shared_temp_directory=dask.config.get("jobqueue.slurm.shared-temp-directory", None)
            or str(Path.home()),
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the Dask configuration of SLURM jobs (jobqueue.slurm) does not do: {error}; see "
            "https://jobqueue.dask.org"
        ) from error
    cluster.scale(jobs=jobs)
    return cluster

"""Which process something belongs to, whether it is still there, and ending with it."""

from __future__ import annotations

import functools
import hashlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
from annotated_types import Interval, Predicate

from wrappers.errors import InputError

__all__ = ["ProcessMark", "end_with_parent", "require_main_guard", "serve_parent", "this_process"]


@dataclass(frozen=True)
class ProcessMark:
    """What tells one process from all others, on other machines and of other times too.

    Attributes
    ----------
    host : str
        For people.
    machine : str
        Of the running kernel and the set of process numbers in it: a container has its own.
    pid : int
    started : int
        When it began, in ticks since the machine's start: process numbers are used again.
    """

    host: str
    machine: Annotated[str, Predicate(str.isalnum)]
    pid: Annotated[int, Interval(ge=1, le=2**31 - 1)]
    started: Annotated[int, Interval(ge=0, le=2**63 - 1)]

    def is_gone(self) -> bool | None:
        """Whether the process has ended, or None where this cannot be known from here."""
        if self.machine != _machine():
            return None
        return _started(self.pid) != self.started

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


def this_process() -> ProcessMark:
    """Return the mark of this process."""
    pid = os.getpid()
    return ProcessMark(socket.gethostname(), _machine(), pid, _started(pid) or 0)


@functools.cache
def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        text = boot + os.readlink("/proc/self/ns/pid")
    except OSError:  # no Linux
        text = f"{socket.gethostname()} {psutil.boot_time():.0f}"
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _started(pid: int) -> int | None:
    """Return when a process began, or None if there is none of that number."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        try:
            # Behind the program's name in brackets, which may hold anything.
            fields = (
                Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
            )
            return int(fields[19])
        except OSError:
            return int(process.create_time())
    except psutil.Error:
        return None


def require_main_guard() -> None:
    """Refuse to begin in a worker that is only reading the script that started it.

    Raises
    ------
    InputError
        If the script begins its work whenever it is read.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        script = getattr(sys.modules.get("__mp_main__"), "__file__", "the script")
        raise InputError(
            f"{script} is read again by each worker process and begins anew there: put what it "
            'does below a line  if __name__ == "__main__":'
        )


def end_with_parent() -> None:
    """Have this worker process end when the program that started it does, however that ends.

    A program that is killed outright cannot end its workers, but the kernel then closes its end of
    a pipe. (The kernel's own signal for the purpose, PR_SET_PDEATHSIG, looks at the thread, or the
    server of processes, that made the worker, and not at the program.)
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_for_the_end_of, args=(parent,), daemon=True).start()


def serve_parent() -> None:
    """Have this worker process end with its program, and leave Ctrl-C, which reaches all, to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def _wait_for_the_end_of(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)

"""Which process something belongs to, and whether that process is still there."""

from __future__ import annotations

import functools
import hashlib
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

__all__ = ["ProcessMark", "this_process"]


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
    machine: str
    pid: int
    started: int

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

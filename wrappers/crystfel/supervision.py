"""Running ``indexamajig`` so that nothing of it outlives us, whatever becomes of us.

By itself it leaves workers, temporary folders and shared memory behind when it is interrupted.
Here it runs in a session of its own that is ended as a whole, and a shell watches over it: the
shell waits at a pipe that the kernel closes when our process ends, even if that is killed
outright, and then does the tidying in our place.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from wrappers.errors import ProgramError
from wrappers.workers.processor_time import processor_seconds, tree_seconds

__all__ = ["Supervised", "temporary_files_needed"]

GUARD = """
read -r line
kill -KILL "-$1"
shift
rm -rf -- "$@"
"""


class Supervised:
    """A program in a session of its own; end it, or use it as a context manager.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments; no shell sees them.
    folder : Path
        Its working directory, which is removed if our process dies before `end`.
    log : Path
        Where its standard output and error go.

    Raises
    ------
    ProgramError
        If it cannot be started.
    """

    def __init__(self, command: Sequence[str], *, folder: Path, log: Path) -> None:
        with log.open("wb") as output:
            try:
                self._process = subprocess.Popen(
                    list(command),
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=_environment(),
                )
            except OSError as error:
                raise ProgramError(f"{command[0]} cannot be started: {error.strerror}") from error
        pid = self._process.pid
        # Killed, it cannot remove its own shared memory and semaphore.
        self._shared = [f"/dev/shm/indexamajig.shm.{pid}", f"/dev/shm/sem.indexamajig-q{pid}"]
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", str(pid), str(folder), *self._shared],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    @property
    def exit_code(self) -> int | None:
        """Negative for a signal, None while it runs."""
        return self._process.poll()

    def core_seconds(self) -> float:
        """Return the processor time that it and its workers have taken so far."""
        return tree_seconds(self._process.pid)

    def wait(self, seconds: float) -> int | None:
        """Wait for its end; return its exit code, or None if it still runs by then."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def nudge(self) -> None:
        """Make it look at its pipes now.

        From 0.12 on its main loop sleeps half a second at pipes that stay silent while its
        workers' results wait in others. The signal of a child's end wakes it; it looks for
        dead children, finds none, and goes on to read.
        """
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCHLD)

    def end(self) -> None:
        """Kill every process of the session that is left, and tidy up behind them."""
        if self._guard.returncode is not None:
            return
        processor_seconds()  # nobody can tell the cost of its workers once they are killed
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        processor_seconds()
        for left in self._shared:
            Path(left).unlink(missing_ok=True)
        self._guard.kill()
        self._guard.communicate()


@contextlib.contextmanager
def temporary_files_needed() -> Iterator[None]:
    """Turn trouble with temporary files, such as a full disk, into a sentence.

    Raises
    ------
    ProgramError
        Instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise ProgramError(
            "the temporary files that CrystFEL needs cannot be written "
            f"({error.strerror or error}): make room, or let TMPDIR name another folder"
        ) from error


def _environment() -> dict[str, str]:
    """Return the environment in which CrystFEL finds the filters of compressed files."""
    import hdf5plugin  # with HDF5, which --help should not wait for

    own = os.environ.get("HDF5_PLUGIN_PATH")
    plugins = os.pathsep.join(filter(None, (hdf5plugin.PLUGIN_PATH, own)))
    return {**os.environ, "HDF5_PLUGIN_PATH": plugins}

"""Finding and running CrystFEL's ``indexamajig``.

Its exit code does not tell whether every frame was done, and it does not tidy up behind itself:
see `supervision`.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wrappers.crystfel.stream import Progress, read_progress
from wrappers.crystfel.supervision import Supervised
from wrappers.crystfel.time_limit import TimeLimit
from wrappers.errors import ProgramError
from wrappers.files import temporary_folder
from wrappers.indexing import Done, unheard

__all__ = [
    "CrystfelProgram",
    "ProgramRun",
    "count_deaths",
    "deaths_allowed",
    "find_indexamajig",
    "run_indexamajig",
]

VARIABLE = "SFX_TUNER_INDEXAMAJIG"
PREFERENCE = ("xgandalf", "asdf", "mosflm", "taketwo", "pinkIndexer", "ffbidx", "dirax", "xds")
"""Indexing methods for peaks of a known cell, the one to try first in front.

In measurements handed to the project (those of docs/settings.md) xgandalf indexed 93 frames where
asdf indexed 86 and taketwo fewer; the order of the others is a guess.
"""
PROBE_SECONDS = 60.0
NUDGE_SECONDS = 0.02
CHECK_SECONDS = 1.0


@dataclass(frozen=True)
class CrystfelProgram:
    """An ``indexamajig`` and what it can do.

    Attributes
    ----------
    path : str
    version : str
        "0.12.0", say.
    indexers : tuple of str
        The indexing methods it offers by itself, best first.
    options : frozenset of str
        Its long options, "--peaks" and so on: they differ between versions.
    """

    path: str
    version: str
    indexers: tuple[str, ...]
    options: frozenset[str]

    @property
    def release(self) -> tuple[int, ...]:
        """The version's numbers, (0, 12, 0) say; a development version counts as its last."""
        return tuple(int(number) for number in re.findall(r"\d+", self.version.partition("-")[0]))

    @property
    def sleepy(self) -> bool:
        """Whether its main loop needs `supervision.Supervised.nudge`."""
        return self.release >= (0, 12)

    def supported(self, arguments: Sequence[str]) -> list[str]:
        """Return the ``--option=value`` arguments that this version knows."""
        return [a for a in arguments if a.partition("=")[0] in self.options]


@dataclass(frozen=True)
class ProgramRun:
    """How a run of ``indexamajig`` ended.

    Attributes
    ----------
    exit_code : int or None
        Negative for a signal, None where the time limit ended it.
    log : str
        All that it wrote to its standard output and error.
    seconds : float
        Wall time.
    restless : bool
        Whether it was ended because its workers died again and again.
    limit : str
        Its time limit, in words.
    """

    exit_code: int | None
    log: str
    seconds: float
    restless: bool = False
    limit: str = ""

    @property
    def progress(self) -> Progress | None:
        """Its own last count of frames."""
        return read_progress(self.log)

    @property
    def out_of_time(self) -> bool:
        """Whether the time limit ended it."""
        return self.exit_code is None and not self.restless

    @property
    def how_it_ended(self) -> str:
        """What became of it, to follow "indexamajig"."""
        if self.restless:
            return "was ended because its workers kept dying"
        if self.exit_code is None:
            return f"was ended after {self.limit}"
        if self.exit_code < 0:
            return f"was killed by signal {-self.exit_code}"
        return f"ended with exit code {self.exit_code}"

    @property
    def complaint(self) -> str:
        """The last lines of its log that are not routine, in one line."""
        lines = [line.strip() for line in self.log.splitlines()]
        telling = [line for line in lines if line and not ROUTINE.match(line)]
        return "; ".join(dict.fromkeys(telling[-3:])) or "it wrote nothing"


# What it writes whether or not anything is wrong, and the frames of HDF5's error stack.
ROUTINE = re.compile(
    r"Waiting for|Final:|Shutting down|\d+ images processed|Worker \d+ (exited|returned)"
    r"|#\d+:|major:|minor:|HDF5-DIAG|Try .*--help|\d+: \w+|.*: (on|off)$"
    r"|List of indexing methods|Indexing parameters|This is what I understood|a +b +c +alpha"
    r"|[-\d. ]+A +[-\d. ]+deg|.*handed\.$"
)


def find_indexamajig(program: str | None = None) -> CrystfelProgram | None:
    """Look for CrystFEL.

    Parameters
    ----------
    program : str, optional
        Path or name of ``indexamajig``. By default what the environment variable
        ``SFX_TUNER_INDEXAMAJIG`` names, or else ``indexamajig`` on the PATH.

    Returns
    -------
    CrystfelProgram or None
        None where none was named and there is none on the PATH.

    Raises
    ------
    ProgramError
        If the program that was named does not exist, or the one found does not run.
    """
    named = program or os.environ.get(VARIABLE)
    path = shutil.which(named or "indexamajig")
    if path is None:
        if named is None:
            return None
        origin = "" if program else f" (from {VARIABLE})"
        raise ProgramError(
            f"{named}{origin} is not a program that can be run; give the path of indexamajig"
        )
    path = os.path.realpath(path)
    return _examine(path, os.stat(path).st_mtime_ns)


@functools.cache
def _examine(path: str, _modified: int) -> CrystfelProgram:
    """Ask a program once for its version, options and indexing methods."""
    version_text = _ask(path, "--version")
    version = re.search(r"CrystFEL:? (?:version )?(\d\S*)", version_text)
    if version is None:
        raise ProgramError(
            f"{path} is not CrystFEL's indexamajig: asked for its version, it says "
            f'"{version_text.strip()[:200]}"'
        )
    help_text = _ask(path, "--help") + _ask(path, "--help-xgandalf")
    return CrystfelProgram(
        path=path,
        version=version[1],
        indexers=_probe_indexers(path),
        options=frozenset(re.findall(r"--[a-z][\w-]+", help_text)),
    )


def _ask(path: str, question: str) -> str:
    try:
        answer = subprocess.run(
            [path, question],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProgramError(f"{path} does not run: {error}") from error
    text = answer.stdout.decode(errors="replace")
    if answer.returncode != 0 and question == "--version":
        raise ProgramError(
            f"{path} does not run: asked for its version, it ended with exit code "
            f'{answer.returncode} and "{text.strip()[-200:]}"'
        )
    return text


PROBE_GEOMETRY = """\
photon_energy = 9000 eV
clen = 0.1 m
res = 10000
adu_per_photon = 1
data = /data
dim0 = %
dim1 = ss
dim2 = fs
p0/min_fs = 0
p0/max_fs = 9
p0/min_ss = 0
p0/max_ss = 9
p0/corner_x = -5
p0/corner_y = -5
p0/fs = x
p0/ss = y
"""
PROBE_CELL = """\
CrystFEL unit cell file version 1.0

lattice_type = tetragonal
unique_axis = c
centering = P
a = 79 A
b = 79 A
c = 38 A
al = 90 deg
be = 90 deg
ga = 90 deg
"""


def _probe_indexers(path: str) -> tuple[str, ...]:
    """Let the program choose its methods for a frame that does not exist."""
    with temporary_folder() as folder:
        (folder / "probe.geom").write_text(PROBE_GEOMETRY)
        (folder / "probe.cell").write_text(PROBE_CELL)
        (folder / "probe.lst").write_text(f"{folder}/none.h5 //0\n")
        files = ("-i", "probe.lst", "-g", "probe.geom", "-p", "probe.cell", "-o", "probe.stream")
        command = [path, *files, "--peaks=peakfinder8", "-j", "1"]
        run = run_indexamajig(command, folder=folder, timeout=PROBE_SECONDS)
    found = re.findall(r"^ +\d+: ([A-Za-z0-9]+)", run.log, re.MULTILINE)
    return tuple(sorted(set(found) & set(PREFERENCE), key=PREFERENCE.index))


def count_deaths(log: Path) -> int:
    """Return how many of its workers a program says were killed; it starts others for them."""
    return log.read_bytes().count(b"was killed by signal")


def deaths_allowed(n_frames: int, jobs: int) -> int:
    """Return how many workers the frames can kill; if more die, they die as they start."""
    return n_frames + 3 * jobs


def run_indexamajig(
    command: Sequence[str],
    *,
    folder: Path,
    timeout: float,
    jobs: int = 1,
    most_deaths: int = 0,
    nudged: bool = False,
    done: Done = unheard,
) -> ProgramRun:
    """Run a command in its own session and end every process of it afterwards.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    folder : Path
        Its working directory; the log is written there as ``indexamajig.log``.
    timeout : float
        In seconds of processor time, for each of its processes; see `time_limit.TimeLimit`.
    jobs : int, optional
        Its processes.
    most_deaths : int, optional
        Deaths of workers after which it is ended.
    nudged : bool, optional
        Whether it needs `supervision.Supervised.nudge`.
    done : callable, optional
        Called with the number of frames that its log says it has done.

    Raises
    ------
    ProgramError
        If it cannot be started.
    """
    log = folder / "indexamajig.log"
    step = NUDGE_SECONDS if nudged else CHECK_SECONDS
    started = checked = now = time.monotonic()
    exit_code, restless = None, False
    limit = TimeLimit(timeout, jobs)
    with Supervised(command, folder=folder, log=log) as program:
        limit.watch(program)
        while exit_code is None and not restless and not limit.check():
            exit_code = program.wait(min(step, timeout))
            if nudged:
                program.nudge()
            now = time.monotonic()
            if now > checked + CHECK_SECONDS:
                checked, restless = now, count_deaths(log) > most_deaths
                progress = read_progress(log.read_text(errors="replace"))
                if progress is not None:
                    done(progress.images)
    return ProgramRun(
        exit_code, log.read_text(errors="replace"), now - started, restless, str(limit)
    )

"""How long one waits for the program, and what it takes, side by side with an earlier state of it.

Each state is a checkout; its commands run one after the other with those of the other state, each
with an empty folder for kernels at first (cold), then with what that left there (warm). Told are
processor seconds, which other work on the machine disturbs less than seconds on the clock, of the
command and of all that it starts; when it says anything, and when the first evaluation is shown;
and the largest memory of one process. One process works; `experiments.reduction_speed` has more of
them.

    python -m experiments.latencies ../shared/data/simulated [--before cd280e1] [--json]
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click
import h5py
import hdf5plugin  # noqa: F401  (the file's filter)
import numpy as np

from tuner.cli.options import print_json, progress_bar

BEFORE = "cd280e1"
"""The last commit before issue 20's work began."""
ROOT = Path(__file__).parents[1]
FIRST_TRIAL = re.compile(rb"^\s*[01]\s+(start|baseline)")
"""A line of the table that is the first evaluation's."""
EVALUATIONS = 3
REPEATS = 2
"""Of the quick commands; the quickest counts."""
FRAMES = 480
"""Of the reduction."""


@dataclass(frozen=True)
class Taken:
    """What a command took.

    Attributes
    ----------
    cpu, clock : float
        Seconds, with all processes that it started; on the clock.
    first, trial : float or None
        Seconds on the clock until it said anything, and until the first evaluation was shown.
    memory : int
        Largest resident memory of one of its processes, in bytes.
    """

    cpu: float
    clock: float
    first: float | None
    trial: float | None
    memory: int


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--before", default=BEFORE, show_default=True, help="A commit to compare with.")
@click.option("--json", "as_json", is_flag=True)
def main(folder: Path, before: str, as_json: bool) -> None:
    """Print the table, with the run in FOLDER."""
    with tempfile.TemporaryDirectory() as directory, _checkout(before, directory) as earlier:
        states = {"before": earlier, "now": ROOT}
        rows: dict[str, dict[str, float | None]] = {}
        steps = (_quick, _peaks, _sessions, _reduction)
        with progress_bar("measuring", len(steps) * len(states)) as show:
            done = 0
            for step in steps:
                for state, root in states.items():
                    work = Path(directory) / state
                    work.mkdir(exist_ok=True)
                    for name, value in step(root, folder.absolute(), work).items():
                        rows.setdefault(name, {})[state] = value
                    show(done := done + 1)
    load = os.getloadavg()[0]
    if as_json:
        print_json({"before": before, "rows": rows, "load": load})
        return
    print(f"{'load ' + format(load, '.1f'):52s}{before:>10s}{'now':>10s}")
    for name, values in rows.items():
        cells = ("–" if values.get(each) is None else f"{values[each]:.2f}" for each in states)
        print(f"{name:52s}" + "".join(f"{cell:>10s}" for cell in cells))


def _quick(root: Path, folder: Path, work: Path) -> dict[str, float | None]:
    """Return what help and completion take."""
    complete = {
        "_SFX_TUNER_COMPLETE": "bash_complete",
        "COMP_WORDS": "sfx-tuner tune --sea",
        "COMP_CWORD": "2",
    }
    commands: dict[str, tuple[list[str], dict[str, str]]] = {
        "sfx-tuner --help, CPU s": (["--help"], {}),
        "sfx-tuner tune --help, CPU s": (["tune", "--help"], {}),
        "TAB after sfx-tuner tune --sea, CPU s": ([], complete),
    }
    return {
        name: min(_run(root, words, work, more).cpu for _ in range(REPEATS))
        for name, (words, more) in commands.items()
    }


def _peaks(root: Path, folder: Path, work: Path) -> dict[str, float | None]:
    """Return what `peaks` takes, cold and warm."""
    words = ["peaks", *_inputs(folder), "-j", "1", "--threshold", "30", "--force"]
    cold, warm = (_run(root, [*words, "-o", "peaks.cxi"], work) for _ in range(2))
    return {
        "peaks of 60 frames, cold: CPU s": cold.cpu,
        "peaks, kernels: CPU s": cold.cpu - warm.cpu,
        "peaks, cold: says something after, s": cold.first,
        "peaks of 60 frames, warm: CPU s": warm.cpu,
        "peaks, memory, MiB": warm.memory / 2**20,
    }


def _sessions(root: Path, folder: Path, work: Path) -> dict[str, float | None]:
    """Return what a small session takes, cold and warm, and what of."""
    words = ["tune", *_inputs(folder), "-p", str(folder / "lyso.cell"), "--indexer", "fast"]
    words += ["--evaluations", str(EVALUATIONS), "-j", "1", "--searcher", "tpe"]
    cold, warm = (
        _run(root, [*words, "-o", session], work, kernels=work / "kernels-tune")
        for session in ("cold", "warm")
    )
    other = _with_floats(folder, work / "floats")
    another = _run(
        root,
        [words[0], *_inputs(other), *words[4:], "-o", "another"],
        work,
        kernels=work / "kernels-tune",
    )
    with (work / "warm" / "trials.csv").open() as stream:
        evaluations = sum(float(row["core_seconds"]) for row in csv.DictReader(stream))
    return {
        f"tune, {EVALUATIONS} evaluations, cold: CPU s": cold.cpu,
        "tune, kernels: CPU s": cold.cpu - warm.cpu,
        "tune, kernels for another data type: CPU s": another.cpu - warm.cpu,
        "tune, cold: says something after, s": cold.first,
        "tune, cold: first evaluation after, s": cold.trial,
        f"tune, {EVALUATIONS} evaluations, warm: CPU s": warm.cpu,
        "tune, evaluations: CPU s": evaluations,
        "tune, warm: all but evaluations: CPU s": warm.cpu - evaluations,
        "tune, warm: first evaluation after, s": warm.trial,
        "tune, memory, MiB": warm.memory / 2**20,
    }


def _reduction(root: Path, folder: Path, work: Path) -> dict[str, float | None]:
    """Return how fast the reduction is, relative to a plain read."""
    arguments = ["-m", "experiments.reduction_speed", str(folder), "--json"]
    arguments += ["--frames", str(FRAMES), "--processes", "1", "--repeats", "1"]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=work,
        env=_environment(root, work / "kernels"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    found = json.loads(done.stdout)
    cpu = found["processor_ms"]
    rows: dict[str, float | None] = {"plain read, CPU ms a frame": cpu["read"]}
    for way in ("virtual", "copied", "copied, few hits"):
        rows[f"reduction, {way}, CPU ms a frame"] = cpu[way]
        rows[f"reduction, {way}: share of the read's rate"] = cpu["read"] / cpu[way]
    return rows


def _with_floats(folder: Path, copy: Path) -> Path:
    """Copy the run with its frames as floats, for which other kernels are compiled."""
    copy.mkdir(exist_ok=True)
    shutil.copy(folder / "jf1m.geom", copy)
    shutil.copy(folder / "jf1m_lyso_60.h5", copy)
    with h5py.File(copy / "jf1m_lyso_60.h5", "r+") as file:
        frames = file["entry/data/data"][:].astype(np.float32)
        del file["entry/data/data"]
        file["entry/data/data"] = frames
    return copy


def _inputs(folder: Path) -> list[str]:
    return [str(folder / "jf1m_lyso_60.h5"), "-g", str(folder / "jf1m.geom")]


def _environment(root: Path, kernels: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(root), "NUMBA_CACHE_DIR": str(kernels), **more}


def _run(
    root: Path,
    words: list[str],
    work: Path,
    more: Mapping[str, str] | None = None,
    kernels: Path | None = None,
) -> Taken:
    """Run the command of a checkout."""
    command = [
        sys.executable,
        "-c",
        "import sys; sys.argv[0] = 'sfx-tuner'; from tuner.cli import main; main()",
    ]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, *words],
        cwd=work,
        env=_environment(root, kernels or work / "kernels", **(more or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    seen: dict[str, float] = {}
    said: list[bytes] = []

    def listen(stream: IO[bytes]) -> None:
        for line in stream:
            seen.setdefault("first", time.perf_counter() - started)
            said.append(line)
            if FIRST_TRIAL.match(line):
                seen.setdefault("trial", time.perf_counter() - started)

    streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
    listeners = [threading.Thread(target=listen, args=(stream,)) for stream in streams]
    for each in listeners:
        each.start()
    _, status, usage = os.wait4(process.pid, 0)
    clock = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    for each in listeners:
        each.join()
    if process.returncode:
        raise click.ClickException(f"{words} failed: {b''.join(said).decode()[-2000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return Taken(cpu, clock, seen.get("first"), seen.get("trial"), usage.ru_maxrss * 1024)


@contextmanager
def _checkout(commit: str, directory: str) -> Iterator[Path]:
    """Check a commit out beside this one."""
    path = Path(directory) / "checkout"
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "-q", "--detach", str(path), commit], check=True)
    try:
        yield path
    finally:
        subprocess.run([*git, "remove", "--force", str(path)], check=True)


if __name__ == "__main__":
    main()

"""Mutated files of every kind that is read: only a sentence may come of them.

``python -m tests.fuzz 2000 7`` tries two thousand for each kind, from seed 7, each in a process
of its own; names of kinds may follow. A few are tried by `test_fuzz`.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import h5py
import numpy as np

from tests import fuzz_own
from tests.fuzz_mutations import flip, mutated_text, strange_arrays
from wrappers.cell import Cell
from wrappers.crystfel.geometry_rules import mend_for_crystfel
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, ProgramError
from wrappers.frames.first_look import first_look
from wrappers.frames.opening import open_source
from wrappers.masks.bad_pixel_map import BadPixelMap

__all__ = ["KINDS", "MEMORY", "Failure", "try_kind"]

SECONDS = 20
"""A file that takes longer hangs."""
MEMORY = 2**31
"""Bytes that a file may make the program take."""
ADDRESSES = 2**33
"""Bytes of a process's addresses; more are refused, so that a flood is a fault and not a wait."""

GEOMETRY = """\
photon_energy = 9300 eV
adu_per_photon = 1
clen = 0.08 m
res = 10000
data = /entry/data/data
dim0 = %
dim1 = ss
dim2 = fs
mask0_file = mask.h5
mask0_data = /mask
mask0_goodbits = 0
mask0_badbits = 1
flag_morethan = 60000
a/min_fs = 0
a/max_fs = 19
a/min_ss = 0
a/max_ss = 7
a/corner_x = -10
a/corner_y = 1
a/fs = +1.0x +0.001y
a/ss = y
a/coffset = 0.0001
b/min_fs = 0
b/max_fs = 19
b/min_ss = 8
b/max_ss = 15
b/corner_x = -10
b/corner_y = -9
b/fs = x
b/ss = y
b/max_adu = 5000
bad_r/min_fs = 3
bad_r/max_fs = 5
bad_r/min_ss = 2
bad_r/max_ss = 4
bad_r/panel = a
bad_x/min_x = -2
bad_x/max_x = 2
bad_x/min_y = -2
bad_x/max_y = 4
group_all = a,b
"""
CELL = """\
CrystFEL unit cell file version 1.0

lattice_type = tetragonal
centering = P
unique_axis = c
a = 79.1 A
b = 79.1 A
c = 37.9 A
al = 90.0 deg
be = 90.0 deg
ga = 90.0 deg
"""
PDB = (
    "HEADER    X\nCRYST1   79.100   79.100   37.900  90.00  90.00  90.00 P 43 21 2     8\n"
    "ATOM      1  N   LYS A   1       3.287  10.092  10.329  1.00  5.89           N\nEND\n"
)
CIF = "data_X\n" + "".join(
    f"_cell.{key} {value}\n"
    for key, value in [
        *[(f"length_{axis}", size) for axis, size in zip("abc", (79.1, 79.1, 37.9), strict=True)],
        *[(f"angle_{angle}", 90) for angle in ("alpha", "beta", "gamma")],
    ]
)
STREAM = (
    "CrystFEL stream format 2.3\n----- Begin unit cell -----\n"
    f"{CELL}----- End unit cell -----\n----- Begin chunk -----\n"
)
LIST = "run.h5 //0\nrun.h5\n# a comment\nrun.h5\t//1\n"


@dataclass(frozen=True)
class Failure:
    """A file of which something else came than a sentence."""

    kind: str
    number: int
    what: str


def write_run(folder: Path, rng: np.random.Generator, change: str = "") -> None:
    """Write a run, in which one data set may be something strange."""
    (folder / "run.h5").unlink(missing_ok=True)
    with h5py.File(folder / "run.h5", "w") as file:
        shape = (3, 16, 20)
        values = {
            "entry/data/data": rng.poisson(4, shape).astype("u2"),
            "e": np.full(3, 9300.0),
            "z": 80.0,
            "s": np.zeros(3),
        }
        for name, value in values.items():
            strange = name == change
            if strange and rng.random() < 0.2:
                sizes = rng.choice([1, 3, 1000, 10**6, 10**9], 3).tolist()
                file.create_dataset(name, sizes, "f8", chunks=tuple(min(n, 1000) for n in sizes))
            else:
                file[name] = strange_arrays(rng, np.shape(value)) if strange else value


def write_masks(folder: Path, rng: np.random.Generator, change: str = "") -> None:
    """Write a mask and a map of bad pixels, in which one data set may be something strange."""
    for name in ("mask.h5", "map.h5"):
        (folder / name).unlink(missing_ok=True)
        with h5py.File(folder / name, "w") as file:
            for key in ("mask", "sigma/hot", "sigma/noisy", "sigma/dead"):
                strange = key == change
                plain = np.zeros((16, 20), "u1" if key == "mask" else "f2")
                file[key] = strange_arrays(rng, plain.shape) if strange else plain
            attribute = rng.choice(["n", "x"]) if change == "n_frames" else "n"
            file["sigma"].attrs["n_frames"] = 20 if attribute == "n" else np.array([1.5, 2])


def use_run(folder: Path) -> None:
    """Do with a run and its geometry what every command does first."""
    with open_source(folder / "run.lst", Geometry.read(folder / "run.geom")) as run:
        first_look(run)
        for index in range(min(run.n_frames or 0, 2)):
            run[index]


def fuzz_geometry(folder: Path, rng: np.random.Generator) -> None:
    headers = {"9300 eV": "/e eV", "0.08 m": "/z mm"}
    text = GEOMETRY
    for plain, header in headers.items():
        text = text.replace(plain, header) if rng.random() < 0.3 else text
    (folder / "run.geom").write_bytes(mutated_text(text, rng))
    try:
        use_run(folder)
    finally:
        mend_for_crystfel(folder / "run.geom")


def fuzz_cell(folder: Path, rng: np.random.Generator) -> None:
    text = [CELL, PDB, CIF, STREAM][int(rng.integers(4))]
    (folder / "x.cell").write_bytes(mutated_text(text, rng))
    cell = Cell.read(folder / "x.cell")
    assert cell.summary and cell.text and np.isfinite(cell.primitive_axes @ cell.real).all()


def fuzz_list(folder: Path, rng: np.random.Generator) -> None:
    (folder / "run.lst").write_bytes(mutated_text(LIST, rng))
    use_run(folder)


def fuzz_data_sets(folder: Path, rng: np.random.Generator) -> None:
    write_run(folder, rng, str(rng.choice(["entry/data/data", "e", "z", "s"])))
    text = GEOMETRY.replace("9300 eV", "/e eV").replace("0.08 m", "/z mm")
    text = "detector_shift_x = /s m\ndetector_shift_y = 0 m\n" + text
    (folder / "run.geom").write_text(text)
    use_run(folder)


def fuzz_bytes(folder: Path, rng: np.random.Generator) -> None:
    content = bytearray((folder / "run.h5").read_bytes())
    flip(content, rng, int(rng.integers(1, 40)))
    (folder / "run.h5").write_bytes(content)
    use_run(folder)


def fuzz_masks(folder: Path, rng: np.random.Generator) -> None:
    keys = ["mask", "sigma/hot", "sigma/noisy", "sigma/dead", "n_frames"]
    write_masks(folder, rng, str(rng.choice(keys)))
    BadPixelMap.load(folder / "map.h5", Geometry.read(folder / "run.geom"))
    use_run(folder)


KINDS: dict[str, Callable[[Path, np.random.Generator], None]] = {
    "geometry": fuzz_geometry,
    "cell": fuzz_cell,
    "list": fuzz_list,
    "data sets": fuzz_data_sets,
    "bytes": fuzz_bytes,
    "masks": fuzz_masks,
    **fuzz_own.KINDS,
}


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise TimeoutError after some seconds of work, or ten times as many of waiting."""

    def end(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    before = [signal.signal(each, end) for each in (signal.SIGALRM, signal.SIGPROF)]
    signal.alarm(10 * seconds)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for each, handler in zip((signal.SIGALRM, signal.SIGPROF), before, strict=True):
            signal.signal(each, handler)


def try_kind(kind: str, n: int, seed: int, folder: Path) -> list[Failure]:
    """Try a number of files of one kind and return what went wrong."""
    failures: list[Failure] = []
    for number in range(-1 if n else 0, n):
        rng = np.random.default_rng([seed, max(number, 0), *kind.encode()])
        write_run(folder, rng)
        write_masks(folder, rng)
        (folder / "run.geom").write_text(GEOMETRY)
        (folder / "run.lst").write_text("run.h5\n")
        try:
            # The first time waits for Numba.
            with time_limit(SECONDS if number >= 0 else 30 * SECONDS):
                KINDS[kind](folder, rng)
        except (InputError, ProgramError) as error:
            if not 10 < len(str(error)) < 7000:
                failures.append(Failure(kind, number, f"no sentence: {str(error)[:200]!r}"))
        except Exception:
            failures.append(Failure(kind, number, traceback.format_exc(limit=-4)))
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if used > MEMORY:
            failures.append(Failure(kind, number, f"{used / 2**30:.1f} GiB"))
            break
    return failures


def main() -> int:
    """Try many files of each kind, or of those named; print what went wrong."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    if len(sys.argv) > 4:
        return max(in_child(kind, n, seed) for kind in sys.argv[3:])
    if len(sys.argv) < 4:
        return max(in_child(kind, n, seed) for kind in KINDS)
    kind = sys.argv[3]
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        failures = try_kind(kind, n, seed, Path(folder))
    took, most = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{kind}: {n} files, {len(failures)} failures, {took:.0f} s, {most / 2**20:.2f} GiB")
    for failure in failures[:5]:
        print(f"  number {failure.number}: {failure.what}")
    return int(bool(failures))


def in_child(kind: str, n: int, seed: int) -> int:
    """Try files in a process of their own, which may crash, or hang where no signal is heard."""
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz", str(n), str(seed), kind]
    try:
        code = subprocess.run(command, timeout=600 + n, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"{kind}: hangs")
        return 1
    if code < 0:
        print(f"{kind}: ended by signal {-code}")
    return int(code != 0)


if __name__ == "__main__":
    sys.exit(main())

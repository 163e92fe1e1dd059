"""Where files cannot be locked, it goes on without, at once; a real C library that says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NO_LOCKS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/file.h>

static int refuse(void) { errno = ENOLCK; return -1; }
int flock(int fd, int operation) { return refuse(); }
#define WRAP(name) int name(int fd, int command, ...) { \\
    va_list rest; va_start(rest, command); void *value = va_arg(rest, void *); va_end(rest); \\
    if (command == F_SETLK || command == F_SETLKW || command == F_GETLK) return refuse(); \\
    int (*real)(int, int, ...) = dlsym(RTLD_NEXT, #name); return real(fd, command, value); }
WRAP(fcntl)
WRAP(fcntl64)
"""

WORK = """
import sys, time, warnings
import h5py, numpy as np
from wrappers.errors import InputError
from wrappers.frames.hdf5 import HDF5Files
from wrappers.indexing_cache import CachedIndexer
from pathlib import Path

folder = Path(sys.argv[1])
files = HDF5Files()
started = time.monotonic()
print(files.dataset(str(folder / "a.h5"), "/linked", "data")[0])
print(files.dataset(str(folder / "b.h5"), "/x", "data")[0])

class Nothing:
    name, parallel, close = "none", False, None
    def index(self, patterns, done=None): raise AssertionError

cache = CachedIndexer.__new__(CachedIndexer)
cache._path = folder / "indexed.sqlite"
for number in range(3):
    cache._with_file(lambda file: file.execute(
        "INSERT OR IGNORE INTO answers (key, lattices) VALUES (?, ?)", (b"k%d" % number, b"")))
cache._with_file(lambda file: print(file.execute("SELECT COUNT(*) FROM answers").fetchone()[0]))
print(time.monotonic() - started)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("library")
    (folder / "nolocks.c").write_text(NO_LOCKS)
    command = [compiler, "-shared", "-fPIC", "-o", "nolocks.so", "nolocks.c", "-ldl"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "nolocks.so"


def test_nothing_waits_for_locks_that_do_not_work(tmp_path, library):
    import h5py

    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"] = [7]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["linked"] = h5py.ExternalLink("b.h5", "/x")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(tmp_path)],
        env={**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(root)},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *values, seconds = done.stdout.split()
    assert values == ["7", "7", "3"]
    assert float(seconds) < 8
    assert done.stderr.count("cannot be locked") == 2, "once for HDF5, once for the cache"

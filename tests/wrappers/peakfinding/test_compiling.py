"""What is kept of compiled kernels, and the plain path from end to end, each in a fresh Python."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Frame
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.settings import Settings

ROOT = Path(__file__).parents[3]


def run_python(code, folder, root=ROOT, **environment):
    """Run code in another Python, with a folder for kernels; return what it printed."""
    python = [sys.executable, "-W", "always::RuntimeWarning", "-c", code]
    variables = {"PYTHONPATH": str(root), "NUMBA_CACHE_DIR": str(folder), **environment}
    return subprocess.run(
        python,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture
def copy(tmp_path):
    """A copy of the package that a test may change."""
    root = tmp_path / "root"
    shutil.copytree(
        ROOT / "wrappers", root / "wrappers", ignore=shutil.ignore_patterns("*pycache*")
    )
    return root


IMPORT = """
import importlib, pkgutil, wrappers.peakfinding as package
for module in pkgutil.iter_modules(package.__path__):
    importlib.import_module(f"wrappers.peakfinding.{module.name}")
"""


@pytest.mark.parametrize("plain", ["0", "1"])
def test_an_import_writes_nothing(copy, tmp_path, plain):
    kernels = tmp_path / "kernels"
    kernels.mkdir()
    before = sorted(copy.rglob("*"))
    run_python(IMPORT, kernels, copy, SFX_TUNER_PLAIN_KERNELS=plain)
    assert sorted(copy.rglob("*")) == before
    assert not [path for path in kernels.rglob("*") if path.is_file()]  # Numba makes the folder


PACK = """
import json, numpy as np
from wrappers.peakfinding.peak_regions import no_bits, pack_unusable
bits = no_bits(200)
pack_unusable(np.arange(200) % 3 > 0, bits)
(stats,) = [pack_unusable.stats]
print(json.dumps([int(bits[0]), sum(stats.cache_hits.values())]))
"""


def packed(folder, root, plain):
    word, n_hits = json.loads(run_python(PACK, folder, root, SFX_TUNER_PLAIN_KERNELS=plain).stdout)
    return word, n_hits


def test_kernels_are_used_again_until_a_module_changes_and_never_by_the_other_path(copy, tmp_path):
    kernels = tmp_path / "kernels"
    kernels.mkdir()
    right = sum(1 << k for k in range(0, 64, 3))
    assert packed(kernels, copy, "1") == (right, 0)
    assert packed(kernels, copy, "0") == (right, 0)
    assert packed(kernels, copy, "1") == (right, 1)
    assert packed(kernels, copy, "0") == (right, 1)
    # What a kernel calls is compiled into it.
    module = copy / "wrappers" / "peakfinding" / "plain_vectors.py"
    module.write_text(module.read_text().replace("not flags[first + k]", "flags[first + k]"))
    assert packed(kernels, copy, "1") == ((1 << 64) - 1 - right, 0)


BROKEN = """
from llvmlite import ir
del ir.IRBuilder.cttz
from wrappers.peakfinding.vectors import PLAIN
print(PLAIN)
"""


def test_another_numba_inside_is_noticed_and_told_once(tmp_path):
    done = run_python(BROKEN, tmp_path)
    assert done.stdout.strip() == "True"
    assert done.stderr.count("RuntimeWarning") == 1
    assert "Numba" in done.stderr and "results are the same, but slower" in done.stderr


GEOMETRY = """
photon_energy = 9000
adu_per_photon = 1
clen = 0.1
res = 10000
data = /data
dim0 = %
dim1 = ss
dim2 = fs
""" + "".join(
    f"{name}/min_fs = 0\n{name}/max_fs = 149\n{name}/min_ss = {first}\n{name}/max_ss = {last}\n"
    f"{name}/corner_x = -75.3\n{name}/corner_y = {y}\n{name}/fs = x\n{name}/ss = y\n"
    for name, first, last, y in (("a", 0, 89, 2.0), ("b", 90, 149, -80.0))
)

SEARCH = """
import pickle, sys
from pathlib import Path
from wrappers.detector.geometry import Geometry
from wrappers.peakfinding.peakfinder8 import PeakFinder
frames, settings = pickle.loads(Path("cases").read_bytes())
finder = PeakFinder(Geometry.read("x.geom"))
found = [(finder.find(f, settings[0]), finder.prepare(f).find_all(settings)) for f in frames]
Path("found").write_bytes(pickle.dumps(found))
"""

SETTINGS = [
    Settings(min_snr=snr, threshold=10, min_pix_count=pixels, local_bg_radius=radius)
    for snr, pixels, radius in ((3, 1, 3), (2.5, 2, 5), (4, 3, 9), (2, 1, 2))
]


@pytest.mark.slow
def test_the_plain_path_finds_the_same_peaks_and_says_that_it_is_slower(tmp_path):
    (tmp_path / "x.geom").write_text(GEOMETRY)
    rng = np.random.default_rng(3)
    frames = []
    for dtype in ("i2", "f4"):
        data = rng.normal(20, 3, (150, 150))
        for ss, fs in rng.integers(0, 147, (40, 2)):
            data[ss : ss + 3, fs : fs + 2] += rng.uniform(5, 60)
        mask = rng.random(data.shape) < 0.98
        frames.append(Frame(data.astype(dtype), mask, 9000.0, 0.1, "x.h5", "//0"))
    (tmp_path / "cases").write_bytes(pickle.dumps((frames, SETTINGS)))
    done = run_python(SEARCH, tmp_path, SFX_TUNER_PLAIN_KERNELS="1")
    assert done.stderr.count("RuntimeWarning") == 1
    assert "SFX_TUNER_PLAIN_KERNELS" in done.stderr
    finder = PeakFinder(Geometry.read(tmp_path / "x.geom"))
    found = pickle.loads((tmp_path / "found").read_bytes())
    for frame, (first, prepared) in zip(frames, found, strict=True):
        assert len(first) > 20
        expected = finder.find(frame, SETTINGS[0]), finder.prepare(frame).find_all(SETTINGS)
        assert pickle.dumps((first, prepared)) == pickle.dumps(expected)

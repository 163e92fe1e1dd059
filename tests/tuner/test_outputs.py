"""No command replaces what it reads, or what is not its own."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import h5py
import pytest

from envs.simulation.simulator import RunPaths, demo_experiment, simulate_run
from tuner.fingerprint import fingerprint
from tuner.recommendation import Recommendation, write_recommendation
from wrappers.detector.geometry import Geometry
from wrappers.settings import Settings

SETTINGS = Settings(min_snr=5, threshold=100, min_pix_count=2, max_pix_count=50, min_peaks=10)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> RunPaths:
    return simulate_run(demo_experiment(seed=1), tmp_path_factory.mktemp("sim") / "run", 2)


@pytest.fixture
def here(simulated, tmp_path) -> Path:
    """A folder with a run, its links, a recommendation in a session, and a file of the user's."""
    for path in simulated.data.parent.iterdir():
        shutil.copy(path, tmp_path)
    provenance: dict[str, object] = {
        "geometry_clen": Geometry.read(tmp_path / "run.geom").camera_length(),
        "indexer": "fast 0.1.0",
    }
    for key, name in (("data", "run.h5"), ("geometry", "run.geom"), ("cell", "run.cell")):
        provenance |= {key: str(tmp_path / name), f"{key}_sha256": fingerprint(tmp_path / name)}
    (tmp_path / "session").mkdir()
    write_recommendation(
        Recommendation(SETTINGS, {}, provenance), tmp_path / "session" / "recommended.toml"
    )
    with h5py.File(tmp_path / "master.h5", "w") as file, h5py.File(tmp_path / "run.h5") as run:
        for name in run:
            file[name] = h5py.ExternalLink("run.h5", f"/{name}")
    (tmp_path / "soft.h5").symlink_to("run.h5")
    (tmp_path / "hard.h5").hardlink_to(tmp_path / "run.h5")
    (tmp_path / "notes.cxi").write_text("a day's work")
    return tmp_path


APPLY = ("apply", "session", "run.h5", "-j", 1, "--sample", 0, "-o")
PEAKS = ("peaks", "run.h5", "-g", "run.geom", "-j", 1, "-o")
LINKED = ("peaks", "master.h5", "-g", "run.geom", "-j", 1, "-o")
MASK = ("mask", "run.h5", "-g", "run.geom", "-o")
EXPORT = ("export", "session", "--to", "geom", "-o")
SCRIPT = ("export", "session", "--to", "crystfel", "-o")

ATTACKS = [
    *((APPLY, name) for name in ("run.h5", "soft.h5", "hard.h5", "run.geom", "./run.cell")),
    *((APPLY, name) for name in ("session/recommended.toml", "mask.h5", "notes.cxi")),
    *((PEAKS, name) for name in ("run.h5", "soft.h5", "hard.h5", "run.geom", "notes.cxi")),
    *((LINKED, name) for name in ("master.h5", "run.h5", "hard.h5")),
    *((MASK, name) for name in ("run.h5", "soft.h5", "hard.h5", "run.geom", "notes.cxi")),
    ((*MASK, "m.h5", "--geometry-out"), "run.geom"),
    ((*MASK, "m.h5", "--geometry-out"), "run.h5"),
    ((*MASK, "m.h5", "--picture"), "run.h5"),
    ((*MASK, "m.h5", "--picture"), "notes.cxi"),
    *((EXPORT, name) for name in ("run.h5", "run.geom", "run.cell", "session/recommended.toml")),
    *((SCRIPT, name) for name in ("run.h5", "hard.h5", "run.geom", "notes.cxi")),
    (("simulate", "--frames", 1, "--small", "-o"), "notes.cxi"),
    (("simulate", "--frames", 1, "--small", "-o"), "session"),
]


@pytest.mark.parametrize(("command", "output"), ATTACKS, ids=lambda each: str(each))
def test_what_is_there_stays(cli, here, command, output):
    def state() -> dict[str, str]:
        return {
            str(path.relative_to(here)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(here.rglob("*"))
            if path.is_file()
        }

    assert (here / output).exists()
    before = state()
    code, out, err = cli(*command, output)
    assert (code, out) == (2, ""), err
    assert len(err.strip().splitlines()) == 1
    assert state() == before, "nothing is changed, and nothing else is written"
    if output != "notes.cxi" and command[0] != "simulate":
        code, _, err = cli(*command, output, "--force")
        assert code == 2, "no force does it"
        assert state() == before


def test_what_stands_beside_an_output_has_a_name_of_its_own(cli, here):
    geometry = (here / "run.geom").read_bytes()
    for command, output in ((APPLY, "run.cxi"), (SCRIPT, "run.sh")):
        code, _, err = cli(*command, output)
        assert code == 0, err
    code, *_ = cli(*PEAKS, "peaks.cxi")
    assert code == 0
    assert (here / "run.geom").read_bytes() == geometry
    for name in ("run.cxi.geom", "run.sh.geom", "peaks.cxi.geom"):
        assert (here / name).exists()
    # A list of peaks is soon made again: no force is needed for another one.
    code, *_ = cli(*PEAKS, "peaks.cxi", "--threshold", 50)
    assert code == 0
    # But a geometry that somebody has edited since is somebody's.
    with (here / "peaks.cxi.geom").open("a") as file:
        file.write("; moved by hand\n")
    code, _, err = cli(*PEAKS, "peaks.cxi")
    assert code == 2 and "peaks.cxi.geom exists already" in err
    assert (here / "peaks.cxi.geom").read_text().endswith("by hand\n")
    code, *_ = cli(*PEAKS, "peaks.cxi", "--force")
    assert code == 0
    code, _, err = cli(*PEAKS, "run.cxi")
    assert code == 2 and "exists already" in err, "hits are not"
    code, _, err = cli(*APPLY, "notes.cxi", "--force")
    assert code == 0, err

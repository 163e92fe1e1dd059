"""The job that refines the geometry with ``align_detector``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from envs.simulation.simulator import demo_experiment, simulate_run
from tests.tuner.export.test_exporters import exported, folder, recommendation_of
from tuner.fingerprint import fingerprint
from tuner.recommendation import Recommendation
from wrappers.detector.geometry import Geometry
from wrappers.settings import Settings

assert folder  # a fixture


def run_script(out: Path, path: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [out / "align.sh", "--camera-length"],
        env={**os.environ, "PATH": path, **env},
        cwd=out,
        capture_output=True,
        text=True,
        timeout=300,
    )


def stand_in(path: Path, text: str = "") -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_the_script_says_what_is_missing_before_it_indexes(folder, tmp_path):
    exported(recommendation_of(folder), "align_detector", tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    stand_in(programs / "indexamajig", "touch indexed")
    done = run_script(tmp_path, f"{programs}:/usr/bin:/bin")
    assert done.returncode == 1 and "no align_detector" in done.stderr
    stand_in(programs / "align_detector")
    done = run_script(tmp_path, f"{programs}:/usr/bin:/bin")
    assert done.returncode == 1 and "needs pede" in done.stderr
    assert not (tmp_path / "indexed").exists()
    stand_in(programs / "pede")
    assert run_script(tmp_path, f"{programs}:/usr/bin:/bin").returncode == 0
    assert (tmp_path / "indexed").exists()


def test_align_detector_is_told_where_everything_is(folder, tmp_path):
    exported(recommendation_of(folder), "align_detector", tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    (tmp_path / "align.sh.mille").mkdir()
    (tmp_path / "align.sh.mille" / "stale.bin").touch()
    stand_in(programs / "indexamajig", 'printf "%s\\n" "$@" > given; touch align.sh.mille/a.bin')
    stand_in(programs / "align_detector", 'pwd; printf "%s\\n" "$@"')
    stand_in(programs / "pede")
    done = run_script(tmp_path, f"{programs}:/usr/bin:/bin", LEVEL="2")
    assert done.stdout.splitlines() == [
        str(tmp_path / "align.sh.mille"),
        *("-g", str(tmp_path / "align.sh.geom")),
        *("-o", str(tmp_path / "align.sh.aligned.geom")),
        *("-l", "2"),
        "--camera-length",
        "a.bin",
    ]
    given = (tmp_path / "given").read_text().splitlines()
    assert given[-2:] == ["--mille", "--mille-dir=align.sh.mille"]


def test_indexing_without_refinement_has_nothing_to_align_by(folder, tmp_path):
    known = {
        "indexer_name": "crystfel",
        "indexer_method": "asdf",
        "indexer_options": ["--no-refine", "--multi"],
    }
    text = exported(recommendation_of(folder, **known), "align_detector", tmp_path)
    command = text.split("\nindexamajig ")[1]
    assert "--no-refine" not in command and "--multi" in command
    assert "Note: --no-refine is left out" in text.replace("\n# ", " ")


@pytest.mark.crystfel
@pytest.mark.slow
def test_a_panel_that_is_off_is_put_back(indexamajig, tmp_path):
    """The real programs; ``pede`` is Millepede-II's, beside CrystFEL's or on the PATH."""
    programs = Path(indexamajig).parent
    if not (programs / "pede").exists() and not shutil.which("pede"):
        pytest.skip("needs Millepede's pede beside align_detector or on the PATH")
    paths = simulate_run(demo_experiment(seed=4), tmp_path / "run", 40)
    right = Geometry.read(paths.geometry)
    text = paths.geometry.read_text()
    first = right.panels[0]
    wrong, n = re.subn(rf"({first.name}/corner_x = ).*", rf"\g<1>{first.corner_x + 1.5:.3f}", text)
    assert n == 1 and len(right.panels) > 1
    (tmp_path / "wrong.geom").write_text(
        wrong.replace("mask.h5", str(paths.geometry.parent / "mask.h5"))
    )
    settings = Settings(
        min_snr=4.5, threshold=25.0, min_pix_count=2, max_pix_count=50, min_res=10, clen=0.08
    )
    known = {
        "indexer": "CrystFEL 0.12.0, xgandalf",
        "geometry_clen": 0.08,
        "data": str(paths.data),
        "geometry": str(tmp_path / "wrong.geom"),
        "geometry_sha256": fingerprint(tmp_path / "wrong.geom"),
        "cell": str(paths.cell),
    }
    exported(Recommendation(settings, {}, known), "align_detector", tmp_path)
    done = run_script(tmp_path, f"{programs}:{os.environ['PATH']}", JOBS="1")
    assert done.returncode == 0, done.stderr
    aligned = Geometry.read(tmp_path / "align.sh.aligned.geom")

    def gap(geometry: Geometry) -> float:
        """How far the first panel is beyond the second, in pixels along x."""
        return geometry.panels[0].corner_x - geometry.panels[1].corner_x

    off = np.array([gap(Geometry.read(tmp_path / "wrong.geom")), gap(aligned)]) - gap(right)
    assert off[0] == pytest.approx(1.5) and abs(off[1]) < 0.3

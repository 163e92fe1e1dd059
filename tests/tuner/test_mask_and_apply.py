"""``sfx-tuner mask``, ``apply`` and the settings' masks, as a user meets them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from envs.simulation.simulator import RunPaths, demo_experiment, simulate_run
from tuner.fingerprint import fingerprint
from tuner.recommendation import Recommendation, read_recommendation, write_recommendation
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.settings import Settings

FRAMES = 16
SETTINGS = Settings(min_snr=5, threshold=100, min_pix_count=2, max_pix_count=50, min_peaks=10)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> RunPaths:
    """A small run with hot, noisy and dead pixels; read-only."""
    return simulate_run(demo_experiment(seed=1), tmp_path_factory.mktemp("sim") / "run", FRAMES)


@pytest.fixture
def recommended(simulated, tmp_path) -> Path:
    def text(name: str) -> str:
        return str(getattr(simulated, name))

    provenance = {
        "geometry_clen": Geometry.read(simulated.geometry).camera_length(),
        "indexer": "fast 0.1.0",
        **{
            key: value
            for name in ("data", "geometry", "cell")
            for key, value in (
                (name, text(name)),
                (f"{name}_sha256", fingerprint(getattr(simulated, name))),
            )
        },
    }
    path = tmp_path / "recommended.toml"
    write_recommendation(Recommendation(SETTINGS, {}, provenance), path)
    return path


def test_mask(cli, simulated, tmp_path):
    code, out, _ = cli(
        "mask", simulated.data, "-g", simulated.geometry, "-o", "mask.h5",
        *("--geometry-out", "masked.geom", "--picture", "mask.png", "--edge", 1, "--json"),
    )  # fmt: skip
    assert code == 0
    result = json.loads(out)
    assert result["n_frames"] == FRAMES
    assert result["written"] == ["mask.h5", "masked.geom", "mask.png"]
    assert result["masked"]["hot"] > 10 and result["masked"]["edge"] > 1000
    with h5py.File("mask.h5") as file:
        bits = file["mask"][()]
        assert file["mask"].attrs["hot_sigma"] == 5
        assert dict(file["mask"].attrs)["bit_dead"] == 8
    run = Run.open(simulated.data, Geometry.read("masked.geom"))
    np.testing.assert_array_equal(run[0].mask, bits == 0)
    assert (bits == 0).sum() + result["masked"]["geometry"] + result["newly_masked"] == bits.size
    assert Path("mask.png").stat().st_size > 10_000


def test_mask_prints_the_lines_for_the_geometry(cli, simulated, tmp_path):
    code, out, _ = cli("mask", simulated.data, "-g", simulated.geometry, "-o", "mask.h5")
    assert code == 0
    assert f"_file = {tmp_path / 'mask.h5'}" in out
    assert "hot          2        5 σ" in out


def test_mask_refuses_what_cannot_work(cli, simulated):
    code, _, err = cli(
        "mask", simulated.data, "-g", simulated.geometry, "-o", "m.h5",
        *("--geometry-out", simulated.geometry),
    )  # fmt: skip
    assert code == 2 and "is read by this command" in err
    code, _, err = cli("mask", simulated.data, "-g", simulated.geometry, "-o", "no/m.h5")
    assert code == 2 and "its directory does not exist" in err


def test_peaks_take_the_mask_from_the_data_or_a_file(cli, simulated, tmp_path):
    cli("mask", simulated.data, "-g", simulated.geometry, "-o", "mask.h5")
    common = ("peaks", simulated.data, "-g", simulated.geometry, "-o", "p.cxi", "-j", 1, "--json")
    loose = ("--threshold", 100, "--min-pix-count", 1)
    counts = {}
    for name, extra in {
        "none": (),
        "data": ("--mask-hot-sigma", 5, "--mask-noisy-sigma", 5),
        "file": ("--mask-hot-sigma", 5, "--mask-noisy-sigma", 5, "--mask", "mask.h5"),
        "file, no threshold": ("--mask", "mask.h5"),
    }.items():
        code, out, err = cli(*common, *loose, *extra)
        assert code == 0, err
        counts[name] = json.loads(out)["n_peaks"]
    assert counts["none"] == counts["file, no threshold"]
    assert counts["data"] == counts["file"] < counts["none"] - 10 * FRAMES


def test_index_takes_a_mask(cli, simulated):
    code, out, err = cli(
        *("index", simulated.data, "-g", simulated.geometry, "-p", simulated.cell, "-j", 1),
        *("--indexer", "fast", "--threshold", 100, "--mask-hot-sigma", 5, "--json"),
    )
    assert code == 0, err
    assert json.loads(out)["settings"]["mask_hot_sigma"] == 5


def test_apply(cli, simulated, recommended):
    code, out, err = cli("apply", recommended, simulated.data, "-o", "hits.cxi", "-j", 1, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert (result["n_frames"], result["n_unreadable"]) == (FRAMES, 0)
    assert result["reduction_factor"] == pytest.approx(FRAMES / result["n_hits"])
    sample = result["sample"]
    assert sample["n_frames"] == FRAMES
    assert sample["n_kept"] > 0
    assert sample["n_kept"] + sample["n_lost"] <= FRAMES
    again = ("apply", recommended, simulated.data, "-o", "hits.cxi", "--virtual", "-j", 1)
    code, _, err = cli(*again)
    assert code == 2 and "exists already" in err and "--force" in err
    code, out, _ = cli(*again, "--force")
    assert code == 0
    assert f"{sample['n_kept']} kept, {sample['n_lost']} lost" in out
    code, out, _ = cli(
        "apply", recommended, simulated.data, "-o", "hits.cxi", "--virtual", "--resume"
    )
    assert f"{FRAMES} frames were done before" in out


def test_apply_says_why_nothing_is_indexed(cli, simulated, recommended):
    text = recommended.read_text().replace(str(simulated.cell), "/gone.cell")
    recommended.write_text(text)
    code, out, err = cli("apply", recommended, simulated.data, "-o", "hits.cxi", "-j", 1)
    assert code == 0
    assert "the session's cell is gone, name it with -p" in err
    assert "kept" not in out


def test_apply_wants_a_run_or_a_folder(cli, recommended, tmp_path):
    code, _, err = cli("apply", recommended, "-o", "hits.cxi")
    assert code == 2 and "give either DATA, one run, or --watch" in err
    code, _, err = cli("apply", recommended, "run.h5", "--watch", tmp_path, "-o", "hits")
    assert code == 2 and "give either DATA" in err


def test_apply_refuses_options_that_it_would_pass_over(cli, recommended):
    stream = "growing+file:///nosuch.h5"
    for data, options, words in (
        (stream, ("--resume",), "leave out --resume with a stream"),
        (stream, ("--virtual", "--force"), "--virtual and --force with a stream"),
        (stream, ("--settle", 5), "leave out --settle with one run"),
        ("run.h5", ("--pattern", "*.h5"), "leave out --pattern with one run"),
    ):
        code, _, err = cli("apply", recommended, data, "-o", "hits", *options)
        assert code == 2 and words in " ".join(err.split())


def test_watch(cli, simulated, recommended, tmp_path):
    (tmp_path / "raw").mkdir()
    os.link(simulated.data, tmp_path / "raw" / "r1.h5")
    code, out, err = cli(
        *("apply", recommended, "--watch", "raw", "-o", "hits", "--settle", 0, "--idle", 1),
        *("-j", 1, "--json"),
    )
    assert code == 0, err
    line = json.loads(out)
    assert line["file"].endswith("r1.h5")
    assert line["sample"]["n_frames"] == FRAMES
    assert Path(line["hits"]).exists()


def test_a_watch_takes_up_a_new_set_and_ends_by_ctrl_c(simulated, recommended, tmp_path):
    (tmp_path / "raw").mkdir()
    command = [
        sys.executable, "-c", "from tuner.cli import main; main()", "apply", str(recommended),
        "--watch", "raw", "-o", "hits", "--settle", "0", "--sample", "0", "-j", "1", "--json",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        os.link(simulated.data, tmp_path / "raw" / "r1.h5")
        first = json.loads(process.stdout.readline())
        recommended.write_text(recommended.read_text().replace("min_peaks = 10", "min_peaks = 0"))
        os.link(simulated.data, tmp_path / "raw" / "r2.h5")
        second = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.returncode == 130
    finally:
        process.kill()
        process.wait()
    assert first["sets"][0]["settings"]["min_peaks"] == 10
    assert second["sets"][0]["settings"]["min_peaks"] == 0
    assert first["n_hits"] < second["n_hits"] == FRAMES


def test_a_session_that_tunes_the_mask(cli, simulated, tmp_path):
    arguments = (
        *("tune", simulated.data, "-g", simulated.geometry, "-p", simulated.cell, "-o", "session"),
        *("--indexer", "fast", "-j", 1, "--tune", "min_snr,threshold,mask_hot_sigma"),
    )
    code, _, err = cli(*arguments, "--evaluations", 4)
    assert code == 0, err
    before = Path("session/bad_pixels.h5").read_bytes()
    code, out, err = cli(*arguments, "--evaluations", 5, "--resume", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["settings"]["mask_hot_sigma"] >= 4
    assert result["provenance"]["bad_pixels"] == str(tmp_path / "session" / "bad_pixels.h5")
    assert Path("session/bad_pixels.h5").read_bytes() == before
    code, out, _ = cli("export", "session", "--to", "crystfel", "-o", "index.sh")
    assert code == 0 and "index.sh.mask.h5" in out
    exported = Run.open(simulated.data, Geometry.read("index.sh.geom"))
    plain = Run.open(simulated.data, Geometry.read(simulated.geometry))
    assert 10 < plain[0].mask.sum() - exported[0].mask.sum() < 1000
    code, out, _ = cli("apply", "session", simulated.data, "-o", "h.cxi", "--sample", 0, "--json")
    assert code == 0
    assert json.loads(out)["settings"]["mask_hot_sigma"] >= 4


def test_a_recommendation_from_before_there_were_masks(tmp_path):
    (tmp_path / "recommended.toml").write_text("[settings]\nmin_snr = 4.5\nclen = 0.08\n")
    settings = read_recommendation(tmp_path).settings
    assert settings == Settings(min_snr=4.5, clen=0.08)
    assert settings.mask_key == (0, 0, 0, 0)

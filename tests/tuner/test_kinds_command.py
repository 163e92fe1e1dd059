"""``sfx-tuner kinds`` and ``apply --veto kinds``, as a user meets them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from envs.simulation.experiment import BackgroundModel, BadPixels, Crystals, OddFrames
from envs.simulation.simulator import RunPaths, demo_experiment, read_truth, simulate_run
from tuner.fingerprint import fingerprint
from tuner.recommendation import Recommendation, write_recommendation
from wrappers.detector.geometry import Geometry
from wrappers.frame_kinds import VETOED
from wrappers.settings import Settings

FRAMES = 48
SETTINGS = Settings(min_snr=5, threshold=100, min_pix_count=2, max_pix_count=50, min_peaks=10)
ODD = OddFrames((("beam off", 0.2), ("detector fault", 0.15), ("powder or ice ring", 0.2)))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> RunPaths:
    """A small run with the beam off, a detector at fault and ice rings now and then."""
    experiment = dataclasses.replace(
        demo_experiment(seed=21),
        crystals=Crystals(hit_fraction=0.5, photons=3000, photons_spread=0.4, multi_fraction=0),
        background=BackgroundModel(level=2.0, jitter=0.2),
        bad_pixels=BadPixels(masked=1.0),
        odd=ODD,
    )
    return simulate_run(experiment, tmp_path_factory.mktemp("sim") / "run", FRAMES)


@pytest.fixture
def recommended(simulated, tmp_path) -> Path:
    provenance = {
        "geometry_clen": Geometry.read(simulated.geometry).camera_length(),
        "indexer": "fast 0.1.0",
        **{
            key: value
            for name in ("data", "geometry", "cell")
            for key, value in (
                (name, str(getattr(simulated, name))),
                (f"{name}_sha256", fingerprint(getattr(simulated, name))),
            )
        },
    }
    path = tmp_path / "recommended.toml"
    write_recommendation(Recommendation(SETTINGS, {}, provenance), path)
    return path


def test_kinds(cli, simulated):
    truth = [each.kind for each in read_truth(simulated.truth)]
    asked = ("kinds", simulated.data, "-g", simulated.geometry, "-j", 1)
    code, out, err = cli(*asked, "-o", "kinds.json", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert (document["n_frames"], document["n_unreadable"], document["new"]) == (FRAMES, 0, [])
    told = {row["kind"]: row for row in document["kinds"]}
    assert told["beam off"]["n_frames"] == truth.count("beam off") > 0
    assert sum(row["share"] for row in told.values()) == pytest.approx(1)
    for row in told.values():
        assert row["ci95"][0] <= row["share"] <= row["ci95"][1]
        assert row["meaning"] and set(row["examples"]) <= set(range(FRAMES))
    assert [each["frame"] for each in document["frames"]] == list(range(FRAMES))
    assert set(json.loads(Path("kinds.json").read_text())["kinds"]) == set(told)
    code, out, _ = cli(*asked, "--kinds", "kinds.json", "-o", "kinds.json")
    assert code == 0
    assert "beam off" in out and "no light" in out and "new:" not in out
    code, _, err = cli(*asked, "-o", "kinds.json")
    assert code == 2 and "exists already" in err
    Path("kinds.json").write_text("{}")
    code, _, err = cli(*asked, "--kinds", "kinds.json")
    assert code == 2 and "kinds.json" in err and "make it anew" in err


def test_apply_drops_by_kind_and_says_so(cli, simulated, recommended):
    truth = [each.kind for each in read_truth(simulated.truth)]
    common = ("apply", recommended, simulated.data, "--sample", 0, "-j", 1, "--json")
    code, out, err = cli(*common, "-o", "all.cxi")
    assert code == 0, err
    plain = json.loads(out)
    assert plain["kinds"] is None and plain["n_vetoed"] == 0
    code, out, err = cli(*common, "-o", "hits.cxi", "--veto", "kinds", "--kinds", "kinds.json")
    assert code == 0, err
    result = json.loads(out)
    assert sum(result["kinds"].values()) == FRAMES
    assert 0 < result["n_vetoed"] <= sum(kind in VETOED for kind in truth)
    with h5py.File("hits.cxi") as hits, h5py.File("all.cxi") as everything:
        kinds = [each.decode() for each in hits["/sfx_tuner/frames/kind"][()]]
        dropped = {i for i, kind in enumerate(kinds) if kind in VETOED}
        assert {truth[i] for i in dropped} <= set(VETOED)
        kept, before = (set(f["/sfx_tuner/hits/frame"][()].tolist()) for f in (hits, everything))
        assert kept <= before and before - kept <= dropped
        # What is left out is not searched; the others are as they were.
        n, m = (f["/sfx_tuner/frames/n_peaks"][()] for f in (hits, everything))
        same = [i for i in range(FRAMES) if i not in dropped]
        np.testing.assert_array_equal(n[same], m[same])
    assert Path("kinds.json").exists()
    # The next run is told by what this one has taught.
    again = ("apply", recommended, simulated.data, "--sample", 0, "-j", 1)
    code, out, _ = cli(*again, "-o", "more.cxi", "--kinds", "kinds.json")
    assert code == 0
    assert "kinds of frames: " in out and "beam off" in out and "left out" not in out


def test_a_resumed_reduction_keeps_to_its_kinds(cli, simulated, recommended):
    common = ("apply", recommended, simulated.data, "-o", "hits.cxi", "--sample", 0, "-j", 1)
    assert cli("kinds", simulated.data, "-g", simulated.geometry, "-o", "k.json", "-j", 1)[0] == 0
    code, first, err = cli(*common, "--veto", "kinds", "--kinds", "k.json")
    assert code == 0, err
    learnt = Path("k.json").read_text()
    code, out, err = cli(*common, "--veto", "kinds", "--kinds", "k.json", "--resume")
    assert code == 0, err
    assert f"{FRAMES} frames were done before" in out
    said = [
        [line for line in each.splitlines() if "kinds of frames" in line] for each in (first, out)
    ]
    assert said[0] == said[1] != [], "the kinds are those that it was done with"
    assert Path("k.json").read_text() == learnt, "no frame is learnt twice"


@pytest.mark.parametrize(
    ("kinds", "why"),
    [
        ("hits.cxi", "written twice"),
        ("hits.cxi.geom", "written twice"),
        ("gone/k.json", "does not exist"),
        ("run.h5", "is read by"),
    ],
)
def test_the_file_of_the_kinds_replaces_nothing(cli, simulated, recommended, kinds, why):
    file = simulated.data if kinds == "run.h5" else Path(kinds)
    before = simulated.data.read_bytes()
    common = ("apply", recommended, simulated.data, "-o", "hits.cxi", "--sample", 0, "-j", 1)
    code, _, err = cli(*common, "--kinds", file)
    assert code == 2 and why in err
    assert not Path("hits.cxi").exists(), "before anything is reduced"
    assert simulated.data.read_bytes() == before


def test_the_session_s_kinds_are_used_whatever_of_it_is_named(cli, simulated, recommended):
    kept = recommended.parent / "kinds.json"
    assert cli("kinds", simulated.data, "-g", simulated.geometry, "-o", kept, "-j", 1)[0] == 0
    document = json.loads(kept.read_text())
    kept.write_text(json.dumps({**document, "shape": [3, 4]}))
    common = (simulated.data, "-o", "hits.cxi", "--sample", 0, "-j", 1, "--veto", "kinds")
    for named in (recommended, recommended.parent):
        code, _, err = cli("apply", named, *common)
        assert code == 2 and "kinds.json" in err and "(3, 4)" in err


def test_odd_frames_are_simulated_as_asked(cli):
    asked = ("simulate", "--small", "--frames", 8, "--odd", "beam off=1", "--odd-since", 3)
    code, _, err = cli(*asked, "-o", "run")
    assert code == 0, err
    kinds = [each.kind for each in read_truth(Path("run/truth.h5"))]
    assert kinds[3:] == ["beam off"] * 5 and "beam off" not in kinds[:3]
    for wrong, why in (("rust=0.1", "is none of"), ("salt", "no kind and share"), ("salt=2", "0")):
        code, _, err = cli("simulate", "--small", "--odd", wrong, "-o", "other")
        assert code == 2 and why in err


def test_a_stream_is_told_by_kind(cli, simulated, recommended):
    truth = [each.kind for each in read_truth(simulated.truth)]
    stream = f"growing+file://{simulated.data}"
    common = ("apply", recommended, stream, "-g", simulated.geometry, "--sample", 0, "-j", 2)
    common += ("--idle", 0.5, "--block", 20, "--json", "--kinds", "k.json")
    code, out, err = cli(*common, "-o", "hits", "--veto", "kinds")
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert sum(line["n_frames"] for line in lines) == FRAMES and len(lines) == 3
    kinds, n_peaks = [], []
    for line in lines:
        with h5py.File(line["output"]) as file:
            kinds += file["/sfx_tuner/frames/kind"].asstr()[()].tolist()
            n_peaks += file["/sfx_tuner/frames/n_peaks"][()].tolist()
        assert sum(line["kinds"].values()) == line["n_frames"]
    dropped = [i for i, kind in enumerate(kinds) if kind in VETOED]
    assert {truth[i] for i in dropped} <= {*VETOED} and dropped
    n_vetoed = sum(line["n_vetoed"] for line in lines)
    assert 0 < n_vetoed <= len(dropped)
    assert sum(n_peaks[i] == 0 for i in dropped) >= n_vetoed
    # The first frames made the kinds, and are not learnt a second time; those that follow are.
    assert json.loads(Path("k.json").read_text())["n_frames"] == FRAMES
    code, out, err = cli(*common, "-o", "more")
    assert code == 0, err
    assert json.loads(Path("k.json").read_text())["n_frames"] == 2 * FRAMES
    assert all(json.loads(line)["n_vetoed"] == 0 for line in out.splitlines())
    code, _, err = cli(*common[:-1], recommended, "-o", "hits")
    assert code == 2 and "recommended.toml" in err, "the kinds replace nothing"


def test_a_run_that_is_given_twice_counts_once(cli, simulated, recommended):
    asked = ("kinds", simulated.data, "-g", simulated.geometry, "-j", 1)
    assert cli(*asked, "-o", "k.json")[0] == 0
    learnt = Path("k.json").read_text()
    code, out, _ = cli(*asked, "--kinds", "k.json", "-o", "k.json")
    assert code == 0 and "was learnt before" in out
    assert Path("k.json").read_text() == learnt
    common = ("apply", recommended, simulated.data, "-o", "hits.cxi", "--sample", 0, "-j", 1)
    code, _, err = cli(*common, "--kinds", "k.json")
    assert code == 0, err
    assert Path("k.json").read_text() == learnt

"""The learned peak finder from the command line: sessions, and all that takes their set."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import h5py
import pytest

import sfx_tuner
from envs.parameter_space import usually_tuned
from envs.simulation.simulator import RunPaths, simulate_run
from tests.wrappers.spots.test_model import small_model
from tuner.apply.applying import changed_model
from tuner.fingerprint import fingerprint
from tuner.recommendation import read_recommendation
from tuner.session.budget import Budget
from tuner.session.config import SessionConfig
from tuner.session.request import Request
from tuner.session.store import SessionStore
from tuner.spots.refining import refine_spots
from tuner.tuning import tune
from wrappers.errors import InputError
from wrappers.extras import missing
from wrappers.indexers import IndexerChoice
from wrappers.spots.model import SHIPPED, SpotModel

FRAMES = 24


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> RunPaths:
    from envs.simulation.experiment import demo_experiment

    return simulate_run(demo_experiment(seed=1), tmp_path_factory.mktemp("learned") / "run", FRAMES)


needs_torch = pytest.mark.skipif(bool(missing("train", "torch")), reason="needs PyTorch")


def tune_arguments(paths: RunPaths, *more: object) -> list[object]:
    return [
        *("tune", paths.data, "-g", paths.geometry, "-p", paths.cell, "-o", "session"),
        *("--indexer", "fast", "--evaluations", 5, "--no-cell-check", "-j", 1, *more),
    ]


@pytest.fixture(scope="module")
def session(simulated, tmp_path_factory) -> tuple[dict, Path]:
    """A session, begun from Python."""
    folder = tmp_path_factory.mktemp("learned") / "session"
    request = Request(
        simulated.data, simulated.geometry, simulated.cell, searcher="tpe", n_frames=FRAMES,
        tuned=usually_tuned(peak_finder="learned"), peak_finder="learned",
        indexer=IndexerChoice("fast"), seed=1,
    )  # fmt: skip
    found = tune(request, folder, budget=Budget(6), cell_check=False, find_geometry=False)
    assert found is not None
    return found.as_dict(), folder


def test_a_session_tunes_the_least_probability(session):
    result, folder = session
    settings = result["settings"]
    assert settings["peak_finder"] == "learned" and 0.02 <= settings["min_probability"] <= 0.98
    assert "min_snr" not in settings and "threshold" not in settings
    assert result["provenance"]["tuned"][:2] == ["min_probability", "clen"]
    assert result["evidence"]["indexing_rate"] > result["evidence"]["baseline_rate"]
    trials = [trial.evaluation.settings for trial in SessionStore.open(folder).trials]
    assert [each.peak_finder for each in trials[:2]] == 2 * ["peakfinder8"]
    tried = {each.min_probability for each in trials[2:] if each.peak_finder == "learned"}
    assert len(tried) >= 3
    table = sfx_tuner.Session.open(folder).trials
    is_learned = table["peak_finder"] == "learned"
    assert (table["min_probability"].notna() == is_learned).all() and is_learned.sum() >= 3
    assert (table["min_snr"].notna() == ~is_learned).all()
    report = (folder / "report.html").read_text()
    assert "min_probability" in report and "--peaks=cxi" in report


def test_everything_that_takes_the_set_finds_the_same_peaks(cli, simulated, session):
    result, folder = session
    common = (simulated.data, "-g", simulated.geometry, "--settings", folder, "-j", 1)
    code, out, err = cli("peaks", *common, "-o", "peaks.cxi", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["settings"] == result["settings"]
    code, out, _ = cli("index", *common, "-p", simulated.cell, "--indexer", "fast", "--json")
    assert code == 0
    indexed = json.loads(out)
    assert indexed["n_indexed"] == result["evidence"]["n_indexed"]
    code, out, _ = cli("apply", folder, simulated.data, "-o", "hits.cxi", "-j", 1, "--json")
    assert code == 0
    assert json.loads(out)["n_hits"] == found["n_hits"] == indexed["n_hits"]
    with h5py.File("hits.cxi") as hits:
        attributes = hits["entry_1/result_1"].attrs
        assert attributes["peak_finder"] == "learned"
        assert attributes["min_probability"] == result["settings"]["min_probability"]
    code, _, err = cli("export", folder, "--to", "crystfel")
    assert code == 2 and "which indexamajig does not have" in err and "--peaks=cxi" in err
    assert cli("export", folder, "--to", "json", "-o", "set.json")[0] == 0
    assert json.loads(Path("set.json").read_text())["settings"] == result["settings"]
    run = sfx_tuner.open_run(simulated.data, simulated.geometry)
    lists = sfx_tuner.find_peaks(run, sfx_tuner.Settings.from_dict(result["settings"]))
    assert sum(map(len, lists)) == found["n_peaks"]


def test_settings_that_mean_nothing_are_refused(cli, simulated):
    common = ("peaks", simulated.data, "-g", simulated.geometry, "-o", "p.cxi", "-j", 1)
    code, _, err = cli(*common, "--peaks", "learned", "--min-snr", 4)
    assert code == 2 and "min_snr means nothing to the learned peak finder" in err
    code, _, err = cli(*common, "--min-probability", 0.4)
    assert code == 2 and "min_probability means nothing to the peakfinder8 peak finder" in err
    code, _, err = cli(*tune_arguments(simulated, "--peaks", "learned", "--tune", "threshold"))
    assert code == 2 and "threshold means nothing to the learned peak finder" in err
    code, _, err = cli(*tune_arguments(simulated, "--peaks", "learned", "--set", "min_snr=4"))
    assert code == 2 and "min_snr means nothing to the learned peak finder" in err
    code, _, err = cli(*tune_arguments(simulated, "--tune", "min_probability"))
    assert code == 2 and "min_probability means nothing to the peakfinder8 peak finder" in err
    assert not Path("p.cxi").exists() and not Path("session").exists()


def test_a_model_of_ones_own(cli, simulated):
    small_model().save(Path("mine"))
    common = ("peaks", simulated.data, "-g", simulated.geometry, "-o", "p.cxi", "-j", 1, "--json")
    code, out, err = cli(*common, "--peaks", "learned:mine", "--min-probability", 0.3)
    assert code == 0, err
    assert json.loads(out)["settings"]["peak_finder"] == f"learned:{Path('mine').resolve()}"
    code, _, err = cli(*common, "--peaks", "learned:nowhere")
    assert code == 2 and "no spot model can be read from" in err
    Path("mine/spots.safetensors").write_bytes(b"\x80\x04K\x01.")  # a pickle
    code, _, err = cli(*common, "--peaks", "learned:mine")
    assert code == 2 and "its SHA-256 differs" in err and "Traceback" not in err
    code, _, err = cli(*tune_arguments(simulated, "--peaks", "learned:mine"))
    assert code == 2 and "its SHA-256 differs" in err


def test_a_session_knows_the_model_that_it_used(cli, simulated, session, tmp_path):
    result, folder = session
    known = result["provenance"]["spots_sha256"]
    assert known == fingerprint(SHIPPED / "spots.safetensors")
    mine = shutil.copytree(folder, tmp_path / "session")
    assert not changed_model(read_recommendation(mine))
    for name in ("recommended.toml", "session.json"):
        (mine / name).write_text((mine / name).read_text().replace(known, "sha256:0123"))
    # It says so before anything else, such as that the folder of the hits is not there.
    code, _, err = cli("apply", mine, simulated.data, "-j", 1, "-o", "nowhere/hits.cxi")
    assert code == 2 and "its directory does not exist" in err
    assert "the model of --peaks learned is no longer the one that the session was" in err
    code, _, err = cli("tune", "--resume", mine)
    assert code == 2 and "was begun with spots_sha256 = sha256:0123" in err


def test_a_session_that_does_not_say_its_model_can_be_resumed(session):
    _, folder = session
    begun = SessionConfig.read(folder / "session.json")
    assert begun.spots_sha256
    earlier = dataclasses.replace(begun, spots_sha256=None)
    earlier.refuse_other(begun, folder)
    with pytest.raises(InputError, match="was begun with spots_sha256"):
        begun.refuse_other(dataclasses.replace(begun, spots_sha256="sha256:0"), folder)


@needs_torch
def test_a_session_refines_the_shipped_model(cli, session):
    _, folder = session
    code, out, err = cli("train", "--spots", folder, "-o", "refined", "-j", 1, "--json")
    assert code == 0, err
    found = json.loads(out)
    refined, shipped = SpotModel.load(Path("refined")), SpotModel.load()
    same = (refined.weights[0] == shipped.weights[0]).all()
    assert same == (not found["kept"])
    assert sum(found["frames"]) >= 10 and SHIPPED.exists()
    before, after = found["held_out_indexed"]
    if found["kept"]:
        assert found["gain"] > found["gain_se"] and max(after) >= max(before)
        assert refined.provenance["refined"]["begun_with"] == shipped.provenance
    else:
        assert refined.provenance == shipped.provenance
    assert 0 < max(before) <= FRAMES / 3 + 1
    # It is there now, and not replaced.
    code, _, err = cli("train", "--spots", folder, "-o", "refined", "-j", 1)
    assert code == 2 and "holds a file spots.json already" in err


@needs_torch
def test_a_model_in_use_is_what_is_refined(session, tmp_path, monkeypatch):
    _, folder = session
    small_model().save(tmp_path / "mine")
    mine = shutil.copytree(folder, tmp_path / "session")
    file = mine / "recommended.toml"
    named = f'peak_finder = "learned:{tmp_path / "mine"}"'
    file.write_text(file.read_text().replace('peak_finder = "learned"', named))
    begun = []

    def load(directory=SHIPPED):
        begun.append(directory)
        raise InputError("far enough")

    monkeypatch.setattr(SpotModel, "load", load)
    with pytest.raises(InputError, match="far enough"):
        refine_spots(mine, tmp_path / "out")
    assert begun == [tmp_path / "mine"]


@needs_torch
def test_a_file_in_place_of_the_model_is_kept(cli):
    Path("out").write_text("mine")
    code, _, err = cli("train", "--spots", "-o", "out")
    assert code == 2 and "the directory out cannot be made" in err
    assert Path("out").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--spots", "nowhere", "-o", "out"], "nowhere"),
        (["--spots", "-o", "out", "--steps", "5"], "train --spots has no --steps"),
        (["--spots", "x", "-o", "out", "--experiments", "5"], "renders no experiments"),
        (["--spots", "", "-o", "out"], "--spots '' names no session"),
        (["--spots", "-o", "out", "-j", "2"], "train --spots has no -j"),
    ],
)
def test_what_train_spots_refuses(cli, arguments, words):
    code, _, err = cli("train", *arguments)
    assert code == 2 and words in err and not Path("out").exists()

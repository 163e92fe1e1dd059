"""Several samples tuned from one file."""

from __future__ import annotations

import json
import tomllib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from envs.simulation.simulator import RunPaths, demo_experiment, simulate_run
from tuner.cli.night import Sample, read_night
from tuner.cli.tune import command
from wrappers.workers import worker_processes

FRAMES = 16


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> RunPaths:
    return simulate_run(demo_experiment(seed=1), tmp_path_factory.mktemp("sim") / "run", FRAMES)


def write(path: Path, simulated: RunPaths, rows: str, everywhere: str = "") -> Path:
    path.write_text(
        f'[all]\ngeometry = "{simulated.geometry}"\ncell = "{simulated.cell}"\n'
        'indexer = "fast"\nevaluations = 3\ncell-check = false\n' + everywhere + rows
    )
    return path


def test_a_night_goes_on_behind_a_sample_that_cannot_be_tuned(
    cli, simulated, tmp_path, monkeypatch
):
    """With the same processes. And a second call tunes what is left, and leaves what is done."""
    started = []

    class Counted(ProcessPoolExecutor):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            started.append(self)

    monkeypatch.setattr(worker_processes, "ProcessPoolExecutor", Counted)
    other = tmp_path / "elsewhere" / "late.h5"
    other.parent.mkdir()
    night = write(
        tmp_path / "elsewhere" / "night.toml",
        simulated,
        f'[[sample]]\nrun = "{simulated.data}"\noutput = "first"\nset = {{ min_peaks = 8 }}\n'
        f'[[sample]]\nrun = "late.h5"\noutput = "second"\n'
        f'[[sample]]\nrun = "{simulated.data}"\noutput = "third"\nstart = "first"\n'
        'range = { min_snr = [3, 7] }\ntune = ["min_snr", "threshold"]\n'
        f'[[sample]]\nrun = "{simulated.data}"\noutput = "fourth"\nfrom = "third"\n'
        "whole-budget = true\nno-cell-check = true\n",
    )
    code, out, err = cli("tune", night, "-j", 2, "--memory", "4GB", "--json")
    assert code == 2
    assert len(started) == 2
    said = json.loads(out)
    assert [each["exit_code"] for each in said] == [0, 2, 0, 0]
    assert "late.h5" in said[1]["why"]
    first = tomllib.loads((other.parent / "first/recommended.toml").read_text())
    assert first["settings"]["min_peaks"] == 8
    config = json.loads((other.parent / "third/session.json").read_text())
    assert config["tuned"] == ["min_snr", "threshold"]
    assert config["bounds"] == {"min_snr": [3, 7]}
    assert "first" in config["start"]["words"]
    fourth = json.loads((other.parent / "fourth/session.json").read_text())
    assert fourth["tuned"] == config["tuned"]
    assert not fourth["stop_early"]

    measured = (other.parent / "first/evaluations.jsonl").read_bytes()
    other.write_bytes(simulated.data.read_bytes())
    code, out, err = cli("tune", night, "-j", 1, "--json")
    assert [each["exit_code"] for each in json.loads(out)] == [0, 0, 0, 0]
    assert code == 0
    assert err.count("has been tuned before") == 3
    assert (other.parent / "first/evaluations.jsonl").read_bytes() == measured
    assert (other.parent / "second/recommended.toml").exists()

    # A row that now means another run is not taken for tuned, nor does a damaged one end the night.
    night.write_text(night.read_text().replace('run = "late.h5"', f'run = "{simulated.data}"'))
    (other.parent / "first/recommended.toml").write_text("[settings")
    code, out, err = cli("tune", night, "-j", 1, "--json")
    said = json.loads(out)
    assert [each["exit_code"] for each in said] == [2, 2, 0, 0]
    assert "give the sample another output" in said[1]["why"]


ROW = '[[sample]]\nrun = "run.h5"\noutput = "a"\n'


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("", "has no sample"),
        ('[[sample]]\noutput = "a"\n', "sample 1 names no run"),
        ('[[sample]]\nrun = "run.h5"\n', "sample 1 names no output"),
        (ROW + "colour = 3\n", "colour is no option of tune"),
        (ROW + "resume = true\n", "resume is no option of tune"),
        (ROW + "stop-early = 3\n", "must be true or false"),
        (ROW + "evaluations = true\n", "evaluations is true, but takes a value"),
        (ROW + 'evaluations = "many"\n', "'many' is not a valid integer"),
        (ROW + 'cell = "missing.cell"\n', "missing.cell"),
        (ROW + ROW, "sample 2: an earlier sample has the output"),
        ("[sample]\nrun = 3\n", "has no sample"),
        ("[samples]\n", "'samples' is neither"),
        ("run = \n", "is no TOML file"),
    ],
)
def test_a_night_that_makes_no_sense_is_refused_before_it_begins(
    cli, simulated, tmp_path, rows, sentence
):
    night = write(tmp_path / "night.toml", simulated, rows)
    code, _, err = cli("tune", night)
    assert code == 2
    assert sentence in " ".join(err.split())
    assert not (tmp_path / "a").exists()


def test_a_night_takes_no_option_that_its_samples_have(cli, simulated, tmp_path):
    night = write(tmp_path / "night.toml", simulated, ROW)
    code, _, err = cli("tune", night, "--searcher", "random")
    assert code == 2
    assert "put --searcher into the file" in err


def test_a_session_is_begun_like_an_earlier_one(cli, simulated, tmp_path):
    tune = ("tune", simulated.data, "-j", 1, "--no-cell-check", "--evaluations", 3)
    code, *_ = cli(
        *(*tune, "-g", simulated.geometry, "-p", simulated.cell, "-o", "first"),
        *("--indexer", "fast", "--set", "min_peaks=8", "--tune", "min_snr,clen", "--seed", 4),
    )
    assert code == 0
    code, *_ = cli(
        *(*tune, "--from", "first", "-o", "second", "--tune", "min_snr,threshold"),
        *("--timeout", 60),
    )
    assert code == 0
    code, *_ = cli(
        *(*tune, "--from", "first", "-o", "third", "--set", "min_snr=5,local_bg_radius=4"),
        *("--range", "max_res=300:500"),
    )
    assert code == 0
    third = json.loads((tmp_path / "third/session.json").read_text())
    assert third["fixed"] == {"min_peaks": 8, "min_snr": 5, "local_bg_radius": 4}
    assert third["tuned"] == ["clen", "max_res"]
    first, second = (
        json.loads((tmp_path / name / "session.json").read_text()) for name in ("first", "second")
    )
    for same in ("geometry", "cell", "fixed", "seed"):
        assert first[same] == second[same]
    assert second["indexer_choice"] == {**first["indexer_choice"], "timeout": 60.0}
    assert second["tuned"] == ["min_snr", "threshold"]
    found = tomllib.loads((tmp_path / "first/recommended.toml").read_text())
    assert second["start"]["settings"]["min_snr"] == found["settings"]["min_snr"]
    assert "first" in second["start"]["words"]


def test_what_a_sample_sets_leaves_what_holds_for_all(simulated, tmp_path):
    everywhere = 'set = { min_peaks = 8, max_pix_count = 30 }\nrange = "min_snr=3:7"\n'
    night = write(
        tmp_path / "night.toml",
        simulated,
        f'[[sample]]\nrun = "{simulated.data}"\noutput = "as-all"\n'
        f'[[sample]]\nrun = "{simulated.data}"\noutput = "own"\nset = "min_peaks=12"\n'
        "range = { threshold = [20, 200] }\n",
        everywhere,
    )
    as_all, own = read_night(night, command)

    def given(sample: Sample, option: str) -> set[str]:
        return {*sample.arguments[sample.arguments.index(option) + 1].split(",")}

    assert given(as_all, "--set") == {"min_peaks=8", "max_pix_count=30"}
    assert given(own, "--set") == {"min_peaks=12", "max_pix_count=30"}
    assert given(own, "--range") == {"min_snr=3:7", "threshold=20:200"}

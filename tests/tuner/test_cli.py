"""The command line, as a user meets it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest

from envs.simulation.simulator import RunPaths, demo_experiment, simulate_run
from tuner.cli.main import COMMANDS
from tuner.map_agent.policy import POLICY_FILE, MapPolicy
from tuner.session.store import SessionStore
from wrappers.detector.geometry import Geometry
from wrappers.workers import kernels

FRAMES = 16


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> RunPaths:
    """A small run whose geometry is 1.5 % too short; read-only."""
    return simulate_run(demo_experiment(seed=1), tmp_path_factory.mktemp("sim") / "run", FRAMES)


def tune_arguments(paths: RunPaths, *extra: object) -> list[object]:
    return [
        *("tune", paths.data, "-g", paths.geometry, "-p", paths.cell),
        *("-o", "session", "--indexer", "fast", "-j", 1, "--evaluations", 6, *extra),
    ]


def test_tune_apply_and_export(cli, simulated, tmp_path):
    code, out, _ = cli(*tune_arguments(simulated, "--json"))
    assert code == 0
    result = json.loads(out)
    assert result["settings"]["clen"] == pytest.approx(0.08, rel=0.003)
    assert result["evidence"]["indexing_rate"] > result["evidence"]["baseline_rate"]
    written = tomllib.loads((tmp_path / "session/recommended.toml").read_text())
    assert written["settings"] == result["settings"]
    # What is in use, the baseline and a proposal.
    assert written["provenance"]["frame_evaluations"] >= 3 * FRAMES
    rows = (tmp_path / "session/trials.csv").read_text().splitlines()
    assert len(rows) == 1 + written["provenance"]["evaluations"]
    assert "<svg" in (tmp_path / "session/report.html").read_text()

    code, out, _ = cli("apply", "session", simulated.data, "-o", "hits.cxi", "-j", 1, "--json")
    assert code == 0
    applied = json.loads(out)
    with h5py.File("hits.cxi") as file:
        n_peaks = file["entry_1/result_1/nPeaks"][:]
        assert len(n_peaks) == applied["n_hits"] == len(file["entry_1/data_1/data"])
        assert (n_peaks >= result["settings"]["min_peaks"]).all()

    code, *_ = cli("export", "session", "--to", "geom", "-o", "tuned.geom")
    assert code == 0
    assert Geometry.read("tuned.geom").camera_length() == pytest.approx(
        result["settings"]["clen"], abs=1e-7
    )
    code, *_ = cli("export", "session", "--to", "crystfel", "-o", "index.sh")
    assert code == 0
    script = (tmp_path / "index.sh").read_text()
    assert f"--min-snr={result['settings']['min_snr']:g}" in script
    assert os.access("index.sh", os.X_OK)
    assert subprocess.run(["sh", "-n", "index.sh"], check=False).returncode == 0


def test_peaks_and_index_agree(cli, simulated):
    settings = ("--min-snr", 4.5, "--threshold", 30, "--max-pix-count", 50)
    code, out, _ = cli(
        "peaks", simulated.data, "-g", simulated.geometry, *settings, "-o", "p.cxi", "--json"
    )
    assert code == 0
    found = json.loads(out)
    code, out, _ = cli(
        *("index", simulated.data, "-g", simulated.geometry, "-p", simulated.cell, *settings),
        *("--clen", 0.08, "--indexer", "fast", "-j", 2, "--json"),
    )
    assert code == 0
    indexed = json.loads(out)
    assert indexed["n_hits"] == found["n_hits"]
    assert sum(row["n_peaks"] for row in indexed["frames"]) == found["n_peaks"]
    with h5py.File("p.cxi") as file:
        assert file["entry_1/result_1/nPeaks"][:].tolist() == [
            row["n_peaks"] for row in indexed["frames"]
        ]
    assert 0 < indexed["n_indexed"] <= indexed["n_hits"] < FRAMES


def test_a_session_with_the_robust_finder(cli, simulated, monkeypatch):
    code, out, err = cli(*tune_arguments(simulated, "--peaks", "robust", "--json"))
    assert code == 0, err
    result = json.loads(out)
    settings = result["settings"]
    assert settings["peak_finder"] == "robust" and 2 <= settings["min_snr"] <= 3.5
    assert result["evidence"]["indexing_rate"] > result["evidence"]["baseline_rate"]
    rows = Path("session/trials.csv").read_text().splitlines()
    finders = [row.split(",")[2] for row in rows]
    assert finders == ["peak_finder", *2 * ["peakfinder8"], *["robust"] * (len(rows) - 3)]
    report = Path("session/report.html").read_text()
    assert "--peaks=cxi" in report and "--to crystfel" not in report
    code, _, err = cli(*tune_arguments(simulated, "--resume"))
    assert code == 2 and "begun with peak_finder = robust, not peakfinder8" in err

    # Everything that takes the set finds the same peaks with it.
    common = (simulated.data, "-g", simulated.geometry, "--settings", "session", "-j", 1)
    code, out, _ = cli("peaks", *common, "-o", "peaks.cxi", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["settings"] == settings
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "_MADE", made := set())
        code, out, _ = cli("index", *common, "-p", simulated.cell, "--indexer", "fast", "--json")
    assert code == 0
    assert [finder for *_, finder in made] == ["robust"]  # before there are workers
    indexed = json.loads(out)
    assert indexed["n_indexed"] == result["evidence"]["n_indexed"]
    code, out, _ = cli("apply", "session", simulated.data, "-o", "hits.cxi", "-j", 1, "--json")
    assert code == 0
    assert json.loads(out)["n_hits"] == found["n_hits"] == indexed["n_hits"]
    assert json.loads(out)["sample"]["n_kept"] == indexed["n_indexed"]
    with h5py.File("hits.cxi") as hits, h5py.File("peaks.cxi") as peaks:
        n_peaks = peaks["entry_1/result_1/nPeaks"][:]
        assert hits["entry_1/result_1"].attrs["peak_finder"] == "robust"
        assert hits["entry_1/result_1/nPeaks"][:].tolist() == [
            n for n in n_peaks if n >= settings["min_peaks"]
        ]
    code, _, err = cli("export", "session", "--to", "crystfel")
    assert code == 2
    assert "which indexamajig does not have" in err and "--peaks=cxi" in err


def test_another_finder_begins_with_settings_of_its_own(cli, simulated):
    common = ("peaks", simulated.data, "-g", simulated.geometry, "-o", "p.cxi", "-j", 1, "--json")
    code, out, _ = cli(*common, "--peaks", "robust", "--min-pix-count", 3)
    assert code == 0
    settings = json.loads(out)["settings"]
    assert (settings["min_snr"], settings["threshold"], settings["min_pix_count"]) == (2.5, 10, 3)
    assert json.loads(out)["median_peaks"] > 10
    Path("set.toml").write_text('[settings]\npeaks = "robust"\nmin_snr = 3\nlocal_bg_radius = 4\n')
    code, out, _ = cli(*common, "--settings", "set.toml")
    assert json.loads(out)["settings"]["min_snr"] == 3
    code, out, _ = cli(*common, "--settings", "set.toml", "--peaks", "peakfinder8")
    settings = json.loads(out)["settings"]
    assert (settings["min_snr"], settings["threshold"], settings["local_bg_radius"]) == (5, 800, 4)


@pytest.mark.parametrize("searcher", ["warm-gp", "portfolio"])
def test_what_was_made_for_peakfinder8_does_not_know_the_robust_finder(cli, simulated, searcher):
    code, _, err = cli(*tune_arguments(simulated, "--peaks", "robust", "--searcher", searcher))
    assert code == 2
    assert f"the {searcher} searcher was trained with peakfinder8" in err
    assert "--searcher gp" in err and not Path("session").exists()


def test_a_session_with_a_policy_of_ones_own(cli, simulated):
    shipped = MapPolicy.shipped()
    # It takes what the shipped one thinks least of.
    *first, (weights, biases) = shipped.parts["head"]
    contrary = dataclasses.replace(
        shipped, parts={**shipped.parts, "head": (*first, (-weights, -biases))}
    )
    contrary.save(Path("mine") / POLICY_FILE)
    quick = ("--searcher", "map-agent", "--evaluations", 4, "--no-cell-check")
    mine = (*quick, "--policy", "mine")
    code, out, _ = cli(*tune_arguments(simulated, *mine, "--json"))
    provenance = json.loads(out)["provenance"]
    assert code == 0
    assert provenance["policy"] == str(Path("mine").resolve())
    assert provenance["policy_sha256"].startswith("sha256")
    proposed = [trial.evaluation.settings for trial in SessionStore.open(Path("session")).trials]
    assert cli(*tune_arguments(simulated, *mine, "--resume"))[0] == 0
    code, _, err = cli(*tune_arguments(simulated, *quick, "--resume"))
    assert code == 2 and "was begun with policy = " in err
    shipped.save(Path("mine") / POLICY_FILE)
    code, _, err = cli(*tune_arguments(simulated, *mine, "--resume"))
    assert code == 2 and "was begun with policy_sha256 = " in err
    shutil.rmtree("session")
    assert cli(*tune_arguments(simulated, *quick))[0] == 0
    others = [trial.evaluation.settings for trial in SessionStore.open(Path("session")).trials]
    # The set to beat and CrystFEL's defaults come first, whoever proposes the others.
    assert others[:2] == proposed[:2] and others[2] != proposed[2]


@pytest.mark.parametrize("command", ["tune", "peaks", "index"])
def test_the_robust_finder_must_know_a_photon(cli, simulated, command):
    lines = simulated.geometry.read_text().splitlines(keepends=True)
    geometry = simulated.geometry.with_name("no_photon.geom")
    geometry.write_text("".join(line for line in lines if not line.startswith("adu_per_photon")))
    arguments = [simulated.data, "-g", geometry, "--peaks", "robust"]
    if command != "peaks":
        arguments += ["-p", simulated.cell, "--indexer", "fast"]
    if command != "index":
        arguments += ["-o", "out"]
    code, _, err = cli(command, *arguments)
    assert code == 2
    assert "no_photon.geom does not say how many ADU a photon is" in err
    assert not Path("out").exists()


def test_the_table_for_people(cli, simulated):
    code, out, _ = cli(
        *("index", simulated.data, "-g", simulated.geometry, "-p", simulated.cell),
        *("--threshold", 30, "--clen", 0.08, "--indexer", "fast", "-j", 1),
    )
    assert code == 0
    assert len(out.splitlines()) >= FRAMES + 2
    assert "indexing rate" in out


def test_every_command_has_help_with_an_example(cli):
    code, out, _ = cli("--help")
    assert code == 0
    for name in ("tune", "peaks", "index", "apply", "export", "simulate", "demo", "doctor"):
        assert f"\n  {name} " in out
        code, text, _ = cli(name, "--help")
        assert code == 0
        assert f"sfx-tuner {name}" in text.split("Example:")[1]


def test_doctor_says_what_is_missing(cli, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    code, out, _ = cli("doctor", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["crystfel"] is None
    assert all(found["hdf5_filters"].values())


def broken(simulated: RunPaths, how: str, folder: Path) -> RunPaths:
    """Return a copy of the run with one thing wrong."""
    copy = folder / "copy"
    shutil.copytree(simulated.data.parent, copy)
    paths = RunPaths(**{k: copy / Path(v).name for k, v in vars(simulated).items()})
    geometry = paths.geometry.read_text()
    match how:
        case "missing":
            paths.data.unlink()
        case "truncated":
            paths.data.write_bytes(paths.data.read_bytes()[:20000])
        case "not HDF5":
            paths.data.write_bytes(b"\x89HDF nonsense" * 100)
        case "wrong data path":
            paths.geometry.write_text(geometry.replace("/entry/data/data", "/entry/dat"))
        case "panel outside":
            paths.geometry.write_text(geometry.replace("m1/max_ss = 511", "m1/max_ss = 600"))
        case "no clen":
            lines = [x for x in geometry.splitlines() if not x.startswith("clen")]
            paths.geometry.write_text("\n".join(lines))
        case "negative clen":
            paths.geometry.write_text(geometry.replace("clen = 0", "clen = -0"))
        case "missing mask":
            paths.mask.unlink()
        case "no cell":
            paths.cell.write_text("CrystFEL unit cell file version 1.0\n")
        case "empty geometry":
            paths.geometry.write_text("")
    return paths


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("missing", "run.h5 does not exist"),
        ("truncated", "run.h5"),
        ("not HDF5", "run.h5"),
        ("wrong data path", "/entry/data/data"),
        ("panel outside", "m1"),
        ("no clen", "clen"),
        ("negative clen", "camera length"),
        ("missing mask", "mask.h5"),
        ("no cell", "run.cell"),
        ("empty geometry", "run.geom"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(cli, simulated, tmp_path, how, sentence):
    paths = broken(simulated, how, tmp_path)
    code, out, err = cli(*tune_arguments(paths))
    assert code == 2
    assert out == ""
    assert err.startswith("sfx-tuner: ")
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


def test_unreadable_frames_count_and_are_told(cli, simulated, tmp_path):
    """A frame with a damaged chunk is lost, not the session."""
    paths = broken(simulated, "", tmp_path)
    with h5py.File(paths.data) as file:
        chunk = file["entry/data/data"].id.get_chunk_info(3)
    with paths.data.open("r+b") as stream:
        stream.seek(chunk.byte_offset)
        stream.write(b"\xff" * chunk.size)
    code, out, _ = cli(
        *("index", paths.data, "-g", paths.geometry, "-p", paths.cell, "--threshold", 30),
        *("--clen", 0.08, "--indexer", "fast", "-j", 1, "--json"),
    )
    assert code == 0
    result = json.loads(out)
    assert result["n_frames"] == FRAMES
    assert [row["frame"] for row in result["frames"] if row["failure"]] == [3]
    assert result["n_indexed"] > 0


def test_nan_and_negative_pixels(cli, simulated, tmp_path):
    """Floating-point frames with NaN pixels and a negative pedestal index as before."""
    paths = broken(simulated, "", tmp_path)
    with h5py.File(paths.data, "r+") as file:
        frames = file["entry/data/data"][:].astype(np.float32) - 500
        frames[:, ::37, ::11] = np.nan
        del file["entry/data/data"]
        file["entry/data/data"] = frames
    code, out, _ = cli(
        *("index", paths.data, "-g", paths.geometry, "-p", paths.cell, "--threshold", -470),
        *("--clen", 0.08, "--indexer", "fast", "-j", 1, "--json"),
    )
    assert code == 0
    assert json.loads(out)["n_indexed"] > 0


def test_frames_without_peaks(cli, simulated, tmp_path):
    paths = broken(simulated, "", tmp_path)
    with h5py.File(paths.data, "r+") as file:
        shape = file["entry/data/data"].shape
        file["entry/data/data"][:] = np.random.default_rng(1).integers(0, 2, shape)
    code, _, err = cli(*tune_arguments(paths))
    assert code == 4
    assert "nothing to recommend: no parameter set indexed any frame" in err.splitlines()[-1]
    assert not (tmp_path / "session/recommended.toml").exists()
    assert "Nothing to recommend" in (tmp_path / "session/report.html").read_text()
    code, _, err = cli("export", "session", "--to", "geom")
    assert code == 2 and "recommends nothing: no parameter set indexed" in err
    assert (tmp_path / "session/trials.csv").exists()
    assert "Traceback" not in err


def test_little_memory_means_fewer_processes_and_the_same_answer(cli, simulated):
    files = (
        "peaks",
        simulated.data,
        "-g",
        simulated.geometry,
        "-j",
        3,
        "-o",
        "peaks.cxi",
        "--json",
    )
    plain, little = (json.loads(cli(*files, "--memory", size)[1]) for size in ("64GB", "1MB"))
    assert plain == little and plain["n_peaks"] > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tune", "min_snrr"], "'min_snrr' cannot be tuned"),
        (["--searcher", "magic"], "there is no searcher 'magic'; choose one of map,"),
        (["--evaluations", "0"], "--evaluations"),
        (["--minutes", "nan"], "--minutes"),
        (["--minutes", "0"], "--minutes"),
        (["--seed", "-1"], "--seed"),
        (["--seed", "99999999999999999999"], "--seed"),
        (["-j", "100000"], "--jobs"),
        (["--memory", "lots"], "'lots' is no amount of memory"),
        (["--memory", "8"], "'8' is no amount of memory"),
        (["--tune", ""], "cannot be tuned"),
        (["--resume"], "holds no session"),
        (["--policy", "mine"], "no policy can be read from mine"),
        (["--policy", "mine", "--searcher", "gp"], "the gp searcher takes no policy"),
        (["--searcher", "map-agent", "--policy", "nowhere"], "no policy can be read from nowhere"),
    ],
)
def test_bad_options_exit_2(cli, simulated, arguments, sentence):
    code, _, err = cli(*tune_arguments(simulated, *arguments))
    assert code == 2
    assert sentence in err
    assert "Traceback" not in err
    # A mistake must not leave a session behind that the corrected command trips over.
    assert not Path("session").exists()


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--min-snr", -3, "min_snr is -3"),
        ("--min-snr", "nan", "min_snr is nan"),
        ("--clen", 1e-300, "clen is set to 1e-300"),
        ("--max-pix-count", 99999999999999999999, "more than any panel has"),
    ],
)
def test_settings_that_make_no_sense_exit_2(cli, simulated, option, value, sentence):
    code, _, err = cli(
        *("index", simulated.data, "-g", simulated.geometry, "-p", simulated.cell),
        *(option, value, "--indexer", "fast"),
    )
    assert code == 2
    assert sentence in err
    assert "Traceback" not in err


def test_a_session_is_not_overwritten(cli, simulated):
    assert cli(*tune_arguments(simulated))[0] == 0
    code, _, err = cli(*tune_arguments(simulated))
    assert code == 2
    assert "holds a session already: add --resume" in err
    code, _, err = cli(*tune_arguments(simulated, "--resume", "--seed", 3))
    assert code == 2
    assert "was begun with seed = 0, not 3" in err
    assert cli(*tune_arguments(simulated, "--resume"))[0] == 0


def test_ctrl_c_then_resume(simulated, tmp_path):
    """Stopped by a signal in mid-run, a session loses nothing that was measured."""
    command = [
        *(str(Path(sys.executable).with_name("sfx-tuner")),),
        *map(str, tune_arguments(simulated, "-j", 2, "--evaluations", 14, "--whole-budget")),
        *("--searcher", "random"),  # which never ends by itself
    ]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log = tmp_path / "session/evaluations.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (log.exists() and log.read_text().count("\n") > 2):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in err and "the best so far is in session/recommended.toml" in err
    assert "confirmed = false" in (tmp_path / "session/recommended.toml").read_text()
    assert "Traceback" not in err
    before = log.read_text()
    done = subprocess.run(
        [*command, "--resume", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert log.read_text().startswith(before)
    assert json.loads(done.stdout)["provenance"]["evaluations"] >= 14


def test_indexamajig_absent_is_told(cli, simulated, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    code, _, err = cli(*tune_arguments(simulated, "--indexer", "crystfel"))
    assert code == 2
    assert "indexamajig" in err
    assert len(err.strip().splitlines()) == 2 and err.startswith("cell: ")
    assert "nothing measured is lost" not in err, "there is no session to go on with"


def test_a_length_takes_a_unit_and_is_held_against_the_geometrys(cli, simulated):
    """``--clen 80`` was 80 m, and found peaks in the wrong rings without a word."""
    peaks = ("peaks", simulated.data, "-g", simulated.geometry, "-o", "peaks.cxi", "-j", 1)
    code, _, err = cli(*peaks, "--clen", "80")
    assert code == 2
    assert "clen is set to 80 m, and the geometry's is 0.0788 m: give it in metres" in err
    code, _, err = cli(*peaks, "--clen", "0.05")
    assert code == 0
    assert "note: clen is set to 0.05 m, and the geometry's is 0.0788 m: is that meant?" in err
    code, out, err = cli(*peaks, "--clen", "80mm", "--shift-x", "-75um", "--json")
    assert code == 0
    assert "is that meant" not in err
    assert json.loads(out)["settings"]["clen"] == 0.08
    assert json.loads(out)["settings"]["shift_x"] == pytest.approx(-75e-6)


def test_a_shift_is_held_against_the_detectors_size(cli, simulated):
    peaks = ("peaks", simulated.data, "-g", simulated.geometry, "-o", "peaks.cxi", "-j", 1)
    code, _, err = cli(*peaks, "--shift-x", "0.5")
    assert code == 2
    assert "shift_x is set to 0.5 m, and the detector reaches" in err and "such as 0.5mm" in err
    code, _, err = cli(*peaks, "--shift-y", "20mm")
    assert code == 0
    assert "note: shift_y is set to 0.02 m" in err and "is that meant?" in err


HEAVY = ("numba", "scipy", "pandas", "matplotlib", "optuna", "torch", "stable_baselines3")
LESS_HEAVY = ("h5py", "hdf5plugin", "pydantic", "tomlkit", "yaml", "rich.progress")
"""Of these `tune`, the command that is asked about most, does without as well."""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_waits_for_no_heavy_library(command):
    """Or `--help`, and a TAB in a shell, would take seconds."""
    heavy = HEAVY + LESS_HEAVY * (command == "tune")
    code = (
        "import sys; from tuner.cli.main import cli; "
        f"cli.main([{command!r}, '--help'], standalone_mode=False); "
        f"print('imported:', [name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported: []"


def test_tab_completes_commands_options_and_names():
    def completed(words: str) -> str:
        environment = {
            **os.environ,
            "_SFX_TUNER_COMPLETE": "zsh_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        code = "from tuner.cli.main import cli; cli(prog_name='sfx-tuner')"
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        ).stdout

    assert "apply\n" + COMMANDS["apply"] in completed("sfx-tuner ap")
    assert "--searcher" in completed("sfx-tuner tune --sea")
    assert "gp" in completed("sfx-tuner tune --searcher g")

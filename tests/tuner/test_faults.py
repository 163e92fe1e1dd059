"""What a bad night does to a session: the data vanish, links change, disks fill, names are odd."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from envs.simulation.experiment import demo_experiment
from envs.simulation.simulator import RunPaths, simulate_run
from tuner.recommendation import read_recommendation
from tuner.session.budget import Budget
from tuner.session.request import Request
from tuner.session.store import SessionStore
from tuner.tuning import tune
from wrappers.errors import InputError
from wrappers.indexers import IndexerChoice

FRAMES = 8


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> RunPaths:
    """A small run in which every frame has a crystal; read-only."""
    experiment = demo_experiment(1)
    crystals = dataclasses.replace(experiment.crystals, hit_fraction=1.0)
    folder = tmp_path_factory.mktemp("simulated")
    return simulate_run(dataclasses.replace(experiment, crystals=crystals), folder / "run", FRAMES)


@pytest.fixture
def paths(simulated, tmp_path) -> RunPaths:
    """A copy that a test may spoil."""
    shutil.copytree(simulated.data.parent, tmp_path / "run")
    values = dataclasses.asdict(simulated).items()
    return RunPaths(**{name: tmp_path / "run" / path.name for name, path in values})


def request(paths: RunPaths, n_frames: int = FRAMES // 2) -> Request:
    return Request(
        paths.data,
        paths.geometry,
        paths.cell,
        "random",
        n_frames,
        indexer=IndexerChoice("fast"),
        stop_early=False,
    )


def test_data_that_vanish_are_no_rate_of_zero(paths, tmp_path, monkeypatch):
    monkeypatch.setattr("tuner.tuning.FEWEST_FRESH", 2)  # the run is small
    session, whole = tmp_path / "session", paths.data.read_bytes()

    def vanish(trial) -> None:
        if trial.number == 3:
            os.truncate(paths.data, 4096)

    # Two processes: HDF5 keeps what this one has read of the frames.
    found = tune(request(paths), session, budget=Budget(4), jobs=2, on_trial=vanish)
    assert found is not None
    assert found.evidence["indexing_rate"] > 0, "what was measured before stands"
    assert "can be read" in found.provenance["ended_by"]
    assert not found.provenance["measured_on_fresh_frames"]
    assert all(trial.stage != "fresh" for trial in SessionStore.open(session).trials)

    paths.data.write_bytes(whole)
    found = tune(request(paths), session, budget=Budget(4), resume=True)
    assert found is not None and found.provenance["measured_on_fresh_frames"]
    assert "ended_by" not in found.provenance
    assert read_recommendation(session).evidence["indexing_rate"] > 0


def test_a_rate_of_zero_of_an_older_session_is_none(paths, tmp_path):
    session = tmp_path / "session"
    tune(request(paths), session, budget=Budget(3))
    log = session / "evaluations.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for outcome in lines[-1]["evaluation"]["outcomes"]:
        outcome |= {"n_peaks": 0, "hit": False, "n_lattices": 0, "failure": "gone"}
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    evaluation = SessionStore.open(session).trials[-1].evaluation
    assert (evaluation.failure, evaluation.n_frames) == ("gone", 0)


def test_no_frame_at_all_has_an_exit_code_of_its_own(cli, paths):
    with h5py.File(paths.data, "r+") as file:
        # The images' chunks are damaged, the rest is as it was.
        places = [file["entry/data/data"].id.get_chunk_info(i) for i in range(FRAMES)]
    with paths.data.open("r+b") as file:
        for place in places:
            file.seek(place.byte_offset)
            file.write(b"\xff" * place.size)
    common = (paths.data, "-g", paths.geometry, "-j", 1)
    code, out, err = cli("peaks", *common, "-o", "p.cxi", "--threshold", 50)
    assert (code, out) == (3, "") and f"none of the {FRAMES} frames can be read" in err
    assert not Path("p.cxi").exists()
    code, out, err = cli("index", *common, "-p", paths.cell, "--indexer", "fast", "--json")
    assert code == 3 and f"none of the {FRAMES} frames can be read" in err
    found = json.loads(out)
    assert found["n_failed"] == FRAMES and found["ci95"][1] > 0.9, "nothing is known"


@pytest.mark.parametrize("what", ["mask", "data"])
def test_a_session_is_not_resumed_over_what_its_links_lead_to(paths, tmp_path, what):
    session = tmp_path / "session"
    with h5py.File(tmp_path / "master.h5", "w") as file, h5py.File(paths.data) as run:
        for name in run:
            file[name] = h5py.ExternalLink(str(paths.data), f"/{name}")
    linked = dataclasses.replace(request(paths), data=tmp_path / "master.h5")
    tune(linked, session, budget=Budget(2))
    tune(linked, session, budget=Budget(3), resume=True)
    with h5py.File(paths.mask if what == "mask" else paths.data, "r+") as file:
        if what == "mask":
            file["mask"][0, 0] ^= 1
        else:
            file["entry/photon_energy_eV"][0] += 1
    with pytest.raises(InputError, match="are no longer those that"):
        tune(linked, session, budget=Budget(4), resume=True)


def test_a_folder_that_is_not_in_utf8(cli, paths, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9 \x1b[31m")
    try:
        shutil.move(paths.data.parent, folder)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    run = [folder / path.name for path in (paths.data, paths.geometry, paths.cell)]
    code, out, err = cli(
        *("tune", run[0], "-g", run[1], "-p", run[2], "-o", folder / "session"),
        *("--indexer", "fast", "-j", 1, "--frames", 4, "--evaluations", 2, "--searcher", "random"),
    )
    assert code in (0, 2), err
    assert "\x1b[31m" not in out + err and "Traceback" not in err
    recommended = folder / "session" / "recommended.toml"
    if code == 0:
        assert read_recommendation(recommended).provenance["data"] == str(run[0])
        recommended.read_text(encoding="utf-8")
    code, out, err = cli("peaks", run[0], "-g", run[1], "-o", folder / "p.cxi", "-j", 1)
    assert code == 0, err
    assert r"caf\xe9 \x1b[31m" in out
    code, out, err = cli("mask", run[0], "-g", run[1], "-o", folder / "m.h5", "--picture", "m.png")
    assert code == 2 and "8 frames" in err, "too few, but the name is no matter"


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from tuner.cli import main
main()
"""


def on_a_full_disk(room: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command where no file can become larger than `room` bytes."""
    return subprocess.run(
        [sys.executable, "-c", FULL, str(room), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("room", [0, 3_000, 100_000])
def test_a_full_disk_is_one_sentence(paths, tmp_path, room):
    common = (paths.data, "-g", paths.geometry)
    commands = [
        ("simulate", "-o", tmp_path / "new", "--small", "--frames", 3),
        ("peaks", *common, "-o", tmp_path / "p.cxi", "-j", 1, "--threshold", 1),
    ]
    for command in commands[: 1 if room else 2]:
        before = sorted(tmp_path.rglob("*"))
        done = on_a_full_disk(room, *command)
        assert done.returncode == 2, (done.returncode, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert "cannot be written" in done.stderr
        assert sorted(tmp_path.rglob("*")) == before


def test_a_session_on_a_disk_that_fills_loses_nothing(paths, tmp_path):
    session = tmp_path / "session"
    done = on_a_full_disk(
        12_000,
        *("tune", paths.data, "-g", paths.geometry, "-p", paths.cell, "-o", session, "-j", 1),
        *("--indexer", "fast", "--frames", 4, "--evaluations", 30, "--searcher", "random"),
        "--whole-budget",
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and "cannot be written" in done.stderr
    n = len(SessionStore.open(session).trials)
    assert 0 < n < 30
    tune(request(paths, 4), session, budget=Budget(n + 1), resume=True)
    assert len(SessionStore.open(session).trials) > n


def test_a_session_has_one_writer(cli, paths, tmp_path):
    command = [
        *(sys.executable, "-c", "from tuner.cli import main; main()", "tune", str(paths.data)),
        *("-g", str(paths.geometry), "-p", str(paths.cell), "-o", str(tmp_path / "session")),
        *("--indexer", "fast", "-j", "1", "--frames", "4", "--evaluations", "500"),
        *("--searcher", "random", "--whole-budget"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        while not process.stderr.readline().lstrip().startswith("0 "):
            assert process.poll() is None
        code, _, err = cli(
            *("tune", paths.data, "-g", paths.geometry, "-p", paths.cell, "-o", "session"),
            *("--indexer", "fast", "--frames", 4, "--searcher", "random", "--resume"),
        )
        assert code == 2
        assert f"written by another sfx-tuner (process {process.pid} on" in err
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.mark.crystfel
def test_a_recommendation_does_not_depend_on_the_last_check(
    paths, tmp_path, indexamajig, monkeypatch
):
    program = tmp_path / "indexamajig"
    program.write_text(f'#!/bin/sh\nexec "{indexamajig}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("SFX_TUNER_INDEXAMAJIG", str(program))
    asked = dataclasses.replace(request(paths), indexer=IndexerChoice("crystfel"))

    def uninstall(trial) -> None:
        if trial.number == 2:
            program.unlink()

    found = tune(asked, tmp_path / "session", budget=Budget(3), on_trial=uninstall)
    assert found is not None
    assert "not_done" in found.evidence["crystfel_own_search"]
    assert read_recommendation(tmp_path / "session").settings == found.settings
    assert found.provenance["core_seconds"] > 0
    trials = SessionStore.open(tmp_path / "session").trials
    assert all(trial.evaluation.core_seconds >= 0 for trial in trials)

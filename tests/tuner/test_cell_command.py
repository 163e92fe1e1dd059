"""``sfx-tuner cell``: the cell from a run's frames, and none from frames that show none."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path

import pytest

from envs.simulation.simulator import RunPaths, demo_experiment, simulate_run
from wrappers.cell import Cell


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> RunPaths:
    """A small run of lysozyme whose geometry is 1.5 % too short; read-only."""
    return simulate_run(demo_experiment(seed=1), tmp_path_factory.mktemp("sim") / "run", 16)


def test_the_cell_of_a_run_is_found_and_written(cli, simulated):
    code, out, _ = cli(
        *("cell", simulated.data, "-g", simulated.geometry, "-o", "found.cell", "-j", 1, "--json")
    )
    assert code == 0
    found = json.loads(out)
    truth = Cell.read(simulated.cell)
    assert (found["lattice_type"], found["centering"]) == (truth.lattice_type, truth.centering)
    # The camera length is 1.5 % off, which the cell's size follows.
    assert found["cell"] == pytest.approx(truth.parameters, rel=0.03)
    assert found["n_agree"] >= 3 and found["n_agree"] <= found["n_frames"] <= 16
    assert len(found["frames"]) == found["n_agree"]
    assert 0 < found["false_consensus_probability"] < 1e-6
    assert all(error > 0 for error in found["cell_se"][:3])
    assert Cell.read("found.cell").parameters == pytest.approx(found["cell"], rel=1e-4)


def test_an_existing_cell_file_is_kept(cli, simulated):
    Path("mine.cell").write_text("mine")
    code, _, err = cli("cell", simulated.data, "-g", simulated.geometry, "-o", "mine.cell")
    assert code == 2 and "mine.cell" in err
    assert Path("mine.cell").read_text() == "mine"


def test_blank_frames_give_a_sentence(cli, tmp_path):
    lit = demo_experiment(seed=3)
    dark = dataclasses.replace(lit, crystals=dataclasses.replace(lit.crystals, hit_fraction=0.0))
    blank = simulate_run(dark, tmp_path / "blank", 6)
    code, out, err = cli("cell", blank.data, "-g", blank.geometry, "-j", 1)
    assert code == 2 and not out
    assert "9 clear peaks" in err and "lower threshold" in err


def session_with(cli, run: RunPaths, cell: Path, *more: str) -> tuple[int, dict[str, object], str]:
    arguments = ("-o", "session", "--indexer", "fast", "-j", 1, "--evaluations", 2, *more)
    code, out, err = cli("tune", run.data, "-g", run.geometry, "-p", cell, *arguments)
    written = tomllib.loads(Path("session/recommended.toml").read_text())
    return code, written["evidence"], out + err


def test_a_session_says_that_the_frames_bear_out_the_cell(cli, simulated):
    code, evidence, said = session_with(cli, simulated, simulated.cell)
    assert code == 0
    assert evidence["cell_check"] == "agrees"
    assert "frames agree" in str(evidence["cell_check_reason"])
    assert "the given cell: agrees" in said


@pytest.mark.slow
def test_a_session_with_a_doubled_axis_is_contradicted(cli, simulated):
    truth = Cell.read(simulated.cell)
    dataclasses.replace(truth, c=2 * truth.c).write("doubled.cell")
    code, evidence, said = session_with(cli, simulated, Path("doubled.cell"))
    assert code == 5
    assert evidence["cell_check"] == "contradicted"
    assert "c is twice the crystals'" in str(evidence["cell_check_reason"])
    assert "l = 2n" in said
    assert "contradict the given cell" in Path("session/report.html").read_text()


def test_the_check_may_be_left_out(cli, simulated):
    code, evidence, _ = session_with(cli, simulated, simulated.cell, "--no-cell-check")
    assert code == 0 and "cell_check" not in evidence


def test_a_session_without_a_cell_finds_one(cli, simulated):
    arguments = ("-o", "session", "--indexer", "fast", "-j", 1, "--evaluations", 2)
    code, _, err = cli("tune", simulated.data, "-g", simulated.geometry, *arguments)
    assert code == 0 and "cell found by consensus of" in err
    found, truth = Cell.read("session/found.cell"), Cell.read(simulated.cell)
    assert found.parameters == pytest.approx(truth.parameters, rel=0.03)
    written = tomllib.loads(Path("session/recommended.toml").read_text())
    assert written["evidence"]["cell_check_reason"].startswith("cell found by consensus of")
    assert written["provenance"]["cell"].endswith("found.cell")
    assert json.loads(Path("session/session.json").read_text())["cell_origin"]
    code, _, err = cli("tune", "--resume", "session", "--no-cell-check")
    assert code == 0, err


def misplaced(simulated, key, value) -> Path:
    """Write a geometry that is wrong, beside the run, as it may name other files."""
    lines = []
    for line in Path(simulated.geometry).read_text().splitlines():
        name, _, number = line.partition("=")
        if name.strip().endswith(key):
            old = float(number.split()[0])
            line = f"{name}= {old * value if key == 'clen' else old + value}"
        lines.append(line)
    wrong = Path(simulated.geometry).with_name(f"wrong_{key}.geom")
    wrong.write_text("\n".join(lines) + "\n")
    return wrong


@pytest.mark.parametrize(("key", "value"), [("clen", 0.92), ("corner_x", 5.0)])
def test_a_wrong_geometry_makes_no_cell_of_its_own(cli, simulated, key, value):
    wrong = misplaced(simulated, key, value)
    code, out, _ = cli("cell", simulated.data, "-g", wrong, "-j", 1, "--json")
    assert code == 0
    found = json.loads(out)
    truth = Cell.read(simulated.cell)
    assert (found["lattice_type"], found["centering"]) == (truth.lattice_type, truth.centering)
    assert found["cell"] == pytest.approx(truth.parameters, rel=0.03)
    assert not found["geometry"]["given_is_right"]


def test_a_session_starts_from_the_geometry_that_the_frames_ask_for(cli, simulated):
    wrong = misplaced(simulated, "corner_x", 5.0)
    begin = ("-o", "session", "--indexer", "fast", "-j", 1, "--evaluations", 3)
    code, _, err = cli("tune", simulated.data, "-g", wrong, "-p", simulated.cell, *begin)
    assert code == 0, err
    assert "put the detector elsewhere than the geometry does" in err
    written = tomllib.loads(Path("session/recommended.toml").read_text())
    pixel = written["provenance"]["pixel_size"]
    assert written["settings"]["shift_x"] / pixel == pytest.approx(-5, abs=0.3)
    assert abs(written["settings"]["shift_y"]) < 0.3 * pixel
    assert written["evidence"]["cell_check"] == "agrees"
    assert "starts with shift_x and shift_y" in written["evidence"]["geometry_start"]
    assert {"shift_x", "shift_y"} <= {*written["provenance"]["tuned"]}
    assert "put the detector elsewhere" in Path("session/report.html").read_text()
    kept = json.loads(Path("session/session.json").read_text())["found_geometry"]
    code, _, err = cli("tune", "--resume", "session", "--evaluations", 4)
    assert code == 0, err
    assert json.loads(Path("session/session.json").read_text())["found_geometry"] == kept
    again = tomllib.loads(Path("session/recommended.toml").read_text())
    assert again["settings"]["shift_x"] / pixel == pytest.approx(-5, abs=0.3)


@pytest.mark.slow
def test_a_session_on_two_crystal_forms_names_both(cli, tmp_path):
    first = demo_experiment(seed=1)
    form = Cell(57, 43, 88, 90, 102, 90, "monoclinic", "P", "b")
    second = dataclasses.replace(first, crystals=dataclasses.replace(first.crystals, cell=form))
    runs = [simulate_run(one, tmp_path / n, 24) for n, one in (("a", first), ("b", second))]
    (tmp_path / "run.lst").write_text("".join(f"{run.data}\n" for run in runs))
    both = dataclasses.replace(runs[0], data=tmp_path / "run.lst")
    code, evidence, said = session_with(cli, both, runs[0].cell)
    assert code == 0 and evidence["cell_check"] == "agrees"
    assert "a second crystal form" in str(evidence["cell_check_reason"])
    assert "a second" in said
    found = Cell.read("session/second.cell")
    # The camera length is 1.5 % off, which the cell's size follows where it is not tuned away.
    assert found.parameters == pytest.approx(form.parameters, rel=0.03)
    assert evidence["second_form"]["n_second"] >= 5

"""The indexers' benchmark counts right, whatever lists it is given."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from envs.simulation.stills import (
    WAVENUMBER,
    is_same_lattice,
    simulate_blank,
    simulate_still,
    turn_along_arcs,
    turn_around,
)
from experiments import indexer_benchmark
from experiments.false_lattices import count_peaks, evaluate, find_all
from experiments.other_indexers import METHODS, PYTHON, find_programs
from experiments.real_peak_lists import RecordedList, read_lists
from wrappers.cell import Cell
from wrappers.crystfel.indexamajig import VARIABLE
from wrappers.errors import InputError

LYSOZYME = Cell(79.0, 79.0, 38.0, 90, 90, 90, "tetragonal", "P", "c")
CENTRED = Cell(61.4, 122.6, 168.0, 90, 90, 90, "orthorhombic", "C")
KEYS = {
    "lists",
    "with_truth",
    "agree",
    "accepted",
    "scrambled_tried",
    "scrambled_accepted",
    "ms_median",
}


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """Three stills of two cells, one without truth, noise, and an empty list."""
    rng = np.random.default_rng(1)
    stills = [simulate_still(cell, rng, 40) for cell in (LYSOZYME, LYSOZYME, CENTRED)]
    lists = [q for q, _ in stills] + [simulate_blank(rng, 30), np.empty((0, 3))]
    unknown = np.full((3, 3), np.nan)
    # other axes of the same lattice
    turned = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]]) @ stills[1][1]
    truth = [stills[0][1].T, turned.T, stills[2][1].T, unknown, unknown]
    cells = [LYSOZYME, LYSOZYME, CENTRED, CENTRED, CENTRED]
    q = np.concatenate(lists)
    return {
        "q": q.astype(np.float32),
        "I": rng.exponential(size=len(q)).astype(np.float32),
        "start": np.cumsum([0, *map(len, lists)]),
        "set": np.array(["one", "one", "other", "other", "other"]),
        "cell": np.array([cell.parameters for cell in cells]),
        "centering": np.array([cell.centering for cell in cells]),
        "A_truth": np.array(truth),
    }


def run(path: Path, *arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(
        indexer_benchmark.main, ["--lists", str(path), "--no-others", *arguments]
    )
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout) if "--json" in arguments else {"text": result.stdout}


def test_counts(arrays, tmp_path):
    path = tmp_path / "lists.npz"
    np.savez(path, **arrays)
    result = run(path, "--json", "--scrambles", "3")
    assert list(result) == ["sets"]
    assert list(result["sets"]) == ["one", "other"]
    for row in result["sets"].values():
        assert set(row) >= KEYS
        assert row["ms_median"] > 0
        assert row["scrambled_tried"] == row["arcs_tried"] == 3 * row["lists"]
        assert row["scrambled_accepted"] <= 1
    one, other = result["sets"].values()
    assert (one["lists"], one["with_truth"], one["agree"], one["accepted"]) == (2, 2, 2, 2)
    assert (other["lists"], other["with_truth"], other["agree"]) == (3, 1, 1)
    assert "| one (2) | ours | 2 of 2 | 2 |" in run(path, "--scrambles", "1")["text"]


def test_wrong_truth_does_not_agree(arrays, tmp_path):
    arrays["A_truth"] = np.roll(arrays["A_truth"], 1, axis=0)
    np.savez(tmp_path / "lists.npz", **arrays)
    result = run(tmp_path / "lists.npz", "--json", "--scrambles", "1")
    assert sum(row["agree"] for row in result["sets"].values()) == 0


def test_what_may_be_missing(arrays, tmp_path):
    for key in ("I", "set", "centering", "A_truth"):
        del arrays[key]
    arrays["start"] = arrays["start"][:-1]
    np.savez(tmp_path / "lists.npz", **arrays)
    result = run(tmp_path / "lists.npz", "--json", "--scrambles", "1")
    assert list(result["sets"]) == ["all"]
    assert result["sets"]["all"]["lists"] == 5
    assert result["sets"]["all"]["with_truth"] == 0
    assert result["sets"]["all"]["accepted"] >= 2


def test_lists_without_a_peak(tmp_path):
    np.savez(
        tmp_path / "lists.npz",
        q=np.empty((0, 3)),
        start=np.zeros(3, int),
        cell=np.array([LYSOZYME.parameters] * 2),
    )
    row = run(tmp_path / "lists.npz", "--json")["sets"]["all"]
    assert (row["lists"], row["accepted"], row["scrambled_accepted"]) == (2, 0, 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"q": None}, "no array 'q'"),
        ({"start": np.array([0, 5])}, "do not cut"),
        ({"I": np.ones(3)}, "a value a peak"),
        ({"cell": np.zeros((5, 6))}, "list 0"),
        ({"centering": np.array(["X"] * 5)}, "centering 'X'"),
        ({"set": np.array([None] * 5, object)}, "plain arrays"),
    ],
    ids=["no q", "start", "I", "cell", "centering", "pickled"],
)
def test_files_that_do_not_fit(arrays, tmp_path, change, says):
    arrays |= change
    np.savez(tmp_path / "x.npz", **{key: one for key, one in arrays.items() if one is not None})
    with pytest.raises(InputError, match=says):
        read_lists(tmp_path / "x.npz")
    result = CliRunner().invoke(indexer_benchmark.main, ["--lists", str(tmp_path / "x.npz")])
    assert result.exit_code == 2


def test_one_cell_may_stand_for_all_lists(arrays, tmp_path):
    np.savez(tmp_path / "each.npz", **arrays)
    each = read_lists(tmp_path / "each.npz")
    np.savez(tmp_path / "one.npz", **{**arrays, "cell": arrays["cell"][0]})
    lists = read_lists(tmp_path / "one.npz")
    assert [len(one.q) for one in lists] == [len(one.q) for one in each]
    assert {one.cell.parameters for one in lists} == {each[0].cell.parameters}


def test_what_is_no_file_of_lists(tmp_path):
    (tmp_path / "x.npz").write_text("hello")
    with pytest.raises(InputError, match="cannot be read"):
        read_lists(tmp_path / "x.npz")
    with pytest.raises(InputError, match="cannot be read"):
        read_lists(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("parameters", "centering", "expected"),
    [
        ((96, 96, 96, 90, 90, 90), "P", ("cubic", "P", "*")),
        ((79, 79, 38, 90, 90, 90), "P", ("tetragonal", "P", "c")),
        ((38, 79, 79, 90, 90, 90), "I", ("tetragonal", "I", "a")),
        ((93, 93, 131, 90, 90, 120), "P", ("hexagonal", "P", "c")),
        ((82, 82, 195, 90, 90, 120), "R", ("hexagonal", "H", "c")),
        ((60, 60, 60, 70, 70, 70), "R", ("rhombohedral", "R", "*")),
        ((61, 122, 168, 90, 90, 90), "C", ("orthorhombic", "C", "*")),
        ((57, 43, 88, 90, 102, 90), "P", ("monoclinic", "P", "b")),
        ((35, 42, 51, 82, 97, 104), "P", ("triclinic", "P", "*")),
    ],
)
def test_symmetry_is_told_from_the_cell(tmp_path, parameters, centering, expected):
    np.savez(
        tmp_path / "x.npz",
        q=np.empty((0, 3)),
        start=[0, 0],
        cell=[parameters],
        centering=[centering],
    )
    cell = read_lists(tmp_path / "x.npz")[0].cell
    assert (cell.lattice_type, cell.centering, cell.unique_axis) == expected


def test_wavenumber_is_that_of_the_ewald_sphere(arrays, tmp_path):
    np.savez(tmp_path / "x.npz", **arrays)
    for one in read_lists(tmp_path / "x.npz"):
        assert one.wavenumber == pytest.approx(WAVENUMBER, rel=1e-5)


def test_same_lattice():
    true = CENTRED.reciprocal
    assert is_same_lattice(-true, true, CENTRED)
    assert is_same_lattice(1.02 * true[[1, 0, 2]], true, CENTRED)
    assert not is_same_lattice(np.diag([1.0, 2.0, 1.0]) @ true, true, CENTRED)
    assert not is_same_lattice(np.roll(true, 1, axis=1), true, CENTRED)


@pytest.mark.parametrize("turn", [lambda q, rng: turn_around(q, rng), None])
def test_scrambles_keep_resolution_and_wavelength(turn):
    rng = np.random.default_rng(2)
    q = simulate_blank(rng, 50)
    turned = turn(q, rng) if turn else turn_along_arcs(q, LYSOZYME, rng)
    assert np.linalg.norm(turned, axis=1) == pytest.approx(np.linalg.norm(q, axis=1))
    assert turned[:, 2] == pytest.approx(q[:, 2])
    moved = np.linalg.norm(turned - q, axis=1)
    assert moved.min() > 0 or turn is None
    if turn is None:
        assert moved.max() <= 4.0 / 38.0 + 1e-9


def test_false_lattices_win_by_rate_and_lose_by_merit():
    """Loose settings drown crystals and blank frames in noise: whoever counts peaks takes all."""
    rng = np.random.default_rng(3)

    def recorded(q):
        return RecordedList("", q, None, WAVENUMBER, LYSOZYME, None)

    crystals = [simulate_still(LYSOZYME, rng, 40) for _ in range(10)]
    truth = [[true] for _, true in crystals] + [[]] * 10
    strict = [recorded(q) for q, _ in crystals]
    noise = [simulate_blank(rng, 400) for _ in range(20)]
    loose = [
        recorded(np.concatenate((strict[i].q, noise[i])) if i < 10 else noise[i]) for i in range(20)
    ]

    def result(ask, hits):
        decoys = [dataclasses.replace(hit, q=turn_along_arcs(hit.q, LYSOZYME, rng)) for hit in hits]
        return evaluate(ask, 20, hits, decoys, truth[: len(hits)])

    careful, careless = result(count_peaks, strict), result(count_peaks, loose)
    assert careful["right"] == careful["indexed"] >= 9
    assert careless["rate"] > careful["rate"] + 0.3
    assert careless["right"] < 0.7 * careless["indexed"]
    assert careless["merit"] < careful["merit"] - 0.2
    assert careless["net_rate"] < careful["net_rate"] - 0.2
    ours = result(find_all, loose)
    assert ours["indexed"] == ours["right"]


def ask_about_stills(name: str) -> None:
    programs, lacking = find_programs()
    assert name in programs, lacking
    rng = np.random.default_rng(4)
    stills = [simulate_still(LYSOZYME, rng, 60) for _ in range(3)]
    strength = np.linspace(2, 1, 60)
    lists = [RecordedList("", q, strength, WAVENUMBER, LYSOZYME, true) for q, true in stills]
    found, milliseconds = programs[name](lists)
    right = [
        lattice is not None and is_same_lattice(lattice, one.truth, LYSOZYME)
        for lattice, one in zip(found, lists, strict=True)
    ]
    assert sum(right) >= 2
    assert milliseconds > 0


@pytest.mark.crystfel
@pytest.mark.parametrize("method", METHODS)
def test_crystfel_is_asked(monkeypatch, indexamajig, method):
    monkeypatch.setenv(VARIABLE, indexamajig)
    ask_about_stills(method)


@pytest.mark.slow
def test_probixi_is_asked(monkeypatch):
    if not os.environ.get(PYTHON):
        pytest.skip(f"needs probixi: {PYTHON} names no Python that has it")
    ask_about_stills("probixi")


def test_programs_that_are_not_there(monkeypatch):
    monkeypatch.setenv(PYTHON, "/nowhere/python")
    monkeypatch.setenv(VARIABLE, "/nowhere/indexamajig")
    programs, lacking = find_programs()
    assert programs == {}
    assert "probixi is not installed for /nowhere/python" in lacking[0]
    assert "/nowhere/indexamajig" in lacking[1]

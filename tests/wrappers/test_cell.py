"""Unit cells, from every kind of file, against gemmi."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wrappers.cell import Cell
from wrappers.errors import InputError

CELL = """\
CrystFEL unit cell file version 1.0

lattice_type = monoclinic
centering = C
unique_axis = b

a = 50.840 A ; a comment
b = 9.852 nm
c = 53.430 A
al = 90.00 deg
be = 1.5707963267948966 rad
ga = 90.00 deg
"""


def write(folder, text):
    path = folder / "x.cell"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cell/bR", Cell(62.23, 62.23, 110.77, 90, 90, 120, "hexagonal", "P", "c")),
        ("cell/cell-example", Cell(66.2, 66.2, 150.2, 90, 90, 120, "hexagonal", "H", "c")),
        ("cell/hewl", Cell(79.1, 79.1, 37.9, 90, 90, 90, "tetragonal", "P", "c")),
        ("cell/strep_more", Cell(50.84, 98.52, 53.43, 90, 112.38, 90, "monoclinic", "P", "b")),
        ("cell/thaumatin", Cell(58.4, 58.4, 152.3, 90, 90, 90, "tetragonal", "P", "c")),
        ("cell/thermolysin", Cell(93.4, 93.4, 131.1, 90, 90, 120, "hexagonal", "P", "c")),
        ("simulated/lyso", Cell(79.0, 79.0, 38.0, 90, 90, 90, "tetragonal", "P", "c")),
    ],
)
def test_shared_cells(name, expected, shared_data):
    assert Cell.read(shared_data / f"{name}.cell") == expected


def test_units_and_comments(tmp_path):
    cell = Cell.read(write(tmp_path, CELL))
    assert cell.parameters == pytest.approx((50.84, 98.52, 53.43, 90, 90, 90))
    assert (cell.lattice_type, cell.centering, cell.unique_axis) == ("monoclinic", "C", "b")


def cryst1(a, b, c, al, be, ga, group):
    return f"CRYST1{a:9.3f}{b:9.3f}{c:9.3f}{al:7.2f}{be:7.2f}{ga:7.2f} {group:<11}   1\n"


@pytest.mark.parametrize(
    ("record", "lattice", "centering", "axis"),
    [
        ((79, 79, 38, 90, 90, 90, "P 43 21 2"), "tetragonal", "P", "c"),
        ((93.4, 93.4, 131.1, 90, 90, 120, "P 61 2 2"), "hexagonal", "P", "c"),
        ((66.2, 66.2, 150.2, 90, 90, 120, "P 31 2 1"), "hexagonal", "P", "c"),
        ((66.2, 66.2, 150.2, 90, 90, 120, "H 3 2"), "hexagonal", "H", "c"),
        ((66.2, 66.2, 150.2, 90, 90, 120, "R 3"), "hexagonal", "H", "c"),
        ((50, 50, 50, 80, 80, 80, "R 3"), "rhombohedral", "R", "*"),
        ((50.8, 98.5, 53.4, 90, 112.4, 90, "P 1 21 1"), "monoclinic", "P", "b"),
        ((50.8, 98.5, 53.4, 90, 90, 90, "C 1 2 1"), "monoclinic", "C", "b"),
        ((50, 60, 70, 90, 90, 90, "C 2 2 21"), "orthorhombic", "C", "*"),
        ((50, 60, 70, 85, 95, 100, "P 1"), "triclinic", "P", "*"),
        ((106, 106, 106, 90, 90, 90, "I 2 3"), "cubic", "I", "*"),
        ((106, 106, 106, 90, 90, 90, "F 4 3 2"), "cubic", "F", "*"),
    ],
)
def test_pdb(record, lattice, centering, axis, tmp_path):
    cell = Cell.read(write(tmp_path, "HEADER    TEST\n" + cryst1(*record) + "END\n"))
    assert cell.parameters == pytest.approx(record[:6])
    assert (cell.lattice_type, cell.centering, cell.unique_axis) == (lattice, centering, axis)


def test_mmcif(tmp_path):
    lengths = "".join(f"_cell.length_{x} {n}\n" for x, n in zip("abc", (79, 79, 38), strict=True))
    angles = "".join(f"_cell.angle_{x} 90\n" for x in ("alpha", "beta", "gamma"))
    text = f"data_X\n{lengths}{angles}_symmetry.space_group_name_H-M 'P 43 21 2'\n"
    cell = Cell.read(write(tmp_path, text))
    assert cell == Cell(79, 79, 38, 90, 90, 90, "tetragonal", "P", "c")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no unit cell"),
        ("HEADER    NOTHING\nEND\n", "no unit cell"),
        (cryst1(1, 1, 1, 90, 90, 90, "P 1"), "no unit cell"),
        (cryst1(79, 79, 38, 90, 90, 90, "Q 9 9"), "space group"),
        ("\0\x01 binary", "no unit cell"),
        (CELL.splitlines()[0], "has no a"),
        (CELL.replace("ga = 90.00 deg\n", ""), "has no ga"),
        (CELL.replace("50.840 A", "50.840"), "one of A, nm"),
        (CELL.replace("50.840 A", "wide A"), "a = 'wide A'"),
        (CELL.replace("50.840 A", "-3 A"), "must lie between"),
        (CELL.replace("50.840 A", "nan A"), "must lie between"),
        (CELL.replace("ga = 90.00", "ga = 0"), "no cell"),
        (CELL.replace("al = 90.00", "al = 10").replace("ga = 90.00", "ga = 150"), "no cell"),
        (CELL.replace("monoclinic", "round"), "'round' is none of triclinic"),
        (CELL.replace("centering = C", "centering = Z"), "'Z' is none of P"),
        (CELL.replace("unique_axis = b", "unique_axis = q"), "'q' is none of a, b, c"),
        (CELL.replace("unique_axis = b", ""), "unique axis"),
    ],
)
def test_refusals(text, says, tmp_path):
    with pytest.raises(InputError, match=says) as caught:
        Cell.read(write(tmp_path, text))
    assert "x.cell" in str(caught.value)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(InputError, match=r"absent\.cell cannot be read"):
        Cell.read(tmp_path / "absent.cell")


edges, angles = st.floats(5, 500), st.floats(30, 150)


@given(st.tuples(edges, edges, edges, angles, angles, angles))
def test_axes_agree_with_gemmi(parameters):
    reference = gemmi.UnitCell(*parameters)
    assume(reference.volume > 1e-3 * np.prod(parameters[:3]))
    cell = Cell(*parameters)
    np.testing.assert_allclose(cell.real, np.array(reference.orth.mat.tolist()).T, atol=1e-8)
    np.testing.assert_allclose(cell.reciprocal @ cell.real.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(
        np.linalg.norm(cell.reciprocal, axis=1),
        [getattr(reference.reciprocal(), key) for key in "abc"],
        rtol=1e-6,
    )
    assert cell.volume == pytest.approx(reference.volume, rel=1e-9)


@pytest.mark.parametrize(
    ("centering", "points", "group"),
    [
        ("P", 1, "P 1"),
        ("A", 2, "A 1 2 1"),
        ("B", 2, "B 1 1 2"),
        ("C", 2, "C 1 2 1"),
        ("I", 2, "I 2 2 2"),
        ("F", 4, "F 2 2 2"),
        ("R", 1, "R 3:R"),
        ("H", 3, "R 3:H"),
    ],
)
def test_primitive_axes_span_the_lattice_points_and_no_more(centering, points, group):
    cell = Cell(50, 60, 70, 90, 90, 90, centering=centering)
    axes = cell.primitive_axes
    assert np.linalg.det(axes) == pytest.approx(1 / points)
    assert cell.primitive_volume == pytest.approx(cell.volume / points)
    # gemmi's centring translations, and the conventional axes, are whole combinations of them.
    operations = gemmi.SpaceGroup(group).operations()
    points_there = [np.array(c) / gemmi.Op.DEN for c in operations.cen_ops]
    combination = np.array([*points_there, *np.eye(3)]) @ np.linalg.inv(axes)
    np.testing.assert_allclose(combination, np.round(combination), atol=1e-9)


def test_what_is_written_is_read(tmp_path):
    for cell in (
        Cell(50.84, 98.52, 53.43, 90, 112.38, 90, "monoclinic", "C", "b"),
        Cell(50.123, 60.5, 70.25, 85.5, 95.25, 100.1),
    ):
        cell.write(tmp_path / "y.cell")
        assert Cell.read(tmp_path / "y.cell") == cell


TYPES = {
    "tetragonal, unique c": ("79 60 38 90 90 90", "b = a|a = b"),
    "tetragonal, unique a": ("38 79 60 90 90 90", "b = c"),
    "cubic": ("79 80.9 38 90 90 90", "a = b = c"),
    "orthorhombic": ("79 60 38 90 97 90", "three angles"),
    "hexagonal, unique c": ("79 79 38 90 90 90", "120 deg"),
    "monoclinic, unique b": ("79 60 38 90 97 100", "unique axis"),
    "rhombohedral": ("79 60 38 90 90 90", "a = b = c"),
}


@pytest.mark.parametrize("kind", TYPES)
def test_a_lattice_type_that_the_cell_has_not_is_refused(kind, tmp_path):
    lattice, _, axis = kind.partition(", unique ")
    numbers, words = TYPES[kind]
    keys = zip(("a", "b", "c", "al", "be", "ga"), numbers.split(), strict=True)
    lines = [f"{key} = {number} {'A' if len(key) == 1 else 'deg'}" for key, number in keys]
    text = f"CrystFEL unit cell file version 1.0\nlattice_type = {lattice}\ncentering = P\n"
    text += f"unique_axis = {axis}\n" if axis else ""
    (tmp_path / "x.cell").write_text(text + "\n".join(lines) + "\n")
    with pytest.raises(InputError, match=words):
        Cell.read(tmp_path / "x.cell")


def test_edges_as_they_were_refined_are_no_contradiction(tmp_path):
    text = Cell(79.0, 79.0, 38.0, 90, 90, 90, "tetragonal", "P", "c").text
    (tmp_path / "x.cell").write_text(text.replace("b = 79 A", "b = 79.4 A"))
    assert Cell.read(tmp_path / "x.cell").b == 79.4


def test_an_edge_that_stands_twice_is_refused(tmp_path):
    text = Cell(79.0, 79.0, 38.0, 90, 90, 90, "tetragonal", "P", "c").text
    (tmp_path / "x.cell").write_text(text + "a = 80 A\n")
    with pytest.raises(InputError, match="a stands twice"):
        Cell.read(tmp_path / "x.cell")

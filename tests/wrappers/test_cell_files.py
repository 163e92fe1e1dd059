"""Cell files as people have them; the right reading of each is a line here."""

from __future__ import annotations

import os

import pytest

from wrappers.cell import Cell
from wrappers.errors import InputError

LYSOZYME = (79.1, 79.1, 37.9, 90, 90, 90)
FIRST = "CrystFEL unit cell file version 1.0\n\n"
BODY = """\
lattice_type = tetragonal
centering = P
unique_axis = c
a = 79.1 A
b = 79.1 A
c = 37.9 A
al = 90.0 deg
be = 90.0 deg
ga = 90.0 deg
"""
HEXAGONAL = """\
lattice_type = hexagonal
centering = R
unique_axis = c
a = 93.4 A
b = 93.4 A
c = 131.1 A
al = 90 deg
be = 90 deg
ga = 120 deg
"""
CIF = """\
data_X
_cell.length_a 79.1
_cell.length_b 79.1
_cell.length_c 37.9
_cell.angle_alpha 90
_cell.angle_beta 90
_cell.angle_gamma 90
_symmetry.space_group_name_H-M 'P 43 21 2'
"""


def cryst1(a, b, c, al, be, ga, group="P 43 21 2"):
    return f"CRYST1{a:9.3f}{b:9.3f}{c:9.3f}{al:7.2f}{be:7.2f}{ga:7.2f} {group:<11}   8\n"


RECORD = cryst1(*LYSOZYME)


@pytest.fixture
def read(tmp_path):
    def read_text(text):
        path = tmp_path / "a.cell"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return Cell.read(path)

    return read_text


@pytest.mark.parametrize(
    "text",
    [
        FIRST + BODY,
        b"\xef\xbb\xbf" + (FIRST + BODY).encode(),
        FIRST + BODY.replace(" = ", "\t=\t").replace(" A", "\tA").replace(" deg", "\tdeg"),
        FIRST + BODY.replace(" A", "   A"),
        RECORD,
        b"\xef\xbb\xbf" + RECORD.encode(),
        "REMARK 280 CRYST1 CARD BELOW\n" + RECORD,
        " " + RECORD,
        RECORD.replace("CRYST1", "CRYST1  "),
        "CRYST1 79.1 79.1 37.9 90 90 90 P 43 21 2",
        "CRYST1\t79.100\t79.100\t37.900\t90.00\t90.00\t90.00\tP 43 21 2 8\n",
        RECORD.replace("P 43 21 2", "P43212   "),
        # Of two, CrystFEL takes the first.
        RECORD + cryst1(62, 62, 110, 90, 90, 120, "P 61 2 2"),
        CIF,
        CIF + "_struct.details 'made from a PDB file without CRYST1 record'\n",
        "data_comp\n_chem_comp.id LIG\n" + CIF,
        "CrystFEL stream format 2.3\n----- Begin unit cell -----\n"
        + (FIRST + BODY + "----- End unit cell -----\n----- Begin chunk -----\n"),
    ],
)
def test_one_cell_in_many_clothes(read, text):
    cell = read(text)
    assert cell.parameters == pytest.approx(LYSOZYME)
    assert (cell.lattice_type, cell.centering, cell.unique_axis) == ("tetragonal", "P", "c")
    assert cell.summary == "tetragonal P, 79.1 79.1 37.9 Å, 90 90 90°, unique axis c"


@pytest.mark.parametrize(
    "text",
    [
        FIRST + HEXAGONAL,
        FIRST + HEXAGONAL.replace("= R", "= H"),
        FIRST + HEXAGONAL.replace("= hexagonal", "= rhombohedral"),
        *[
            cryst1(93.4, 93.4, 131.1, 90, 90, 120, group)
            for group in ("R 3", "H 3", "R 3 2", "H 3 2")
        ],
        cryst1(93.4, 93.4, 131.1, 90, 90, 119.98, "R 3"),
    ],
)
def test_a_rhombohedral_lattice_on_hexagonal_axes_is_centred(read, text, tmp_path):
    cell = read(text)
    assert (cell.lattice_type, cell.centering, cell.unique_axis) == ("hexagonal", "H", "c")
    cell.write(tmp_path / "b.cell")
    assert Cell.read(tmp_path / "b.cell") == cell


def test_rhombohedral_axes_stay_primitive(read):
    rho = (69.5, 69.5, 69.5, 84.4, 84.4, 84.4)
    assert read(cryst1(*rho, "R 3")).centering == "R"
    assert read(cryst1(*rho, "R 3")).lattice_type == "rhombohedral"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (cryst1(1, 1, 1, 90, 90, 90, "P 1"), "holds the place of one"),
        ("CRYST1 one two three\n", "not in columns"),
        ("CRYST1 79.1 79.1 37.9 90 90\n", "not in columns"),
        (RECORD.replace("P 43 21 2", "X 43 21 2"), "space group 'X 43 21 2' is unknown"),
        ("CrystFEL stream format 2.3\n----- Begin chunk -----\n", "without a unit cell"),
        (FIRST + BODY.replace("79.1 A", "79.1"), "a = '79.1' must be a number and its unit"),
        (FIRST + BODY.replace("37.9 A", "1e308 A"), "must lie between"),
        (FIRST + BODY.replace("37.9 A", "nan A"), "must lie between"),
        (FIRST + BODY.replace("= tetragonal", "= " + "x" * 5000), "lattice type"),
        (b"\x00" * 1000, "no unit cell"),
    ],
)
def test_refusals(read, text, says):
    with pytest.raises(InputError, match=says) as caught:
        read(text)
    assert len(str(caught.value)) < 6000


def test_a_pipe_is_no_cell_file(tmp_path):
    os.mkfifo(tmp_path / "x.cell")
    with pytest.raises(InputError, match="no regular file"):
        Cell.read(tmp_path / "x.cell")


@pytest.mark.parametrize(
    ("centering", "numbers"),
    [
        ("R", (150, 80, 80, 120, 90, 90)),  # hexagonal axes, but another unique one
        ("R", (80, 150, 80, 90, 120, 90)),
        ("R", (60, 70, 80, 80, 85, 90)),
        ("H", (60, 60, 60, 80, 80, 80)),
        ("H", (150, 80, 80, 120, 90, 90)),
    ],
)
def test_a_rhombohedral_centring_on_other_axes_is_refused(tmp_path, centering, numbers):
    names = ("a", "b", "c", "al", "be", "ga")
    lines = [
        f"{n} = {x} {'A' if len(n) == 1 else 'deg'}" for n, x in zip(names, numbers, strict=True)
    ]
    path = tmp_path / "r.cell"
    path.write_text("\n".join([FIRST, f"centering = {centering}", *lines]))
    with pytest.raises(InputError, match=f"centering = {centering} is of .* axes"):
        Cell.read(path)

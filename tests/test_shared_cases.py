"""Every case of ../shared/cases against what its table (FAULTS.md) says is right.

A case is rebuilt by its own script in an empty folder. The numbers of peaks are those of CrystFEL
0.12.0-113 on the same files, at min_snr 4.25, threshold 30, min_pix_count 2, max_pix_count 50.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hdf5plugin
import numpy as np
import pytest

from tuner.recommendation import read_recommendation
from wrappers.cell import Cell
from wrappers.crystfel.geometry_rules import mend_for_crystfel
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.first_look import first_look
from wrappers.frames.opening import open_source
from wrappers.peakfinding.finders import NamedFinder
from wrappers.settings import Settings

ROOT = Path(__file__).parents[1]
SETTINGS = Settings(
    min_snr=4.25, threshold=30, min_pix_count=2, max_pix_count=50, local_bg_radius=3, max_res=5000
)

Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def make(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Rebuild a case once; returns its folder."""
    made: dict[str, Path] = {}

    def make_case(name: str) -> Path:
        script = shared / "cases" / name / "make.py"
        if not script.is_file():
            pytest.skip(f"needs {script}")
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            subprocess.run([sys.executable, str(script)], cwd=made[name], check=True)
        return made[name]

    return make_case


def peaks(folder: Path, geometry: str, data: str = "run.h5") -> list[int]:
    """Return the number of peaks in each frame."""
    run = open_source(folder / data, Geometry.read(folder / geometry))
    finder = NamedFinder(run.geometry)
    return [len(finder.find(run[i], SETTINGS)) for i in range(len(run))]


def refusal(folder: Path, geometry: str, data: str = "run.h5") -> str:
    """Return the sentence with which a run is refused."""
    with pytest.raises(InputError) as caught:
        open_source(folder / data, Geometry.read(folder / geometry))
    return str(caught.value)


def notes(folder: Path, geometry: str, data: str = "run.h5") -> str:
    return "\n".join(first_look(open_source(folder / data, Geometry.read(folder / geometry))))


@pytest.mark.parametrize(
    ("geometry", "expected"),
    [
        ("noshift", [145, 80, 20]),
        ("number", [148, 78, 21]),
        ("header", [148, 78, 21]),
        ("number_bad", [126, 63, 17]),
        ("header_bad", [126, 63, 17]),
    ],
)
def test_header_shift(make: Make, geometry: str, expected: list[int]) -> None:
    assert peaks(make("header_shift"), f"{geometry}.geom") == expected


@pytest.mark.parametrize(
    ("geometry", "line"),
    [
        ("trailing", "mask0_data (line 27)"),
        ("trailing_flag", "flag_morethan (line 26)"),
        ("trailing_res", "res (line 26)"),
    ],
)
def test_trailing_defaults(make: Make, geometry: str, line: str) -> None:
    folder = make("trailing_defaults")
    assert peaks(folder, "good.geom") == [145, 80, 20]
    assert line in refusal(folder, f"{geometry}.geom")


@pytest.mark.parametrize(
    ("geometry", "says"),
    [
        ("typo", "mask0_badbit"),
        ("typo2", "mask_0_data"),
        ("maskunder", "mask_data"),
        ("mask9", "no mask9"),
        ("nomaskbits", "masks nothing"),
        ("bitsnomask", "no mask0_data"),
        ("badname", "begins with 'bad'"),
        ("bare80", "clen"),
        ("cm", "unit"),
        ("um", "res"),
        ("hashin", "begins with ';'"),
    ],
)
def test_geomtext_that_is_refused(make: Make, geometry: str, says: str) -> None:
    assert says in refusal(make("geomtext"), f"{geometry}.geom")


@pytest.mark.parametrize(
    "geometry",
    [
        "ok",
        "bom",
        "bomc",
        "crlf",
        "cr",
        "tabs",
        "indent",
        "mm",
        "mmnosp",
        "nospunit",
        "tabunit",
        "twospunit",
        "dupkey",
        "unknown",
        "groups",
        "datarel",
        "vecz",
        "exp",
        "floatmin",
    ],
)
def test_geomtext_that_is_read(make: Make, geometry: str) -> None:
    assert peaks(make("geomtext"), f"{geometry}.geom") == [145, 80]


def test_geomtext_notes(make: Make) -> None:
    assert "m0/foo (line 12)" in notes(make("geomtext"), "unknown.geom")
    assert "are masked" in notes(make("geomtext"), "goodonly.geom")
    assert notes(make("geomtext"), "ok.geom") == ""


@pytest.mark.parametrize(
    "name",
    [
        "ok.cell",
        "bom.cell",
        "tabs.cell",
        "twosp.cell",
        "ok.pdb",
        "bom.pdb",
        "remark.pdb",
        "tabs.pdb",
        "free.pdb",
        "shifted.pdb",
        "shift1.pdb",
        "two.pdb",
        "mm.cif",
        "mm_cryst1.cif",
        "mm_two.cif",
    ],
)
def test_cells_of_lysozyme(make: Make, name: str) -> None:
    cell = Cell.read(make("cells") / name)
    assert cell.parameters == pytest.approx((79.1, 79.1, 37.9, 90, 90, 90))
    assert (cell.lattice_type, cell.centering) == ("tetragonal", "P")


@pytest.mark.parametrize(
    "name", ["hexR.cell", "hexH.cell", "r3hex.pdb", "h3.pdb", "r32h.pdb", "h32.pdb", "mm_h3.cif"]
)
def test_cells_on_hexagonal_axes(make: Make, name: str) -> None:
    assert Cell.read(make("cells") / name).centering == "H"


def test_cells_on_rhombohedral_axes_and_of_a_stream(make: Make) -> None:
    folder = make("cells")
    assert Cell.read(folder / "rho.cell").centering == "R"
    assert Cell.read(folder / "r3rho.pdb").centering == "R"
    assert Cell.read(folder / "two_lyso_first.pdb") == Cell.read(folder / "one_lyso.pdb")
    assert Cell.read(folder / "x.stream").parameters == (79, 79, 38, 90, 90, 90)


@pytest.mark.parametrize("geometry", ["doc", "million", "equal", "mask"])
def test_eiger_flag32(make: Make, geometry: str) -> None:
    assert peaks(make("eiger_flag32"), f"{geometry}.geom") == [149, 84, 26]


@pytest.mark.parametrize("geometry", ["ev", "ekv", "eh", "wl", "wlpm"])
def test_electron(make: Make, geometry: str) -> None:
    folder = make("electron")
    run = open_source(folder / "run.h5", Geometry.read(folder / f"{geometry}.geom"))
    assert run.photon_energy(0) == pytest.approx(494_367.8, rel=2e-6)
    assert peaks(folder, f"{geometry}.geom") == [145, 80, 20]


@pytest.mark.parametrize("name", ["str", "bytes", "strarr", "vstrarr", "strunit", "norel", "n"])
def test_energy_pairing_reads(make: Make, name: str) -> None:
    folder = make("energy_pairing")
    run = open_source(folder / "run.h5", Geometry.read(folder / f"e_{name}.geom"))
    paired = name in ("strarr", "vstrarr", "norel", "n")
    expected = [9000, 9100, 9200, 9300] if paired else [9300] * 4
    assert [run.photon_energy(i) for i in range(4)] == pytest.approx(expected)


def test_energy_pairing_of_distances(make: Make) -> None:
    folder = make("energy_pairing")
    for name in ("str", "negu", "neg"):
        run = open_source(folder / "run.h5", Geometry.read(folder / f"d_{name}.geom"))
        assert run.camera_length(3) == pytest.approx(0.08)
    assert "attribute 'units'" in refusal(folder, "d_mmattr.geom")
    assert peaks(folder, "s_x.geom") == [145, 77, 20, 139]


def test_eiger_nomask(make: Make) -> None:
    folder = make("eiger_nomask")
    sentence = refusal(folder, "run.geom", "gone.h5")
    assert "nothing that can be a mask" in sentence and "data_000001" not in sentence
    assert "meta.h5, which does not exist" in refusal(folder, "run.geom", "link.h5")
    (folder / "bare.geom").write_text(
        (folder / "flag.geom").read_text().replace("flag_morethan", "; flag_morethan")
    )
    assert "65535 in every frame" in notes(folder, "bare.geom", "gone.h5")


@pytest.mark.parametrize("geometry", ["run", "wild"])
def test_eiger_aborted(make: Make, geometry: str) -> None:
    folder = make("eiger_aborted")
    assert peaks(folder, f"{geometry}.geom", "scan_master.h5") == [149, 84, 26, 142]
    assert "scan_data_000003.h5, which does not exist" in notes(
        folder, f"{geometry}.geom", "scan_master.h5"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bom", [145, 80, 20] * 2),
        ("hash", [145, 80, 20] * 2),
        ("tab", [80]),
        ("twospace", [80]),
        ("lat", None),
        ("spaces", [145, 80, 20, 80]),
        ("crlf", [145, 20]),
    ],
)
def test_lists(make: Make, name: str, expected: list[int] | None) -> None:
    folder = make("lists")
    if expected is None:
        assert "nor" in refusal(folder, "run.geom", f"{name}.lst")
    else:
        assert peaks(folder, "run.geom", f"{name}.lst") == expected


def test_a_stream_is_no_run(make: Make) -> None:
    stream = make("cells") / "x.stream"
    with pytest.raises(InputError, match="is a CrystFEL stream"):
        open_source(stream, Geometry.read(make("lists") / "run.geom"))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("img_00001.cbf", [137]),
        ("img_00001.cbf.gz", [137]),
        ("cbf.lst", [137, 80]),
        ("gz.lst", [137]),
    ],
)
def test_cbf(make: Make, data: str, expected: list[int]) -> None:
    pytest.importorskip("fabio")
    assert peaks(make("cbf"), "run.geom", data) == expected


def test_plugin_path(make: Make, tmp_path: Path) -> None:
    folder = make("plugin_path")
    command = [sys.executable, "-c", "from tuner.cli import main; main()"]
    environment = {**os.environ, "HDF5_PLUGIN_PATH": str(hdf5plugin.PLUGIN_PATH)}
    for arguments in (
        ["simulate", "-o", tmp_path / "sim", "--frames", "2"],
        [
            "peaks",
            folder / "run.h5",
            "-g",
            folder / "run.geom",
            "-o",
            tmp_path / "p.cxi",
            "-j",
            "1",
        ],
    ):
        done = subprocess.run(
            [*command, *map(str, arguments)], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    for name in ("run", "gz", "lz4", "zstd", "bszstd", "blosc"):
        assert peaks(folder, "run.geom", f"{name}.h5") == [145, 80, 20]


@pytest.mark.crystfel
@pytest.mark.parametrize(
    ("case", "geometry", "data", "linked"),
    [
        ("eiger_linked_export", "run", "scan_master.h5", True),
        ("eiger_linked_export", "flag", "scan_master.h5", True),
        ("eiger_flag32", "doc", "run.h5", False),
        ("eiger_flag32", "equal", "run.h5", False),
        *[("export_refused", name, "run.h5", False) for name in ("noadu", "clenpanel", "hash")],
        ("export_refused", "badnopanel", "run.h5", False),
    ],
)
def test_exports_that_crystfel_runs(
    make: Make, case: str, geometry: str, data: str, linked: bool, indexamajig: str, tmp_path: Path
) -> None:
    folder = make(case)
    expected = peaks(folder, f"{geometry}.geom", data)
    mended = tmp_path / "mended.geom"
    mended.write_bytes((folder / f"{geometry}.geom").read_bytes())
    mend_for_crystfel(mended, linked=linked)
    (tmp_path / "x.lst").write_text(f"{folder / data}\n")
    options = "--threshold=30 --min-snr=4.25 --min-pix-count=2 --max-pix-count=50 --max-res=5000"
    subprocess.run(
        [
            *(indexamajig, "-i", "x.lst", "-g", "mended.geom", "-o", "x.stream", "-j", "1"),
            *("--indexing=none", "--peaks=peakfinder8", "--min-peaks=0", "--min-res=0"),
            *("--local-bg-radius=3", f"--temp-dir={tmp_path}", *options.split()),
        ],
        cwd=tmp_path,
        env={**os.environ, "HDF5_PLUGIN_PATH": str(hdf5plugin.PLUGIN_PATH)},
        check=True,
        capture_output=True,
        timeout=200,
    )
    found = re.findall(r"num_peaks = (\d+)", (tmp_path / "x.stream").read_text(errors="replace"))
    assert [int(n) for n in found] == expected


def session(folder: Path, *options: object) -> tuple[int, str, Path]:
    """Tune a case's run in a few evaluations; returns exit code, what was said, the session."""
    run, directory = folder / "run", folder / f"session{len(list(folder.glob('session*')))}"
    given = {"-p": run / "run.cell", "--indexer": "fast"}
    for name in given.keys() & set(options):
        del given[name]
    command = [
        *(
            sys.executable,
            "-c",
            "from tuner.cli import main; main()",
            "tune",
            run / "run.h5",
            "-g",
            run / "run.geom",
        ),
        *("-o", directory, "-j", 1, *itertools.chain(*given.items()), *options),
    ]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=ROOT
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split()), directory


def wrong_lattices(folder: Path, directory: Path) -> tuple[int, int]:
    """Return how many lattices the recommended set gives on a case's run, and the wrong ones.

    One is right if a change of basis leads to it from a crystal that was simulated in its frame,
    with whole numbers but for a tenth.
    """
    run = folder / "run"
    files = (run / "run.h5", "-g", run / "run.geom", "-p", run / "run.cell")
    command = ["index", *files, "--settings", directory, "--indexer", "fast", "-j", 1, "--json"]
    done = subprocess.run(
        [sys.executable, "-c", "from tuner.cli import main; main()", *map(str, command)],
        capture_output=True,
        check=True,
        cwd=ROOT,
    )
    truth = json.loads((run / "truth.json").read_text())
    found = [
        (frame["frame"], np.array(axes))
        for frame in json.loads(done.stdout)["frames"]
        for axes in frame["reciprocal_axes_per_angstrom"]
    ]

    def is_right(axes: np.ndarray, crystals: list[list[list[float]]]) -> bool:
        for crystal in crystals:
            change = axes @ np.linalg.inv(np.array(crystal))
            whole = np.rint(change)
            if abs(change - whole).max() < 0.1 and round(abs(np.linalg.det(whole))) == 1:
                return True
        return False

    return len(found), sum(not is_right(axes, truth[frame]) for frame, axes in found)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "fewest"), [("base", 40), ("ice", 38)])
def test_a_sound_run_and_one_with_ice_in_every_frame(make: Make, case: str, fewest: int) -> None:
    code, said, directory = session(make(case), "--evaluations", 8)
    assert code == 0 and "contradicted" not in said
    assert "beam centre is right" in said
    n, wrong = wrong_lattices(make(case), directory)
    assert n >= fewest and wrong == 0


def cell_text(a: float, b: float, c: float) -> str:
    kind = "tetragonal" if a == b else "orthorhombic"
    axis = "unique_axis = c\n" if a == b else ""
    return (
        f"CrystFEL unit cell file version 1.0\n\nlattice_type = {kind}\ncentering = P\n{axis}"
        f"a = {a} A\nb = {b} A\nc = {c} A\nal = 90 deg\nbe = 90 deg\nga = 90 deg\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axes", "reason"),
    [
        ((117, 223, 310), "agree on 7"),
        ((58.4, 58.4, 152.3), "agree on 79.0 79.0 38.0"),
        ((79, 79, 19), "its c is half of the crystals'"),
        ((79, 79, 76), "its c is twice the crystals'"),
        ((79, 79, 40.28), "explains them better"),
    ],
)
def test_another_cell_is_contradicted(
    make: Make, tmp_path: Path, axes: tuple[float, float, float], reason: str
) -> None:
    (tmp_path / "other.cell").write_text(cell_text(*axes))
    code, said, _ = session(make("base"), "--evaluations", 6, "-p", tmp_path / "other.cell")
    # Nothing may have been worth recommending in the first place.
    assert code in (4, 5) and reason in said


@pytest.mark.slow
def test_a_beam_five_pixels_off_is_found_or_said(make: Make) -> None:
    code, said, directory = session(make("center4"), "--evaluations", 14)
    assert code == 0 and "beam centre is right" not in said
    if "The beam centre is off by +4.0 px in x and -3.0 px in y" not in said:
        n, wrong = wrong_lattices(make("center4"), directory)
        assert n >= 30 and wrong <= 0.01 * n


@pytest.mark.slow
@pytest.mark.crystfel
def test_crystfel_gets_the_right_length_or_nothing_is_recommended(
    make: Make, indexamajig: str
) -> None:
    options = ("--evaluations", 12, "--indexer", "crystfel", "--frames", 40)
    code, said, directory = session(make("clen8"), *options)
    if code == 4:
        assert "nothing to recommend" in said
    else:
        assert code == 0
        at_edge = "at the edge of its range" in said
        length = read_recommendation(directory).settings.clen
        assert at_edge or length == pytest.approx(0.08, rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--clen-range", 0.1)])
def test_a_camera_length_beyond_its_range_is_found(make: Make, options: tuple[object, ...]) -> None:
    """It is written 8 % short, and only the second range reaches it."""
    code, _, directory = session(make("clen8"), "--evaluations", 14, *options)
    assert code == 0
    assert read_recommendation(directory).settings.clen == pytest.approx(0.08, rel=0.001)


@pytest.mark.slow
def test_a_camera_length_beyond_its_range_is_said_where_the_frames_are_not_asked(
    make: Make,
) -> None:
    options = ("--evaluations", 14, "--no-find-geometry")
    code, said, _ = session(make("clen8"), *options)
    assert code == 0 and "warning: The camera length is at the edge of its range" in said
    assert "and the lattices ask for 80.0" in said and "--clen-range" in said


@pytest.mark.slow
def test_a_camera_length_far_off_is_found_though_the_frames_are_not_asked(make: Make) -> None:
    """It is written 8 % short, where one frame in eight indexes with a length of its own."""
    options = ("--evaluations", 14, "--no-find-geometry", "--clen-range", 0.15)
    code, _, directory = session(make("clen8"), *options)
    assert code == 0
    assert read_recommendation(directory).settings.clen == pytest.approx(0.08, rel=0.001)


@pytest.mark.slow
def test_a_small_molecules_few_spots_are_said_and_indexed_with_fewer_asked_for(make: Make) -> None:
    _, said, _ = session(make("smallmol"), "--evaluations", 8)
    assert "add --set min_peaks=3" in said
    code, _, directory = session(make("smallmol"), "--evaluations", 8, "--set", "min_peaks=3")
    assert code == 0
    assert read_recommendation(directory).evidence["n_indexed"] >= 15


@pytest.mark.slow
def test_two_lattices_move_no_camera_length(make: Make) -> None:
    """Three crystals in 300 frames: 60 of them have two or fewer."""
    code, said, directory = session(make("lowhit"), "--evaluations", 14, "--frames", 60)
    if code:
        assert code == 4 and "nothing to recommend" in said and "--frames" in said
    else:
        assert read_recommendation(directory).settings.clen == pytest.approx(0.08)

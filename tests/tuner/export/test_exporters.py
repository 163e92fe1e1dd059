"""What other programs are told, read back with readers of their formats."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import subprocess
import tomllib
from dataclasses import fields
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from envs.evaluators.live import LiveEvaluator
from envs.simulation.simulator import demo_experiment, simulate_run
from tests.geometries import geometry_text, panel_text
from tuner.export.exporters import TARGETS, write_export
from tuner.export.formats import NAMES
from tuner.fingerprint import fingerprint
from tuner.recommendation import (
    Recommendation,
    files_of_session,
    read_recommendation,
    settings_digest,
    write_recommendation,
)
from wrappers.cell import Cell
from wrappers.crystfel.indexer import CrystfelIndexer
from wrappers.crystfel.options import XGANDALF_EFFORTS
from wrappers.crystfel.stream import read_progress
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.run import Run
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.peak_finders import unused_settings
from wrappers.settings import PEAK_FIELDS, Settings

EPIX = geometry_text(
    panel_text("a", 384, 5632, (-192, -2816)),
    clen="0.0788 m",
    adu_per_photon=10,
    data="/entry/data/data",
)
CELL = """\
CrystFEL unit cell file version 1.0
lattice_type = tetragonal
centering = P
unique_axis = c
a = 79.1 A
b = 79.1 A
c = 37.9 A
al = 90 deg
be = 90 deg
ga = 90 deg
"""
TUNED = Settings(
    min_snr=4.37,
    threshold=87.65,
    min_pix_count=3,
    max_pix_count=41,
    local_bg_radius=5,
    min_res=37,
    max_res=911,
    min_peaks=13,
    clen=0.0799712,
    shift_x=1.2e-5,
    shift_y=-3.4e-5,
    mask_hot_sigma=6.5,
    mask_noisy_sigma=7.5,
    mask_dead_sigma=8.5,
    mask_edge=2,
)
WITH_COMMENTS = [name for name in TARGETS if name != "json"]
SEARCHED = [name for name in PEAK_FIELDS if name not in unused_settings("peakfinder8")]
HELD = [*SEARCHED, "min_peaks"]
OPTIONS = {"peak_finder": "peaks"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a geometry, a cell and a map of bad pixels: one of each kind."""
    folder = tmp_path_factory.mktemp("session")
    (folder / "run.geom").write_text(EPIX)
    hot, noisy, dead = np.zeros((3, 5632, 384), np.float16)
    hot[10, 20], noisy[100, 200], dead[5000, 300], hot[11, 20] = 7, 8, 9, 6
    BadPixelMap(hot, noisy, dead, 100).save(folder / "bad_pixels.h5")
    (folder / "run.cell").write_text(CELL)
    return folder


def recommendation_of(folder: Path, settings: Settings = TUNED, **provenance) -> Recommendation:
    return Recommendation(
        settings,
        {"n_frames": 500, "indexing_rate": 0.374, "ci95": [0.333, 0.417], "baseline_rate": 0.298},
        {
            "program": "sfx-tuner 0.1.0",
            "date": "2026-11-21T11:27:07+00:00",
            "indexer": "CrystFEL 0.12.0, xgandalf",
            "geometry_clen": 0.0788,
            "data": "/data/it's run 7.h5",
            "geometry": str(folder / "run.geom"),
            "geometry_sha256": fingerprint(folder / "run.geom"),
            "cell": str(folder / "run.cell"),
            "bad_pixels": str(folder / "bad_pixels.h5"),
            **provenance,
        },
    )


def words_of(script: str) -> list[str]:
    """Return the arguments of the script's last command."""
    words = shlex.split(script.split("\nindexamajig ")[1].replace("\\\n", " "))
    return [word for word in words if word.startswith("--") and "=" in word]


def read_crystfel(text: str) -> dict[str, float | str]:
    options = dict(word[2:].split("=", 1) for word in words_of(text))
    return {name: plain(options[OPTIONS.get(name, name).replace("_", "-")]) for name in HELD}


def plain(text: str) -> float | str:
    return text if text.isidentifier() else float(text)


def read_project(text: str) -> dict[str, str]:
    """Read as CrystFEL does: key, one space, value; a line without a space is an error."""
    lines = text.splitlines()
    assert all(" " in line and len(line) < 1023 for line in lines)
    return dict(line.split(" ", 1) for line in lines)


def project_settings(text: str) -> dict[str, float | str]:
    values = read_project(text)
    names = {name: f"peak_search_params.{name}" for name in SEARCHED}
    names |= {"peak_finder": "peak_search_params.method", "min_peaks": "indexing.min_peaks"}
    return {k: plain(values[v]) for k, v in names.items()}


def read_xwiz(text: str) -> dict[str, float | str]:
    block = tomllib.loads(text)["indexamajig_run"]
    extra = dict(w[2:].split("=") for w in block["extra_options"].split() if "=" in w)
    return {
        "peak_finder": block["peak_method"],
        "min_snr": block["peak_snr"],
        "threshold": block["peak_threshold"],
        "min_pix_count": block["peak_min_px"],
        "max_pix_count": block["peak_max_px"],
        "local_bg_radius": block["local_bg_radius"],
        "min_res": float(extra["min-res"]),
        "max_res": block["max_res"],
        "min_peaks": block["min_peaks"],
    }


def read_om(text: str) -> dict[str, float | str]:
    document = yaml.safe_load(text)
    block = document["peakfinder8_peak_detection"]
    return {
        "peak_finder": "peakfinder8",
        "min_snr": block["minimum_snr"],
        "threshold": block["adc_threshold"],
        "min_pix_count": block["min_pixel_count"],
        "max_pix_count": block["max_pixel_count"],
        "local_bg_radius": block["local_bg_radius"],
        "min_res": block["min_res"],
        "max_res": block["max_res"],
        "min_peaks": document["crystallography"]["min_num_peaks_for_hit"] + 1,
    }


def read_cheetah(text: str) -> dict[str, float | str]:
    parser = configparser.ConfigParser()  # keys in lower case, as Cheetah has them
    parser.read_string("[global]\n" + text)
    values = parser["global"]
    assert (values["hitfinder"], values["hitfinderalgorithm"]) == ("1", "8")
    assert values["hitfinderresolutionunitpixel"] == "1"
    return {
        "peak_finder": "peakfinder8",
        "min_snr": values.getfloat("hitfinderminsnr"),
        "threshold": values.getfloat("hitfinderadc"),
        "min_pix_count": values.getint("hitfinderminpixcount"),
        "max_pix_count": values.getint("hitfindermaxpixcount"),
        "local_bg_radius": values.getint("hitfinderlocalbgradius"),
        "min_res": values.getfloat("hitfinderminres"),
        "max_res": values.getfloat("hitfindermaxres"),
        "min_peaks": values.getint("hitfindernpeaks"),
    }


def read_dials(text: str) -> dict[str, float | str]:
    """Read the numbers of a phil: what a line has before and behind its equals sign."""
    lines = [line.split("=", 1) for line in text.splitlines() if "=" in line and line[0] != "#"]
    values = {name.strip(): value.split() for name, value in lines}
    return {
        "threshold": float(values["global_threshold"][0]),
        "min_pix_count": int(values["min_spot_size"][0]),
        "max_pix_count": int(values["max_spot_size"][0]),
        "local_bg_radius": int(values["kernel_size"][0]),
        "min_peaks": int(values["minimum_number_of_reflections"][0]),
    }


READERS = {
    "crystfel": read_crystfel,
    "align_detector": read_crystfel,
    "dials": read_dials,
    "project": project_settings,
    "xwiz": read_xwiz,
    "om": read_om,
    "cheetah": read_cheetah,
    "json": lambda text: json.loads(text)["settings"],
}


def exported(recommendation: Recommendation, name: str, out: Path, **options) -> str:
    path = out / TARGETS.get(name).file
    write_export(recommendation, TARGETS.get(name), path, **options)
    return path.read_text("utf-8", "surrogateescape")


@st.composite
def some_settings(draw) -> Settings:
    pixels = draw(st.integers(1, 5))
    inner = draw(st.integers(0, 300))
    return Settings(
        min_snr=draw(st.floats(0.1, 100)),
        threshold=draw(st.floats(-500, 1e5)),
        min_pix_count=pixels,
        max_pix_count=pixels + draw(st.integers(0, 300)),
        local_bg_radius=draw(st.integers(1, 20)),
        min_res=inner,
        max_res=draw(st.sampled_from([0, inner + 1, 3000])),
        min_peaks=draw(st.integers(0, 50)),
    )


@pytest.mark.parametrize("name", READERS)
@examples(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(settings=some_settings())
def test_what_is_read_back_is_what_was_recommended(name, folder, settings):
    read = READERS[name](exported(recommendation_of(folder, settings), name, folder))
    expected = {field: getattr(settings, field) for field in HELD}
    if name != "json" and not settings.max_res:
        expected["max_res"] = 100_000
    if name == "dials":
        # Its resolution limits are in Å, and its threshold is another kind of search.
        expected = {field: expected[field] for field in read}
        assert read.pop("threshold") == pytest.approx(expected.pop("threshold"), rel=1e-5)
        assert read == expected
        return
    assert {field: read[field] for field in HELD} == expected


def test_every_programs_table_has_every_setting_of_a_peak_search():
    for program, names in NAMES.items():
        assert set(names) == {*HELD}, program
        written = [name for name in names.values() if name]
        assert len(set(written)) == len(written), program


@pytest.mark.parametrize("name", TARGETS.names())
def test_every_value_is_held_or_said_not_to_be(name, folder, tmp_path):
    recommendation = recommendation_of(folder)
    _, notes = write_export(recommendation, TARGETS.get(name), tmp_path / TARGETS.get(name).file)
    text = (tmp_path / TARGETS.get(name).file).read_text()
    if name == "geom":
        held = {"clen", "shift_x", "shift_y"}
        said = "\n".join(notes).replace("-", "_")
    else:
        held = {key for key in READERS[name](text) if getattr(TUNED, key) is not None}
        said = "\n".join(notes)
    for field in fields(Settings):
        if field.name in unused_settings(TUNED.peak_finder):
            continue
        names = {field.name, OPTIONS.get(field.name, field.name)}
        assert field.name in held or any(each in said for each in names), field.name


OTHERS = [
    TUNED.replace(peak_finder="robust", min_snr=2.37),
    TUNED.replace(peak_finder="learned", min_probability=0.37),
]


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: other.peak_finder)
@pytest.mark.parametrize("name", TARGETS.names())
def test_only_what_searches_for_no_peaks_takes_another_finder(name, other, folder, tmp_path):
    path = tmp_path / TARGETS.get(name).file
    if name in ("geom", "json"):
        _, notes = write_export(recommendation_of(folder, other), TARGETS.get(name), path)
        text = path.read_text()
        if name == "geom":
            assert f"{other.peak_finder} peak finder" in notes[0] and "sfx-tuner apply" in notes[0]
            assert "--min-snr" not in text
        else:
            assert json.loads(text)["settings"] == {
                name: value for name, value in other.as_dict().items() if value is not None
            }
        return
    with pytest.raises(InputError, match=r"does not have: write the hits with their peaks"):
        write_export(recommendation_of(folder, other), TARGETS.get(name), path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", WITH_COMMENTS)
def test_comments_say_whence_and_what_is_lost(name, folder, tmp_path):
    recommendation = recommendation_of(folder)
    _, notes = write_export(recommendation, TARGETS.get(name), tmp_path / TARGETS.get(name).file)
    mark = ";" if name == "geom" else "#"
    lines = (tmp_path / TARGETS.get(name).file).read_text().splitlines()
    comments = " ".join(line.lstrip(mark + " ") for line in lines if line.startswith(mark))
    assert "Written by sfx-tuner 0.1.0" in comments
    for key, value in recommendation.provenance.items():
        assert f"provenance: {key} = {value}" in comments
    assert "indexing_rate = 0.374" in comments
    assert notes
    for note in notes:
        assert f"Note: {note}." in comments


@pytest.mark.parametrize("name", TARGETS.names())
def test_what_was_edited_by_hand_is_said_to_have_no_evidence(name, folder, tmp_path):
    measured = settings_digest(TUNED.replace(min_snr=5))
    edited = recommendation_of(folder, settings_sha256=measured)
    out = tmp_path / TARGETS.get(name).file
    _, notes = write_export(edited, TARGETS.get(name), out)
    assert "edited by hand" in notes[0] and "edited by hand" in out.read_text()
    assert "evidence: " not in out.read_text()
    _, notes = write_export(recommendation_of(folder), TARGETS.get(name), out)
    assert "edited by hand" not in out.read_text() + "".join(notes)


@pytest.mark.parametrize("name", ["crystfel", "align_detector", "project", "geom", "xwiz"])
def test_the_geometry_names_the_mask(name, folder, tmp_path):
    files, notes = write_export(recommendation_of(folder), TARGETS.get(name), tmp_path / "out.x")
    mask = next(file for file in files if file.suffix == ".h5")
    geometry = files[0] if name == "geom" else tmp_path / "out.x.geom"
    (source,) = Geometry.read(geometry).panels[0].masks
    assert Path(source.file) == mask
    with h5py.File(mask) as file:
        bits = file[source.data][()]
    expected = np.full((5632, 384), 16, np.uint8)
    expected[2:-2, 2:-2] = 0
    expected[10, 20], expected[100, 200], expected[5000, 300] = 2, 4, 8
    np.testing.assert_array_equal(bits, expected)
    assert ((bits & source.bad_bits) != 0).sum() == (expected != 0).sum()
    assert any(mask.name in note for note in notes)


@pytest.mark.parametrize("name", WITH_COMMENTS)
def test_a_mask_that_cannot_be_held_is_said_out_loud(name, folder, tmp_path):
    recommendation = recommendation_of(folder, bad_pixels=str(tmp_path / "gone.h5"))
    files, notes = write_export(recommendation, TARGETS.get(name), tmp_path / "out.x")
    said = next(note for note in notes if "NOT held" in note)
    assert "--hot-sigma 6.5 --noisy-sigma 7.5 --dead-sigma 8.5 --edge 2" in said
    assert not any(file.suffix == ".h5" for file in files)


def test_edges_need_no_map(folder, tmp_path):
    settings = Settings(mask_edge=1)
    recommendation = recommendation_of(folder, settings, bad_pixels="")
    files, _ = write_export(recommendation, TARGETS.get("geom"), tmp_path / "out.x")
    with h5py.File(files[-1]) as file:
        assert (file["/mask"][()] == 16).sum() == 2 * (5632 + 384) - 4


def test_json_has_everything(folder, tmp_path):
    document = json.loads(exported(recommendation_of(folder), "json", tmp_path))
    assert document["written_by"].startswith("sfx-tuner ")
    assert Settings(**document["settings"]) == TUNED
    assert document["evidence"]["ci95"] == [0.333, 0.417]
    assert document["provenance"]["indexer"] == "CrystFEL 0.12.0, xgandalf"
    assert document["units"]["threshold"] == "ADU"


@pytest.mark.parametrize("name", ["crystfel", "project", "geom", "xwiz", "om"])
def test_the_geometry_that_is_named_has_the_tuned_place(name, folder, tmp_path):
    files, _ = write_export(recommendation_of(folder), TARGETS.get(name), tmp_path / "out.x")
    geometry = Geometry.read(next(f for f in files[::-1] if f.suffix not in (".h5", ".cell")))
    assert geometry.camera_length() == pytest.approx(TUNED.clen, abs=1e-12)
    assert (geometry.shift_x, geometry.shift_y) == (TUNED.shift_x, TUNED.shift_y)
    if name != "geom":
        assert files[:2] == [tmp_path / "out.x", tmp_path / "out.x.geom"]
        assert str(tmp_path / "out.x.geom") in files[0].read_text()


def test_a_commented_geometry_keeps_its_lines(folder, tmp_path):
    source = tmp_path / "dos.geom"
    source.write_bytes(EPIX.replace("\n", "\r\n").encode())
    as_it_was = TUNED.replace(clen=None, shift_x=0.0, shift_y=0.0, mask_edge=0)
    as_it_was = as_it_was.replace(mask_hot_sigma=0, mask_noisy_sigma=0, mask_dead_sigma=0)
    recommendation = recommendation_of(folder, as_it_was)
    write_export(recommendation, TARGETS.get("geom"), tmp_path / "out.geom", geometry=source)
    text = (tmp_path / "out.geom").read_bytes()
    assert text.endswith(source.read_bytes())
    assert text.count(b"\n") == text.count(b"\r\n")


def test_a_line_break_in_the_provenance_does_not_end_the_comment(folder, tmp_path):
    hostile = recommendation_of(folder, date="today\ntouch hacked\r\nhitfinder=0\u2028\x0c")
    for name in WITH_COMMENTS:
        text = exported(hostile, name, tmp_path)
        for line in text.replace("\r", "\n").splitlines():
            assert not line.startswith(("touch", "hitfinder=0")), name


@pytest.mark.parametrize(
    "words", ["a\x85b: 1", "a\u2028b: 1", "a\nb: 1", "a\rb: 1", "\x1b]0;x\x07"]
)
def test_no_words_of_others_leave_a_comment(words, folder, tmp_path):
    hostile = recommendation_of(folder, date=words)
    for name in WITH_COMMENTS:
        text = exported(hostile, name, tmp_path)
        # YAML and Python end a line at more characters than most.
        lines = [line for line in text.splitlines() if line.startswith(("b: 1", "x"))]
        assert lines == [] and "\x1b" not in text, name
    before = yaml.safe_load(exported(recommendation_of(folder), "om", tmp_path))
    assert yaml.safe_load(exported(hostile, "om", tmp_path)) == before


@pytest.mark.parametrize(
    "provenance",
    [
        {"indexer": "CrystFEL 0.12.0, xgandalf --output=/tmp/elsewhere"},
        {"indexer": "CrystFEL 0.12.0, --output=/tmp/elsewhere"},
        {"indexer": "CrystFEL 0.12.0, rm normal"},
        {"indexer_name": "crystfel", "indexer_method": "xgandalf --output=x"},
        {"indexer_name": "crystfel", "indexer_method": "file"},
        {"indexer_name": "crystfel", "indexer_method": ["a"]},
        {"indexer_name": "crystfel", "indexer_method": "asdf", "indexer_options": ["--output=x"]},
        {"indexer_name": "crystfel", "indexer_method": "asdf", "indexer_options": "--output=x"},
        {
            "indexer_name": "crystfel",
            "indexer_method": "taketwo",
            "indexer_options": ["--taketwo-member-threshold=5", "--temp-dir=/home"],
        },
        {
            "indexer_name": "crystfel",
            "indexer_method": "felix",
            "indexer_options": ["--felix-options=/home/x"],
        },
    ],
)
def test_a_strangers_indexer_adds_no_option_to_a_script(provenance, folder, tmp_path):
    for name in ("crystfel", "align_detector", "project", "xwiz", "json"):
        with pytest.raises(InputError, match="provenance"):
            exported(recommendation_of(folder, **provenance), name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_methods_own_options_are_kept(folder, tmp_path):
    known = {
        "indexer_name": "crystfel",
        "indexer_method": "mosflm-latt-nocell,asdf",
        "indexer_options": ["--xgandalf-sampling-pitch=3", "--multi"],
    }
    script = exported(recommendation_of(folder, **known), "crystfel", tmp_path)
    assert "--indexing=mosflm-latt-nocell,asdf" in script and "--multi" in script


def test_a_list_is_told_by_what_is_in_it(folder, tmp_path):
    (tmp_path / "run.files").write_text("run7.h5\n")
    script = exported(
        recommendation_of(folder, data=str(tmp_path / "run.files")), "crystfel", tmp_path
    )
    assert f"--input={tmp_path}/run.files" in script and "printf" not in script


def test_a_name_that_a_file_cannot_hold_is_refused(folder, tmp_path):
    line = recommendation_of(folder, data="/data/a\nb/run.h5")
    for name in ("crystfel", "project"):
        with pytest.raises(InputError, match="another name"):
            exported(line, name, tmp_path)
    latin = tmp_path / os.fsdecode(b"caf\xe9")
    latin.mkdir()
    for name in ("xwiz", "om"):
        with pytest.raises(InputError, match=r"caf\\xe9.* is not in UTF-8"):
            exported(recommendation_of(folder), name, latin)
    (script, *_), _ = write_export(
        recommendation_of(folder), TARGETS.get("crystfel"), latin / "index.sh"
    )
    assert b"/caf\xe9/index.sh.geom" in script.read_bytes()


def test_the_script_quotes_names(folder, tmp_path):
    script = exported(recommendation_of(folder), "crystfel", tmp_path)
    assert os.access(tmp_path / "recommended.sh", os.X_OK)
    stand_in = tmp_path / "indexamajig"
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)
    done = subprocess.run(
        [tmp_path / "recommended.sh", "--no-image-data"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "JOBS": "3"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [*words_of(script), "-j", "3", "--no-image-data"]
    assert (tmp_path / "recommended.sh.lst").read_text() == "/data/it's run 7.h5\n"


def test_a_list_of_files_is_given_as_it_is(folder, tmp_path):
    script = exported(recommendation_of(folder, data="/data/runs.lst"), "crystfel", tmp_path)
    assert "--input=/data/runs.lst" in words_of(script)
    assert "printf" not in script


@pytest.mark.parametrize(
    ("indexer", "options"),
    [
        ("CrystFEL 0.12.0, xgandalf", ["--indexing=xgandalf", "--xgandalf-sampling-pitch=1"]),
        ("CrystFEL 0.9.1, xgandalf thorough", list(XGANDALF_EFFORTS["thorough"])),
        ("CrystFEL 0.11.1, asdf", ["--indexing=asdf"]),
        (
            "CrystFEL 0.12.0, pinkIndexer --pinkIndexer-tolerance=0.1",
            ["--indexing=pinkIndexer", "--pinkIndexer-tolerance=0.1"],
        ),
        ("fast 0.1.0", ["--indexing=xgandalf"]),
    ],
)
def test_crystfel_indexes_as_the_session_did(indexer, options, folder, tmp_path):
    recommendation = recommendation_of(folder, indexer=indexer)
    _, notes = write_export(recommendation, TARGETS.get("crystfel"), tmp_path / "x.sh")
    assert set(options) <= set(words_of((tmp_path / "x.sh").read_text()))
    assert any("tune with --indexer crystfel" in note for note in notes) == (indexer[:4] == "fast")
    block = tomllib.loads(exported(recommendation, "xwiz", tmp_path))["indexamajig_run"]
    assert f"--indexing={block['index_method']}" in words_of((tmp_path / "x.sh").read_text())


def test_project_lines_suit_other_readers(folder, tmp_path):
    """EXtra-Xwiz's importer takes the first word of each line, so no line may be empty."""
    text = exported(recommendation_of(folder), "project", tmp_path)
    assert all(line.split() for line in text.splitlines())
    values = read_project(text)
    assert values["indexing.multi_lattice"] == "0"
    assert values["data_folder"] == "/data"


XWIZ_BLOCK = {
    *("resolution", "peak_method", "peak_threshold", "peak_snr", "peak_min_px", "peak_max_px"),
    *("peaks_hdf5_path", "index_method", "n_cores", "local_bg_radius", "integration_radii"),
    *("max_res", "min_peaks", "extra_options"),
}
"""What EXtra-Xwiz's workflow takes from the block; it stops where one is missing."""


@pytest.mark.parametrize(
    ("old", "block", "cell_key"),
    [(False, "indexamajig_run", "file_path"), (True, "proc_coarse", "file")],
)
def test_xwiz_blocks_are_whole(old, block, cell_key, folder, tmp_path):
    document = tomllib.loads(exported(recommendation_of(folder), "xwiz", tmp_path, old=old))
    assert document.keys() == {"geom", block, "unit_cell"}
    assert document[block].keys() == XWIZ_BLOCK
    written = str(tmp_path / "recommended.xwiz.toml.cell")
    assert document["unit_cell"] == {cell_key: written, "run_refine": False}
    assert Cell.read(written) == Cell.read(folder / "run.cell")


OM_KEYS = {
    "max_num_peaks": int,
    "adc_threshold": float,
    "minimum_snr": float,
    "min_pixel_count": int,
    "max_pixel_count": int,
    "local_bg_radius": int,
    "min_res": int,
    "max_res": int,
    "fast_mode": bool,
}
"""OM's keys and their types: 23.8.3 checks the types, its development version the keys too."""


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("9300 eV", "9300"),
        ("9.3 keV ; mono", "9300 ; mono"),
        ("9300", "9300"),
        ("/entry/energy eV", "/entry/energy eV"),
    ],
)
def test_om_gets_a_photon_energy_that_it_can_read(given, written, folder, tmp_path):
    source = tmp_path / "energy.geom"
    source.write_text(EPIX.replace("9300 eV", given))
    exported(recommendation_of(folder), "om", tmp_path, geometry=source)
    assert f"photon_energy = {written}\n" in (tmp_path / "recommended.yaml.geom").read_text()


@pytest.mark.parametrize("old", [False, True])
def test_om_keys_and_types(old, folder, tmp_path):
    document = yaml.safe_load(exported(recommendation_of(folder), "om", tmp_path, old=old))
    block = document["peakfinder8_peak_detection"]
    assert block.pop("detector_type", None) == ("epix10k2M" if old else None)
    assert {key: type(value) for key, value in block.items()} == OM_KEYS
    assert document["om"]  # the released reader fails without this group
    # Strictly more than the one and fewer than the other is a hit.
    assert document["crystallography"]["min_num_peaks_for_hit"] == TUNED.min_peaks - 1
    assert document["crystallography"]["max_num_peaks_for_hit"] > block["max_num_peaks"]


def test_om_detector_that_has_no_name(folder, tmp_path):
    source = tmp_path / "small.geom"
    source.write_text(EPIX.replace("5631", "99"))
    _, notes = write_export(
        recommendation_of(folder), TARGETS.get("om"), tmp_path / "x.yaml", geometry=source, old=True
    )
    assert any("OM names no detector of 100 × 384 pixels" in note for note in notes)
    text = (tmp_path / "x.yaml").read_text()
    assert "detector_type" not in yaml.safe_load(text)["peakfinder8_peak_detection"]


def test_cheetah_is_told_the_change_of_its_offset(folder, tmp_path):
    _, notes = write_export(recommendation_of(folder), TARGETS.get("cheetah"), tmp_path / "x.ini")
    assert any("add +1.171 mm to cameraLengthOffset" in note for note in notes)


def test_nothing_of_the_users_is_overwritten(folder, tmp_path):
    recommendation = recommendation_of(folder)
    (folder / "link.geom").symlink_to("run.geom")
    (folder / "hard.geom").hardlink_to(folder / "run.geom")
    for name in ("run.geom", "link.geom", "hard.geom", "run.cell"):
        with pytest.raises(InputError, match="must stay as it is"):
            write_export(recommendation, TARGETS.get("geom"), folder / name)
    # What is written beside a file never has a name that the user may have given.
    write_export(recommendation, TARGETS.get("om"), folder / "run.yaml")
    with pytest.raises(InputError, match="exists already"):
        write_export(recommendation, TARGETS.get("om"), folder / "run.yaml", replace=False)
    assert (folder / "run.geom").read_text() == EPIX


def test_inputs_that_are_gone(folder, tmp_path):
    for name in ("crystfel", "xwiz", "project"):
        with pytest.raises(InputError, match=r"gone\.cell"):
            exported(recommendation_of(folder, cell="gone.cell"), name, tmp_path)
    with pytest.raises(InputError, match="name it with -g"):
        exported(recommendation_of(folder, geometry="gone.geom"), "om", tmp_path)
    gone = recommendation_of(folder, cell="gone.cell")
    exported(gone, "xwiz", tmp_path, cell=folder / "run.cell")
    written = tmp_path / "recommended.xwiz.toml.cell"
    assert Cell.read(written) == Cell.read(folder / "run.cell")


def test_settings_written_by_hand(folder, tmp_path):
    """Without evidence and provenance the files of the user's choice are enough."""
    bare = Recommendation(Settings(threshold=30.0), {}, {})
    for name in TARGETS:
        exported(bare, name, tmp_path, geometry=folder / "run.geom", cell=folder / "run.cell")


@pytest.fixture
def cli(cli):
    """Export in an empty folder; return the exit code, stdout and stderr."""
    return partial(cli, "export")


def test_command(cli, folder, tmp_path):
    write_recommendation(recommendation_of(folder), tmp_path / "recommended.toml")
    for name in TARGETS:
        code, out, err = cli("recommended.toml", "--to", name)
        assert code == 0
        assert out.splitlines()[-1].startswith(f"written: {TARGETS.get(name).file}")
        assert all(line.startswith("note: ") for line in err.splitlines())
        assert bool(err) == (name != "json")
    code, out, _ = cli("recommended.toml", "--to", "xwiz", "--json", "-o", "x.toml")
    assert json.loads(out)["files"] == [
        "x.toml",
        "x.toml.geom",
        "x.toml.mask.h5",
        "x.toml.cell",
    ]
    assert any("min_res" in note for note in json.loads(out)["notes"])
    code, out, err = cli("recommended.toml", "--to", "json", "--format-version", "old")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "leave out --format-version old" in err
    code, _, err = cli("recommended.toml", "--to", "om", "-o", "nowhere/om.yaml")
    assert code == 2
    assert "its directory does not exist" in err


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    return simulate_run(demo_experiment(seed=4), tmp_path_factory.mktemp("small") / "run", 12)


@pytest.mark.crystfel
@pytest.mark.slow
def test_the_script_reaches_the_evaluated_rate(small_run, indexamajig, tmp_path):
    settings = Settings(
        min_snr=4.5, threshold=25.0, min_pix_count=2, max_pix_count=50, min_res=10, clen=0.08
    )
    geometry, cell = Geometry.read(small_run.geometry), Cell.read(small_run.cell)
    run = Run.open(small_run.data, geometry)
    indexer = CrystfelIndexer(geometry, cell, program=indexamajig, jobs=1)
    with LiveEvaluator(run, cell, indexer, list(range(len(run)))) as evaluator:
        expected = evaluator.evaluate(settings)
    recommendation = Recommendation(
        settings,
        {},
        {
            "indexer": indexer.name,
            "geometry_clen": run.nominal_clen,
            "data": str(small_run.data),
            "geometry": str(small_run.geometry),
            "geometry_sha256": fingerprint(small_run.geometry),
            "cell": str(small_run.cell),
        },
    )
    exported(recommendation, "crystfel", tmp_path)
    done = subprocess.run(
        [tmp_path / "recommended.sh", "--harvest-file=in_use.json"],
        env={**os.environ, "PATH": f"{Path(indexamajig).parent}:{os.environ['PATH']}", "JOBS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    in_use = json.loads((tmp_path / "in_use.json").read_text())
    search = in_use["peaksearch"]
    assert {
        "min_snr": search["min_snr"],
        "threshold": search["threshold_adu"],
        "min_pix_count": search["min_pixel_count"],
        "max_pix_count": search["max_pixel_count"],
        "local_bg_radius": search["local_bg_radius_px"],
        "min_res": search["min_res_px"],
        "max_res": 0 if search["max_res_px"] == 100_000 else search["max_res_px"],
        "min_peaks": in_use["hitfinding"]["min_num_peaks"],
    } == {name: getattr(settings, name) for name in HELD if name != "peak_finder"}
    progress = read_progress(done.stdout + done.stderr)
    assert (progress.images, progress.hits) == (expected.n_frames, expected.n_hits)
    assert abs(progress.indexed - expected.n_indexed) <= 1  # xgandalf starts at random
    assert expected.n_indexed >= 3


OM_CHECK = """
from om.lib.crystallography import CrystallographyPeakFinding
from om.lib.geometry import GeometryInformation
from om.lib.parameters import MonitorParameters
parameters = MonitorParameters(config=sys.argv[1])
group = parameters.get_parameter_group(group="crystallography")
geometry = GeometryInformation.from_file(geometry_filename=group["geometry_file"])
CrystallographyPeakFinding(monitor_parameters=parameters, geometry_information=geometry)
"""


@pytest.mark.parametrize("old", [False, True])
def test_the_released_om_takes_its_file(old, folder, tmp_path):
    """Needs a Python with ondamonitor 23.8.3, which wants NumPy 1: not that of the tests."""
    python = os.environ.get("SFX_TUNER_OM_PYTHON")
    if not python:
        pytest.skip("needs ondamonitor: SFX_TUNER_OM_PYTHON does not name a Python that has it")
    exported(recommendation_of(folder), "om", tmp_path, old=old)
    subprocess.run([python, "-c", OM_CHECK, tmp_path / "recommended.yaml"], check=True)


@pytest.mark.parametrize("target", ["json", "geom"])
@pytest.mark.parametrize("link", [False, True])
def test_a_mask_file_that_the_geometry_names_is_never_replaced(tmp_path, target, link):
    paths = simulate_run(demo_experiment(0), tmp_path / "run", 1)
    mask = out = tmp_path / "run" / "mask.h5"
    if link:
        out = tmp_path / "linked.h5"
        os.link(mask, out)
    before = mask.read_bytes()
    known = {
        "geometry": str(paths.geometry),
        "geometry_sha256": fingerprint(paths.geometry),
        "geometry_clen": 0.0788,
        "data": str(paths.data),
        "cell": str(paths.cell),
    }
    with pytest.raises(InputError, match="must stay as it is"):
        write_export(Recommendation(TUNED, {}, known), TARGETS.get(target), out, replace=True)
    assert mask.read_bytes() == before


@pytest.mark.parametrize("name", ["data", "geometry", "cell", "bad_pixels"])
@pytest.mark.parametrize("value", ["a\0b", "file://%00"])
def test_a_name_that_no_file_can_have_is_refused(folder, tmp_path, name, value):
    path = tmp_path / "recommended.toml"
    write_recommendation(recommendation_of(folder, **{name: "PLACE"}), path)
    path.write_text(path.read_text().replace("PLACE", value.replace("\0", "\\u0000")))
    with pytest.raises(InputError, match=f"provenance.{name} holds a NUL"):
        read_recommendation(path)


def test_a_folder_in_the_provenance_does_not_count_with_all_that_is_in_it(folder, tmp_path):
    known = recommendation_of(folder, data="/", cell=str(tmp_path))
    assert files_of_session(known) == [folder / "run.geom", folder / "bad_pixels.h5"]


@pytest.mark.parametrize("key", ["data", "geometry", "cell", "bad_pixels"])
def test_names_that_no_file_can_have_are_one_sentence(folder, tmp_path, key):
    found = recommendation_of(folder, **{key: "/data/" + "x" * 300})
    write_recommendation(found, tmp_path / "recommended.toml")
    with pytest.raises(InputError, match=f"provenance.{key} is longer than any file's name"):
        read_recommendation(tmp_path)

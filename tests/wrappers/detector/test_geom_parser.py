"""What a geometry file means: units, defaults, masks; and what is refused, and how."""

from __future__ import annotations

import contextlib
import math
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wrappers.detector.geom_parser import parse_geometry
from wrappers.detector.panels import HC, Header, MaskSource
from wrappers.errors import InputError

MINIMAL = """\
p/min_fs = 0
p/max_fs = 9
p/min_ss = 0
p/max_ss = 4
p/corner_x = -5
p/corner_y = -2
p/fs = x
p/ss = y
p/res = 10000
"""
in_one_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200
)


@pytest.fixture
def parse(tmp_path):
    def parse_text(text):
        path = tmp_path / "test.geom"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return parse_geometry(path)

    return parse_text


@pytest.mark.parametrize(
    ("value", "metres"),
    [
        ("0.1185", 0.1185),
        ("0.1185 m", 0.1185),
        ("118.5 mm", 0.1185),
        ("118.5   mm ; was 120 mm", 0.1185),
        ("-4.5e-1", -0.45),
        ("+.5", 0.5),
        ("/LCLS/detectorPosition", Header("/LCLS/detectorPosition", 1e-3)),
        ("/LCLS/detectorPosition m", Header("/LCLS/detectorPosition", 1.0)),
        ("/a/b mm", Header("/a/b", 1e-3)),
    ],
)
def test_clen(parse, value, metres):
    parsed = parse(f"clen = {value}\n{MINIMAL}")
    if isinstance(metres, Header):
        assert parsed.clen_header == metres and parsed.panels[0].clen is None
    else:
        assert parsed.clen_header is None and parsed.panels[0].clen == pytest.approx(metres)


@pytest.mark.parametrize(
    ("line", "electron_volts"),
    [
        ("photon_energy = 9300", 9300),
        ("photon_energy = 9300 eV", 9300),
        ("photon_energy = 9.3 keV", 9300),
        ("photon_energy = 0.0093 MeV", 9300),
        ("wavelength = 1.3 A", HC / 1.3),
        ("wavelength = 1.3e-10 m", HC / 1.3),
        ("photon_energy = /LCLS/photon_energy_eV", Header("/LCLS/photon_energy_eV", 1)),
        ("photon_energy = /e keV", Header("/e", 1e3)),
    ],
)
def test_photon_energy(parse, line, electron_volts):
    energy = parse(f"{line}\n{MINIMAL}").photon_energy
    expected = (
        electron_volts if isinstance(electron_volts, Header) else pytest.approx(electron_volts)
    )
    assert energy == expected


@pytest.mark.parametrize(("unit", "stored"), [("A", 1.3), ("m", 1.3e-10)])
def test_wavelength_in_the_data(parse, unit, stored):
    header = parse(f"wavelength = /LCLS/wavelength {unit}\n{MINIMAL}").photon_energy
    assert header.path == "/LCLS/wavelength"
    assert header.convert(stored) == pytest.approx(HC / 1.3)
    assert header.convert(0.0) == math.inf


def test_detector_shift(parse):
    parsed = parse(f"detector_shift_x = 1.5 mm\ndetector_shift_y = /shift/y m\n{MINIMAL}")
    assert parsed.shifts == [pytest.approx(0.0015), Header("/shift/y", 1.0)]


def test_defaults_apply_to_panels_first_mentioned_later(parse):
    second = MINIMAL.replace("p/", "q/").replace("q/res = 10000\n", "")
    parsed = parse(
        "clen = 0.1\nmax_adu = 100\nadu_per_eV = 0.1\nflag_lessthan = 1\n"
        f"{MINIMAL}max_adu = 200\nres = 5000\nadu_per_photon = 2\nflag_equal = 7\n"
        f"clen = 0.2\n{second}p/no_index = 1\nq/data = /two\n"
    )
    p, q = parsed.panels
    assert (p.max_adu, q.max_adu) == (100, 200)
    assert (p.res, q.res) == (10000, 5000)
    assert (p.adu_per_ev, p.adu_per_photon) == (0.1, None)
    assert (q.adu_per_ev, q.adu_per_photon) == (None, 2)
    assert p.flags == (("lessthan", 1),)
    assert q.flags == (("lessthan", 1), ("equal", 7))
    assert (p.no_index, q.no_index) == (True, False)
    assert (p.data, q.data) == ("/data/data", "/two")
    # clen is one value for the whole file, as in CrystFEL.
    assert p.clen == q.clen == 0.2


@pytest.mark.parametrize(
    ("text", "components"),
    [
        ("x", (1, 0, 0)),
        ("-y", (0, -1, 0)),
        ("+0.004806x +0.999989y", (0.004806, 0.999989, 0)),
        ("- 0.5x+.5y  -1z", (-0.5, 0.5, -1)),
        ("1.0x +0y", (1, 0, 0)),
        ("x +x", (2, 0, 0)),
    ],
)
def test_directions(parse, text, components):
    parsed = parse(
        MINIMAL.replace("p/fs = x", f"p/fs = {text}").replace("p/ss = y", "p/ss = 3z +2y -x")
    )
    assert parsed.panels[0].fs_vector == components


def test_dimensions(parse):
    parsed = parse("dim0 = %\ndim2 = %\ndim3 = ss\n" + MINIMAL + "p/dim1 = 3\np/dim4 = fs\n")
    assert parsed.panels[0].dims == ("%", 3, "%", "ss", "fs")
    assert parse(MINIMAL).panels[0].dims == ("ss", "fs")


def test_masks_new_and_old_words(parse, tmp_path):
    (tmp_path / "beside.h5").touch()
    parsed = parse(
        "mask = /m0\nmask_file = beside.h5\nmask_good = 0x01\nmask_bad = 6\n"
        "mask3_data = /m3\nmask3_goodbits = 0xFFFFFFFF\n"
        + MINIMAL
        + "p/mask3_file = /absolute/mask.h5\n"
    )
    assert parsed.panels[0].masks == (
        MaskSource("/m0", str(tmp_path / "beside.h5"), 1, 6),
        MaskSource("/m3", "/absolute/mask.h5", 0xFFFFFFFF, 0),
    )


def test_a_mask_file_is_also_found_from_the_working_directory(parse, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    text = "mask = /m\nmask_file = mask.h5\nmask_bad = 1\n" + MINIMAL
    assert parse(text).panels[0].masks[0].file == str(tmp_path / "mask.h5")
    (elsewhere / "mask.h5").touch()
    assert parse(text).panels[0].masks[0].file == str(elsewhere / "mask.h5")
    (tmp_path / "mask.h5").touch()
    assert parse(text).panels[0].masks[0].file == str(tmp_path / "mask.h5")


def test_what_has_no_meaning_here_is_ignored_and_noted_where_crystfel_does_not_know_it(parse):
    plain = parse("clen = 0.1\n" + MINIMAL)
    full = parse(
        "; a comment\n\n   \t\r\n# another\rclen = 0.1 ; m\r\nbandwidth = 0.01\n"
        "peak_list = /peaks\npeak_list_type = cxi\nsaturation_map = /s\n"
        "rigid_group_a = p,q\nrigid_group_collection_b = a\ngroup_all = p\nfuture_field = 3 = 4\n"
        + MINIMAL.replace("\n", "\r\n")
        + "p/badrow_direction = -\np/rail_direction = z\ngroup_late = p"
    )
    (note,) = full.notes
    assert note.endswith("without effect: future_field (line 13), p/rail_direction (line 24)")
    full.notes.clear()
    assert full == plain and not plain.notes


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("mask0_data = /m\nmask0_badbits = 1\n", "mask0_data (line 10), mask0_badbits (line 11)"),
        ("clen = 0.1\nflag_morethan = 15000\nphoton_energy = 9300\n", "flag_morethan (line 11)"),
        ("res = 13333.3\n", "res (line 10)"),
        ("adu_per_photon = 1\n", "adu_per_photon (line 10)"),
        ("; above is nothing\ndata = /late\np/max_adu = 1\n", "data (line 11)"),
    ],
)
def test_defaults_below_the_panels_are_refused_by_line(parse, lines, named):
    with pytest.raises(InputError, match=re.escape(named) + " stands? below the panels"):
        parse(MINIMAL + lines)
    parse(lines + MINIMAL.replace("p/res = 10000\n", "p/res = 10000\n"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("mask0_badbit = 1", "mask0_badbit = '1' has no effect.*do you mean mask0_badbits"),
        ("mask_0_data = /m", "do you mean mask0_data"),
        ("mask_badbits = 1", "do you mean mask0_badbits"),
        ("mask_bads = 1", "do you mean mask_bad"),
        ("masks_data = /m", "has no effect"),
        ("mask_edge_pixel = 1", "do you mean mask_edge_pixels"),
        ("mask8_data = /m", "no mask8"),
        ("mask12_file = m.h5", "no mask12"),
        ("p/mask0_bad = 1", "has no effect"),
        ("mask0_badbits = 1", "has mask0_badbits, but no mask0_data"),
        ("mask_good = 0x4", "has mask0_goodbits, but no mask0_data"),
        ("mask2_data = /m", "no bits of it"),
        ("mask2_data = /m\nmask2_badbits = 0", "no bits of it"),
        ("bad_a/min_x = 0\nbad_a/max_x = 1\nbad_a/mask0_data = /m", "begins with 'bad'"),
        ("badge/min_fs = 0\nbadge/max_fs = 3\nbadge/res = 10", "begins with 'bad'"),
    ],
)
def test_mask_lines_without_effect_are_refused(parse, line, says):
    with pytest.raises(InputError, match=says):
        parse(f"{line}\n{MINIMAL}")


@pytest.mark.parametrize("mark", ["\ufeff", "\ufeff; mine\n"])
def test_a_byte_order_mark_is_no_part_of_the_first_line(parse, mark):
    assert parse(f"{mark}photon_energy = 9300 eV\n{MINIMAL}").photon_energy == 9300


@pytest.mark.parametrize(
    ("line", "electron_volts"),
    [
        # 200 kV: 2.5079 pm, 300 kV: 1.9687 pm (Reimer & Kohl, Transmission Electron Microscopy).
        ("electron_voltage = 200 kV", HC / 0.025079),
        ("electron_voltage = 300000 V", HC / 0.019687),
    ],
)
def test_electrons_are_photons_of_their_wavelength(parse, line, electron_volts):
    assert parse(f"{line}\n{MINIMAL}").photon_energy == pytest.approx(electron_volts, rel=1e-4)


def test_electron_voltage_in_the_data(parse):
    header = parse(f"electron_voltage = /hv kV\n{MINIMAL}").photon_energy
    assert header.convert(200.0) == pytest.approx(HC / 0.025079, rel=1e-4)
    assert header.convert(0.0) != header.convert(0.0) and header.convert(-1) != header.convert(-1)


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("photon_energy = 9300\teV", "photon_energy", 9300),
        ("photon_energy = 9300eV", "photon_energy", 9300),
        ("photon_energy = 9.3  keV", "photon_energy", 9300),
        (
            "photon_energy = LCLS/photon_energy eV",
            "photon_energy",
            Header("/LCLS/photon_energy", 1),
        ),
        ("clen = 80mm", "clen", 0.08),
        ("clen = 80\tmm", "clen", 0.08),
        ("clen = e/n", "clen", Header("/e/n", 1e-3)),
        ("coffset = 0.5 m", "coffset", 0.5),
        ("data = entry/data", "data", "/entry/data"),
    ],
)
def test_values_as_people_write_them(parse, line, field, value):
    parsed = parse(f"{line}\n{MINIMAL}")
    if field == "clen" and isinstance(value, Header):
        assert parsed.clen_header == value
    else:
        found = getattr(parsed if field == "photon_energy" else parsed.panels[0], field)
        assert found == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no panel"),
        ("clen = 0.1\n", "no panel"),
        ("what is this\n", "line 1.*CrystFEL geometry"),
        ("p/min_fs = 0\n", "panel p lacks max_fs, min_ss"),
        (MINIMAL.replace("p/res = 10000\n", ""), "lacks res"),
        (MINIMAL.replace("max_fs = 9", "max_fs = nine"), "line 2: p/max_fs = 'nine'"),
        (MINIMAL.replace("max_fs = 9", "max_fs = 8.5"), "whole number"),
        (MINIMAL.replace("min_fs = 0", "min_fs = -1"), "negative"),
        (MINIMAL.replace("min_fs = 0", "min_fs = 12"), "ends before it begins"),
        (MINIMAL.replace("corner_x = -5", "corner_x = 1e999"), "plain number"),
        (MINIMAL.replace("corner_x = -5", "corner_x = -5 px"), "plain number"),
        (MINIMAL.replace("res = 10000", "res = 0"), "above 0"),
        (MINIMAL.replace("p/fs = x", "p/fs = 0.5q"), "direction"),
        (MINIMAL.replace("p/fs = x", "p/fs = 1x0.5y"), "direction"),
        (MINIMAL.replace("p/fs = x", "p/fs = -2y"), "no plane"),
        (MINIMAL.replace("p/fs = x", "p/fs = 1e300x"), "direction"),
        (MINIMAL + "clen = 12 furlongs\n", "clen = '12 furlongs' must end in a unit, one of m, mm"),
        (MINIMAL + "clen = nan\n", "plain number"),
        (MINIMAL + "photon_energy = -Inf eV\n", "plain number"),
        (MINIMAL + "clen = 0.1 # m\n", "a comment begins with ';'"),
        (MINIMAL + "p/coffset = 5 mm\n", "in metres"),
        (MINIMAL + "electron_voltage = 200000\n", "unit, one of V, kV"),
        (MINIMAL + "p/res = 75e-6\n", "pixels per metre"),
        (MINIMAL.replace("corner_x = -5", "corner_x = 1e308"), "number of pixels"),
        (MINIMAL + f"p/data = /{'x' * 5000}\n", "at most 200 characters"),
        (MINIMAL + f"p/mask0_file = {'x' * 5000}\n", "at most 4096 characters"),
        (MINIMAL.replace("p/", "p" * 5000 + "/"), "at most 200 characters"),
        (MINIMAL + "photon_energy = -1\n", "above 0"),
        (MINIMAL + "wavelength = 1.3\n", "unit"),
        (MINIMAL + "wavelength = 0 A\n", "above 0"),
        (MINIMAL + "p/mask0_badbits = 0x1ffffffff\n", "bit mask"),
        (MINIMAL + "p/mask = nowhere\n", "path"),
        (MINIMAL + "p/mask_file = m.h5\n", "no mask0_data"),
        (MINIMAL + "p/mask = /m/%\np/mask_bad = 1\n", "more '%'"),
        (MINIMAL + "p/dim0 = time\n", "must be '%'"),
        (MINIMAL + "p/dim0 = fs\np/dim1 = ss\n", "ss once and, after it, fs once"),
        (MINIMAL + "p/dim0 = %\n", "ss once"),
        (MINIMAL + "p/dim3 = %\n", "skips a dimension"),
        (MINIMAL + MINIMAL.replace("p/", "q/") + "q/data = /%/d\n", "number of '%'"),
        (
            MINIMAL + "p/clen = 1\n" + MINIMAL.replace("p/", "q/") + "q/clen = /z\n",
            "different clen",
        ),
        (MINIMAL + "bad/min_x = 1\nbad/max_fs = 2\n", "mixes"),
        (MINIMAL + "bad/min_x = 1\n", "lacks max_x, min_y, max_y"),
        (
            MINIMAL
            + "bad/min_fs = 1\nbad/max_fs = 1\nbad/min_ss = 1\nbad/max_ss = 1\nbad/panel = z\n",
            "panel 'z'",
        ),
    ],
)
def test_refusals_name_the_file_and_the_fault(parse, text, says):
    with pytest.raises(InputError, match=says) as caught:
        parse(text)
    assert "test.geom" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(InputError, match=r"absent\.geom cannot be read"):
        parse_geometry(tmp_path / "absent.geom")


numbers = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 6))
names = st.from_regex(r"[a-zA-Z0-9_.]{1,8}", fullmatch=True).filter(
    lambda name: not name.startswith(("bad", "group", "rigid_group"))
)
lengths = st.one_of(
    st.tuples(st.floats(0.01, 10).map(lambda x: round(x, 6)), st.sampled_from(["", " m", " mm"])),
    st.tuples(st.just("/z"), st.sampled_from(["", " m", " mm"])),
)


@st.composite
def panel_values(draw):
    first = [draw(st.integers(0, 50)), draw(st.integers(0, 50))]
    angle = draw(st.floats(-math.pi, math.pi))
    cos, sin = round(math.cos(angle), 9), round(math.sin(angle), 9)
    return {
        "min_fs": first[0],
        "max_fs": first[0] + draw(st.integers(0, 50)),
        "min_ss": first[1],
        "max_ss": first[1] + draw(st.integers(0, 50)),
        "corner_x": draw(numbers),
        "corner_y": draw(numbers),
        "coffset": draw(numbers),
        "res": draw(st.floats(1, 1e5)),
        "max_adu": draw(numbers),
        "no_index": draw(st.booleans()),
        "mask_edge_pixels": draw(st.integers(0, 5)),
        "fs": (cos, sin, 0.0),
        "ss": (-sin, cos, round(draw(st.floats(-0.1, 0.1)), 9)),
    }


@in_one_folder
@given(
    panels=st.dictionaries(names, panel_values(), min_size=1, max_size=4),
    clen=lengths,
    blanks=st.sampled_from(["", " ", "\t "]),
    end=st.sampled_from(["\n", "\r\n", "\r", " ; = comment\n"]),
    spelling=st.sampled_from([repr, lambda x: f"{x:+.9e}", str]),
)
def test_what_is_written_is_read(parse, panels, clen, blanks, end, spelling):
    lines = [f"clen{blanks}={blanks}{clen[0]}{clen[1]}"]
    for name, fields in panels.items():
        for key, value in fields.items():
            if isinstance(value, tuple):
                text = " ".join(f"{v:+.9f}{axis}" for v, axis in zip(value, "xyz", strict=True))
            elif isinstance(value, float):
                text = spelling(value)
            else:
                text = str(value)
            lines.append(f"{blanks}{name}/{key}{blanks}={blanks}{text}{blanks}")
    parsed = parse(end.join(lines))
    if clen[0] == "/z":
        assert parsed.clen_header == Header("/z", 1.0 if clen[1] == " m" else 1e-3)
    else:
        assert parsed.panels[0].clen == clen[0] * (1e-3 if clen[1] == " mm" else 1)
    assert [panel.name for panel in parsed.panels] == list(panels)
    for panel, fields in zip(parsed.panels, panels.values(), strict=True):
        for key, value in fields.items():
            attribute = {"fs": "fs_vector", "ss": "ss_vector", "mask_edge_pixels": "edge"}
            found = getattr(panel, attribute.get(key, key))
            assert found == pytest.approx(value, rel=1e-9)


JUNK_KEYS = [
    "clen",
    "coffset",
    "photon_energy",
    "wavelength",
    "min_fs",
    "max_ss",
    "corner_x",
    "fs",
    "ss",
    "res",
    "dim0",
    "dim1",
    "dim7",
    "mask",
    "mask_file",
    "mask3_badbits",
    "mask9_data",
    "no_index",
    "max_adu",
    "flag_equal",
    "panel",
    "min_x",
    "data",
    "detector_shift_x",
    "adu_per_eV",
    "mask_edge_pixels",
]
junk_lines = st.one_of(
    st.text(max_size=40),
    st.builds(
        "{}{} = {}".format,
        st.sampled_from(["", "p/", "q/", "bad/", "badz/"]),
        st.sampled_from(JUNK_KEYS),
        st.one_of(
            st.text(max_size=20),
            st.sampled_from(
                ["%", "ss", "1e400", "0x", "/", "- x", "nan", "1_0", "٣", "/a m", "1 m"]
            ),
            numbers.map(str),
            st.integers().map(str),
        ),
    ),
)


@in_one_folder
@given(st.lists(st.one_of(junk_lines, st.sampled_from(MINIMAL.splitlines())), max_size=12))
def test_junk_gives_a_geometry_or_an_input_error(parse, lines):
    text = (MINIMAL + "\n".join(lines)).encode("utf-8", "replace")
    with contextlib.suppress(InputError):
        parse(text)


@in_one_folder
@given(st.binary(max_size=200))
def test_junk_bytes_give_an_input_error(parse, junk):
    with pytest.raises(InputError):
        parse(junk)

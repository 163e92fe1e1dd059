"""The detector's part of the report, from a real session's files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from envs.simulation.simulator import demo_experiment, simulate_run
from tuner.recommendation import read_recommendation
from tuner.report import write_report
from tuner.report.detector_page import _hot_places, _powder, detector_page
from tuner.report.findings import find
from tuner.report.frames import compare_frames, open_run
from tuner.report.images import placed
from tuner.report.prediction import resolution_rings
from tuner.report.spots import Spots, _cell_of, peakogram
from tuner.session.budget import Budget
from tuner.session.request import Request
from tuner.session.store import SessionStore
from tuner.tuning import tune
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.indexers import IndexerChoice
from wrappers.indexing import Pattern
from wrappers.peaks import PeakList

N_FRAMES = 20


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session on simulated frames, with the run beside it; read-only."""
    folder = tmp_path_factory.mktemp("detector")
    paths = simulate_run(demo_experiment(seed=1), folder / "run", N_FRAMES)
    request = Request(
        paths.data,
        paths.geometry,
        paths.cell,
        searcher="map",
        indexer=IndexerChoice("fast"),
        n_frames=N_FRAMES,
    )
    assert tune(request, folder / "session", budget=Budget(4), cell_check=False) is not None
    return folder / "session"


def test_it_shows_all_frames_and_the_cells_of_the_lattices(session) -> None:
    store = SessionStore.open(session)
    found = find(store, read_recommendation(session))
    page = detector_page(store, found.best)
    assert page.note == "" and page.n_frames == N_FRAMES and page.powder is not None
    run, cell = open_run(store)
    assert (
        0
        <= page.n_masked
        < page.n_pixels
        == sum(panel.width * panel.height for panel in run.geometry.panels)
    )
    assert len(page.powder.outlines) == len(run.geometry.panels)
    assert len(page.powder.peaks) == sum(o.n_peaks for o in found.best.outcomes if not o.failure), (
        "each peak that the evaluation counted has its place"
    )
    width, height = page.powder.size
    assert all(0 <= x <= width and 0 <= y <= height for x, y in page.powder.peaks)
    labels = [str(svg) for svg in page.histograms]
    a = next(label for label in labels if 'aria-label="a of' in label)
    assert f"{cell.a:g} Å in the cell file" in a
    assert f"of {sum(o.n_lattices for o in found.best.outcomes)} lattices" in a


def test_pictures_of_frames_have_the_same_beam_and_rings(session) -> None:
    store = SessionStore.open(session)
    found = find(store, read_recommendation(session))
    powder = detector_page(store, found.best).powder
    gallery = compare_frames(store, found.best, found.baseline)
    assert gallery.comparisons and powder is not None
    for each in gallery.comparisons:
        assert each.beam == pytest.approx(powder.beam, abs=0.01) and each.size == powder.size
        assert [d for _, d in each.rings] == [d for _, d in powder.rings]
    # By symmetry of the demonstration's detector the beam is about its middle.
    assert powder.beam == pytest.approx(np.array(powder.size) / 2, rel=0.1)


def test_maximum_and_mean_are_those_of_the_usable_pixels(session) -> None:
    frames = [0, 3, 7]
    run, _ = open_run(SessionStore.open(session))
    with run:
        maximum, mean, usable, energy = _powder(run, frames)
        data = np.array([run[i].data for i in frames], float)
        mask = np.array([run[i].mask for i in frames])
        assert energy == run[0].photon_energy
    assert (usable == mask.any(axis=0)).all()
    assert np.allclose(maximum[usable], np.where(mask, data, -np.inf).max(axis=0)[usable])
    assert np.allclose(mean[usable], np.ma.array(data, mask=~mask).mean(axis=0)[usable], rtol=1e-5)
    assert (maximum[~usable] == 0).all() and (mean[~usable] == 0).all()


def test_rings_are_where_bragg_has_them() -> None:
    rings = resolution_rings(wavelength=1.3, distance=1000.0, reach=900.0)
    assert [d for _, d in rings] == sorted((d for _, d in rings), reverse=True)
    for radius, d in rings:
        assert d == pytest.approx(1.3 / (2 * np.sin(np.arctan(radius / 1000.0) / 2)))
        assert radius < 900
    assert np.diff([radius for radius, _ in rings]).min() > 0.07 * 900
    assert resolution_rings(wavelength=1.3, distance=1000.0, reach=10.0) == ()


def test_a_place_with_a_peak_in_many_frames_is_told(session) -> None:
    geometry = open_run(SessionStore.open(session))[0].geometry

    def peaks(*places: tuple[float, float]) -> Pattern:
        fs, ss = np.array(places).T
        n = np.ones(len(places))
        ints = np.zeros(len(places), np.int32)
        return Pattern(PeakList(fs, ss, n, n, ints, ints, n), 9e3, 0.08)

    scattered = {i: peaks((10.5 + 4 * i, 20.5 + 3 * i)) for i in range(20)}
    assert _hot_places(geometry, scattered, 20) == ()
    hot = {i: peaks((10.5 + 4 * i, 120.5 + 3 * i), (40.5, 50.5)) for i in range(5)}
    said = _hot_places(geometry, hot, 20)
    assert len(said) == 1 and "At 1 places" in said[0] and "5 of 20" in said[0]
    assert "fs 40, ss 50" in said[0]


def test_a_cell_is_told_from_its_reciprocal_axes() -> None:
    cell = Cell(50.0, 60.0, 70.0, 85.0, 95.0, 105.0)
    reciprocal = np.linalg.inv(_axes(cell)).T
    assert _cell_of(reciprocal) == pytest.approx([50, 60, 70, 85, 95, 105])


def _axes(cell: Cell) -> np.ndarray:
    al, be, ga = np.radians([cell.al, cell.be, cell.ga])
    c1, c2 = np.cos(be), (np.cos(al) - np.cos(be) * np.cos(ga)) / np.sin(ga)
    return np.array(
        [
            [cell.a, 0, 0],
            [cell.b * np.cos(ga), cell.b * np.sin(ga), 0],
            [cell.c * c1, cell.c * c2, cell.c * np.sqrt(1 - c1**2 - c2**2)],
        ]
    )


def test_the_peakogram_has_the_saturation_where_the_geometry_names_one() -> None:
    none = np.empty(0)
    spots = Spots(
        np.array([0.1, 0.2]),
        np.array([50.0, 900.0]),
        np.array([True, False]),
        {},
        none,
        none.reshape(0, 6),
        none,
    )
    assert "saturation" in str(peakogram(spots, 1000.0))
    assert "saturation" not in str(peakogram(spots, np.inf))
    empty = Spots(none, none, none.astype(bool), {}, none, none.reshape(0, 6), none)
    assert peakogram(empty, 1000.0) is None


def test_each_panel_is_where_the_geometry_has_it(session) -> None:
    geometry: Geometry = open_run(SessionStore.open(session))[0].geometry
    shape = next(iter(geometry.panels)).rectangle
    slab = np.zeros(geometry.static_mask().shape, np.float32)
    slab[shape] = 1
    (image,), there, _ = placed(geometry, (slab,))
    assert (image > 0).sum() == slab.sum() and there[image > 0].all()


def test_where_the_run_is_gone_the_report_says_so_and_goes_on(session, tmp_path) -> None:
    shutil.copytree(session, tmp_path / "session")
    shutil.copytree(session.parent / "run", tmp_path / "run")
    config = (tmp_path / "session/session.json").read_text()
    config = config.replace(str(session.parent / "run"), str(tmp_path / "gone"))
    (tmp_path / "session/session.json").write_text(config)
    store, found = SessionStore.open(tmp_path / "session"), read_recommendation(session)
    write_report(store, found, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "No picture of the detector" in text and "is not there" in text
    assert '<section id="evaluations">' in text


@pytest.mark.parametrize("width", [390, 1400])
def test_a_browser_shows_it(browser, session, width) -> None:
    browser.open((session / "report.html").as_uri(), width)
    assert browser.complaints == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    pictures = "[...document.querySelectorAll('#detector .powder svg')]"
    assert browser.evaluate(f"{pictures}.length") == 3
    assert browser.evaluate(f"{pictures}.every(e => e.getBoundingClientRect().width > 200)")
    # Nothing of the page is cut but tables that scroll.
    cut = "[...document.querySelectorAll('.settings')].map(e => e.closest('.scroll'))"
    assert browser.evaluate(f"{cut}.every(e => e.scrollWidth <= e.clientWidth)")
    if width == 1400:
        trials = "document.querySelector('.trials').closest('.scroll')"
        assert browser.evaluate(f"{trials}.scrollWidth <= {trials}.clientWidth")

"""The search box and the session to resume, as a user writes them on the command line."""

from __future__ import annotations

import pytest

from envs.simulation.simulator import demo_experiment, simulate_run
from tuner.cli.box import parse_ranges, parse_values
from tuner.session.store import SessionStore
from wrappers.errors import InputError


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return simulate_run(demo_experiment(seed=2), tmp_path_factory.mktemp("sim") / "run", 16)


def test_the_command_line_resumes_by_the_directory_alone(cli, paths, tmp_path):
    begin = ("tune", paths.data, "-g", paths.geometry, "-p", paths.cell, "-o", "mine")
    options = ("--indexer", "fast", "--searcher", "random", "--frames", 8, "-j", 1)
    box = ("--set", "threshold=50,min-peaks=8", "--range", "min_snr=4:6")
    code, _, err = cli(*begin, *options, *box, "--evaluations", 4, "--whole-budget")
    assert code == 0, err
    code, _, err = cli("tune", "--resume", "mine", "--evaluations", 5, "-j", 1)
    assert code == 0, err
    trials = SessionStore.open(tmp_path / "mine").trials
    searched = [
        trial for trial in trials if trial.stage not in ("start", "baseline", "fresh", "confirm")
    ]
    assert len(searched) == 3 and all(t.evaluation.settings.min_peaks == 8 for t in searched)
    code, _, err = cli("tune", "--resume", "mine", "--seed", 3)
    assert code == 2 and "leave out --seed" in err
    code, _, err = cli("tune", "--resume", "nowhere")
    assert code == 2 and "holds no session" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "min_peaks"], "has no value: write min_peaks=15"),
        (["--set", "min_peeks=3"], "'min_peeks' is no setting"),
        (["--set", "min_peaks=3,min_peaks=4"], "names min_peaks twice"),
        (["--set", "min_peaks=many"], "min_peaks is 'many', but must be a number"),
        (["--set", "min_peaks=2.5"], "whole number"),
        (["--set", "min_snr=-1"], "min_snr is -1.0, but must be above 0"),
        (["--set", "peak_finder=robust"], "--set takes numbers: write --peak-finder robust"),
        (["--set", "min_snr=5,threshold=50,min_pix_count=2,clen=0.08"], "nothing is left to tune"),
        (["--set", "clen=80"], "clen is set to 80 m, and the geometry's is 0.0788 m"),
        (["--min-snr", 4], "--set min_snr=VALUE fixes it, --range min_snr=LOW:HIGH bounds it"),
        (["--range", "min_snr=3"], "write min_snr=LOW:HIGH"),
        (["--range", "min_snr=7:3"], "the range of min_snr, 7.0 to 3.0, is empty"),
        (["--range", "min_snr=-1:3"], "min_snr is -1.0, but must be above 0"),
        (["--tune", "min_snr", "--set", "min_snr=5"], "min_snr is both tuned and set to 5"),
        (["--tune", "clen", "--range", "min_snr=3:7"], "min_snr has a range but is not tuned"),
    ],
)
def test_a_box_that_makes_no_sense_is_one_sentence(cli, paths, tmp_path, arguments, words):
    begin = ("tune", paths.data, "-g", paths.geometry, "-p", paths.cell, "-o", "mine")
    code, _, err = cli(*begin, "--indexer", "fast", *arguments)
    assert code == 2 and words in err, err
    assert not (tmp_path / "mine" / "session.json").exists()


def test_a_length_may_have_a_unit():
    assert parse_values(["clen=8cm,shift-x=-75µm"]) == {
        "clen": pytest.approx(0.08),
        "shift_x": pytest.approx(-75e-6),
    }
    assert parse_ranges(["clen=79mm:0.081 m"]) == {"clen": pytest.approx((0.079, 0.081))}
    with pytest.raises(InputError, match="must be a number"):
        parse_values(["min_snr=5mm"])


def test_what_is_missing_is_said(cli, paths):
    code, _, err = cli("tune", paths.data, "-p", paths.cell, "-o", "x")
    assert code == 2 and "the detector's geometry: -g FILE" in err

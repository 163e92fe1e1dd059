"""``sfx-tuner compare``, as a user meets it."""

import json
import shutil
from dataclasses import replace

import pytest

from envs.evaluators.live import LiveEvaluator
from envs.response.simulated_pool import SimulatedPool
from envs.simulation.simulator import RunPaths, demo_experiment, simulate_run
from tuner.agent.policy import SHIPPED, Policy
from tuner.agent.warm_start import WarmStart
from tuner.comparison.benchmark import Benchmark, Family, fingerprint
from tuner.comparison.runs import compare_run
from wrappers.indexers import IndexerChoice


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> RunPaths:
    return simulate_run(demo_experiment(seed=1), tmp_path_factory.mktemp("sim") / "run", 12)


@pytest.fixture
def small_benchmark(monkeypatch) -> None:
    family = Family(seed=11, n_drawn=3, n_tasks=2, n_seeds=2)
    benchmark = Benchmark({"test": family}, budget=6, n_frames=50, least_reachable=0.0)
    selected = benchmark.select(SimulatedPool.draw("test", 3, 11), family)
    frozen = Family(11, 3, 2, 2, fingerprint(selected))
    monkeypatch.setattr(
        "tuner.comparison.benchmark.Benchmark.load", lambda: Benchmark({"test": frozen}, 6, 50, 0.0)
    )


def run_arguments(paths: RunPaths, *extra: object) -> list[object]:
    return [
        *("compare", paths.data, "-g", paths.geometry, "-p", paths.cell),
        *("--indexer", "fast", "-j", 1, "--methods", "ppo,static,defaults"),
        *("--evaluations", 3, *extra),
    ]


def test_the_benchmark_gives_the_json_of_the_contract_and_writes_all(
    cli, small_benchmark, tmp_path
):
    code, out, _ = cli("compare", "--methods", "ppo,warm-gp,random", "--json", "-j", 1, "-o", "c")
    assert code == 0
    found = json.loads(out)["families"]["test"]
    assert found["n_tasks"] == found["n_seeds"] == 2
    assert 0 <= found["ppo"]["regret_5"] <= 1
    assert len(found["warm-gp_minus_ppo_6_ci95"]) == 2
    assert {path.name for path in (tmp_path / "c").iterdir()} == {
        *("asked.json", "comparison.json", "comparison.md", "results.npz"),
        *("anytime.png", "profile.png", "paired.png", "forest.png"),
    }
    assert json.loads((tmp_path / "c/comparison.json").read_text())["families"]["test"] == found


def test_a_run_is_stopped_resumed_and_measured_once(cli, simulated, tmp_path, monkeypatch):
    evaluate, measured = LiveEvaluator.evaluate, []

    def stopping(self, settings, n_frames=None):
        if len(measured) == 4:
            raise KeyboardInterrupt
        measured.append((self.n_frames, settings))
        return evaluate(self, settings, n_frames)

    monkeypatch.setattr(LiveEvaluator, "evaluate", stopping)
    code, _, err = cli(*run_arguments(simulated, "-o", "c"))
    assert code == 130
    assert "the same command with --resume goes on with c" in err
    before = list(measured)

    def counting(self, settings, n_frames=None):
        measured.append((self.n_frames, settings))
        return evaluate(self, settings, n_frames)

    monkeypatch.setattr(LiveEvaluator, "evaluate", counting)
    measured.clear()
    code, out, _ = cli(*run_arguments(simulated, "-o", "c", "--resume", "--json"))
    assert code == 0
    found = json.loads(out)["families"]["run"]
    measured_after = list(measured)
    code, out, _ = cli(*run_arguments(simulated, "-o", "whole", "--json"))
    whole = json.loads(out)["families"]["run"]
    assert len(before) + len(measured_after) == len(measured) - len(measured_after)
    for method in ("ppo", "static", "defaults"):
        found[method].pop("suggestion_seconds"), whole[method].pop("suggestion_seconds")
    assert found == whole
    assert found["n_scoring_frames"] == 12
    assert found["n_seeds"] == 2
    assert {path.name for path in (tmp_path / "c").iterdir()} == {
        *("asked.json", "comparison.json", "comparison.md", "results.npz"),
        *("run_anytime.png", "run_forest.png"),
    }


def test_within_an_evaluation_the_frames_are_told(simulated):
    told = []
    compare_run(
        simulated.data, simulated.geometry, simulated.cell, IndexerChoice("fast"),
        Policy.load(), ["static"], budget=1, splits=1,
        on_frames=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert len(told) > 1
    assert told[-1][0] == told[-1][1] >= 6


def test_a_comparison_begun_with_other_warm_starts_is_not_resumed(
    cli, simulated, tmp_path, monkeypatch
):
    def stopping(self, settings, n_frames=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(LiveEvaluator, "evaluate", stopping)
    arguments = run_arguments(simulated, "-o", "c")
    assert cli(*arguments)[0] == 130
    assert cli(*arguments, "--resume")[0] == 130
    other = shutil.copytree(SHIPPED, tmp_path / "data")
    found = WarmStart.load(other)
    replace(found, points=found.points[::-1]).save(other)
    monkeypatch.setattr("tuner.agent.policy.SHIPPED", other)
    code, _, err = cli(*arguments, "--resume")
    assert code == 2
    assert "was begun with other warm_start: give the same" in err


def test_every_mistake_is_told_in_a_sentence_before_any_work(cli, simulated, tmp_path):
    def complaint(*arguments: object) -> str:
        code, out, err = cli("compare", *arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        return err

    data, geometry, cell = simulated.data, simulated.geometry, simulated.cell
    good = (data, "-g", geometry, "-p", cell)
    assert "nofile.h5 does not exist" in complaint("nofile.h5")
    assert "needs its geometry (-g) and its cell (-p)" in complaint(data)
    assert "needs its cell (-p) to be compared on" in complaint(data, "-g", geometry)
    assert "geometry file nofile" in complaint(data, "-g", "nofile", "-p", cell)
    assert "cell file nofile" in complaint(data, "-g", geometry, "-p", "nofile")
    assert "choose one of ppo, ppo-only" in complaint("--methods", "magic")
    assert "--families has 'magic'" in complaint("--families", "magic")
    assert "--evaluations is for a run" in complaint("--evaluations", 5)
    assert "--full is for the benchmark" in complaint(*good, "--full")
    assert "no policy can be read from nodir" in complaint(*good, "--policy", "nodir")
    (tmp_path / "file").touch()
    assert "file is a file: name a directory" in complaint(*good, "-o", "file")
    assert "leave --resume out" in complaint(*good, "-o", "new", "--resume")
    assert not (tmp_path / "new").exists()
    code, _, err = cli("compare", *good, "--evaluations", 0)
    assert code == 2
    assert "'--evaluations': 0 is not in the range" in err


def test_the_frozen_frames_give_the_json_of_the_contract(cli, tmp_path):
    asked = ("compare", "--frames-benchmark", "--families", "frames_test", "--seeds", 1, "-j", 1)
    code, out, err = cli(*asked, "--methods", "random,defaults", "--json", "-o", "f")
    assert code == 0
    assert "minutes on two cores" in err
    (family,) = json.loads(out)["families"].values()
    assert family["n_seeds"] == 1 and family["n_tasks"] >= 2
    assert "agent_3_against_warm_gp_locked_10_ci95" not in family
    for method in ("random", "defaults"):
        regrets = [family[method][f"regret_{n}"] for n in (1, 2, 3, 5, 10)]
        assert all(0 <= each < 1.2 for each in regrets)
        assert "core_seconds_to_best" in family[method]
    # All sessions begin with the defaults; who searches gets beyond.
    assert family["random"]["regret_1"] == family["defaults"]["regret_10"]
    assert family["random"]["regret_5"] < family["defaults"]["regret_5"]
    assert {path.name for path in (tmp_path / "f").iterdir()} == {
        *("asked.json", "comparison.json", "comparison.md", "results.npz", "anytime.png")
    }
    written = json.loads((tmp_path / "f/comparison.json").read_text())
    assert written["families"]["frames_test"] == family
    assert cli(*asked, "-o", "f")[0] == 2  # it is finished


def test_the_recorded_comparison_on_frames_is_printed(cli):
    code, out, _ = cli("compare", "--frames-benchmark", "--recorded", "--json")
    assert code == 0
    found = json.loads(out)
    families = found["families"]
    assert {"frames_test", "frames_shifted"} <= families.keys()
    both = found["together"]["rendered"]
    parts = [families["frames_test"], families["frames_shifted"]]
    assert both["n_tasks"] == sum(each["n_tasks"] for each in parts)
    missed = sum(each["n_tasks"] * each["map"]["regret_3"] for each in parts) / both["n_tasks"]
    assert both["regret"]["map"]["3"] == pytest.approx(missed)
    lead, low, high = both["lead"]["map"]["3"]
    assert low <= lead <= high
    assert lead == pytest.approx(missed - both["regret"]["agent"]["3"])
    for family in families.values():
        assert {"agent", "map", "warm_gp_locked", "first_agent", "gp"} <= family.keys()
        low, high = family["agent_3_against_warm_gp_locked_10_ci95"]
        lead = family["warm_gp_locked"]["regret_10"] - family["agent"]["regret_3"]
        assert low <= lead <= high
        assert family["n_seeds"] >= 3
    code, out, _ = cli("compare", "--frames-benchmark", "--recorded")
    assert code == 0 and "After the frames of three full evaluations" in out
    assert "The agent's lead on map" in " ".join(out.split())


def test_options_of_other_comparisons_are_refused_for_the_frozen_frames(cli):
    for extra, said in (
        (("--recorded",), "add --frames-benchmark"),
        (("--frames-benchmark", "--full"), "is for another benchmark"),
        (("--frames-benchmark", "--methods", "magic"), "choose from agent, map"),
        (("--frames-benchmark", "--families", "magic"), "choose from frames_"),
        (("run.h5", "--frames-benchmark"), "is for the benchmark"),
    ):
        code, _, err = cli("compare", *extra)
        assert code == 2 and said in err and err.count("\n") == 1, extra

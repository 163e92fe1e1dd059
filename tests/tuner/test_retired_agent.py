"""Whoever still asks for the first agent is told in a sentence what replaces it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envs.simulation.simulator import RunPaths, demo_experiment, simulate_run
from tuner.searchers import SEARCHERS

REPLACED = "was retired: map-agent replaces it"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    return simulate_run(demo_experiment(seed=1), tmp_path_factory.mktemp("sim") / "run", 12)


@pytest.fixture
def complaint(cli):
    """Return what a command says that ends with 2, in one line."""

    def run(*arguments: object) -> str:
        code, out, err = cli(*arguments)
        assert (code, out) == (2, "")
        assert "Traceback" not in err
        return " ".join(err.split())

    return run


def tune_arguments(paths: RunPaths, *extra: object) -> list[object]:
    return [
        *("tune", paths.data, "-g", paths.geometry, "-p", paths.cell, "-o", "session"),
        *("--indexer", "fast", "-j", 1, "--evaluations", 4, "--no-cell-check", *extra),
    ]


def test_its_name_means_the_agent_that_replaces_it():
    assert SEARCHERS.name_of("ppo") == SEARCHERS.name_of("agent") == "map-agent"


@pytest.mark.parametrize("searcher", ["ppo-only", "agent_only"])
def test_it_is_not_run_to_the_end_any_more(complaint, simulated, searcher):
    said = complaint(*tune_arguments(simulated, "--searcher", searcher))
    assert f"the searcher ppo-only, the first agent to the end, {REPLACED}" in said
    assert not Path("session").exists()
    run = (simulated.data, "-g", simulated.geometry, "-p", simulated.cell)
    assert REPLACED in complaint("compare", *run, "--methods", searcher)
    assert REPLACED in complaint("train", "-o", "training", "--searcher", searcher)
    assert not Path("training").exists()


@pytest.mark.parametrize("option", ["--seeds", "--selector-steps"])
def test_options_of_its_training_are_refused(complaint, option):
    said = complaint("train", "-o", "training", option, 3)
    assert f"{option} was of the first agent, which was retired" in said
    assert "map-agent, which replaces it" in said and not Path("training").exists()


def test_its_policies_are_refused(complaint, simulated, tmp_path):
    (old := tmp_path / "old").mkdir()
    for name in ("policy.json", "policy.safetensors"):
        (old / name).write_bytes(b"{}")
    for given in (old, old / "policy.safetensors", old / "policy.json"):
        for command in (
            tune_arguments(simulated, "--policy", given),
            ["compare", "--methods", "agent", "--policy", given],
        ):
            said = complaint(*command)
            assert "is a policy of the first agent, which was retired" in said
            assert "map-agent, which replaces it" in said
    assert not Path("session").exists()


def test_its_sessions_can_be_used_and_resumed_but_not_by_its_policy(
    cli, complaint, simulated, tmp_path
):
    """A session's files do not depend on its searcher but for the name."""
    assert cli(*tune_arguments(simulated, "--searcher", "map"))[0] == 0
    config = tmp_path / "session/session.json"
    begun = json.loads(config.read_text())
    begun |= {"searcher": "ppo"}
    config.write_text(json.dumps(begun))
    recommended = tmp_path / "session/recommended.toml"
    text = recommended.read_text()
    assert 'searcher = "map"' in text
    recommended.write_text(text.replace('searcher = "map"', 'searcher = "ppo"'))

    for command in (
        ("report", "session"),
        ("apply", "session", simulated.data, "-o", "hits.cxi", "-j", 1),
        ("export", "session", "--to", "geom", "-o", "tuned.geom"),
        ("export", "session", "--to", "json"),
    ):
        code, _, err = cli(*command)
        assert code == 0, err
    assert "ppo" in (tmp_path / "session/report.html").read_text()

    (old := tmp_path / "old").mkdir()
    (old / "policy.safetensors").write_bytes(b"{}")
    config.write_text(json.dumps({**begun, "policy": str(old)}))
    before = (tmp_path / "session/evaluations.jsonl").read_bytes()
    said = complaint("tune", "--resume", "session")
    assert "is a policy of the first agent, which was retired" in said
    assert (tmp_path / "session/evaluations.jsonl").read_bytes() == before

    config.write_text(json.dumps({**begun, "evaluations": 5}))
    assert cli("tune", "--resume", "session")[0] == 0
    assert (tmp_path / "session/evaluations.jsonl").read_bytes().startswith(before)

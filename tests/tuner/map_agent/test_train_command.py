"""``sfx-tuner train``: what goes together, and what is said where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tuner.cli.main import cli
from wrappers.errors import InputError


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("--searcher", "gp"), "there is nothing to train for the searcher gp"),
        (("--searcher", "map-agent", "--looks", "nowhere"), "nowhere holds no recorded looks"),
        (("--experiments", "9"), "--experiments is of --spots"),
        (("--sessions", "x", "--steps", "9"), "--steps is of a training, which --sessions is not"),
        (("--looks", "nowhere"), "nowhere holds no recorded looks"),
        (("--sessions", "nowhere"), "nowhere"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(
    tmp_path: Path, given: tuple[str, ...], sentence: str
) -> None:
    answer = CliRunner().invoke(cli, ["train", "-o", str(tmp_path / "new"), *given])
    assert isinstance(answer.exception, InputError)
    assert sentence in str(answer.exception)
    assert not (tmp_path / "new" / "map_agent.safetensors").exists()

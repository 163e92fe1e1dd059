"""A few hundred mutated files of each kind; SFX_TUNER_FUZZ tries as many as it says, for each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fuzz import KINDS, try_kind

N = int(os.environ.get("SFX_TUNER_FUZZ", "60"))


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_sentence_comes_of_a_strange_file(kind: str, tmp_path: Path) -> None:
    failures = try_kind(kind, N, 1, tmp_path)
    assert not failures, "\n".join(f"{each.number}: {each.what}" for each in failures[:5])

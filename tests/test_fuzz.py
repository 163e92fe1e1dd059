"""A few hundred mutated files of each kind; SFX_TUNER_FUZZ tries as many as it says, for each."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests import fuzz_own
from tests.fuzz import GEOMETRY, KINDS, try_kind, write_run

N = int(os.environ.get("SFX_TUNER_FUZZ", "60"))


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_sentence_comes_of_a_strange_file(kind: str, tmp_path: Path) -> None:
    failures = try_kind(kind, N, 1, tmp_path)
    assert not failures, "\n".join(f"{each.number}: {each.what}" for each in failures[:5])


@pytest.mark.parametrize("kind", fuzz_own.KINDS)
def test_the_program_reads_what_nobody_changed(kind: str, tmp_path: Path, monkeypatch) -> None:
    """Or the fuzzer would try nothing."""
    for how in ("bytes", "json", "toml", "hdf5", "npz"):
        monkeypatch.setattr(fuzz_own, f"changed_{how}", lambda path, rng: None)
    rng = np.random.default_rng(0)
    write_run(tmp_path, rng)
    (tmp_path / "run.geom").write_text(GEOMETRY.replace("mask0", ";mask0"))
    fuzz_own.KINDS[kind](tmp_path, rng)

"""Which indexer a name stands for, and how a session's own is known again."""

from __future__ import annotations

import pytest

from wrappers.crystfel import indexamajig
from wrappers.errors import InputError
from wrappers.indexers import INDEXERS, IndexerChoice, recorded_choice


@pytest.mark.parametrize(
    ("shown", "choice"),
    [
        ("CrystFEL 0.12.0, xgandalf", IndexerChoice("crystfel", "xgandalf")),
        ("CrystFEL 0.9.1, xgandalf thorough", IndexerChoice("crystfel", "xgandalf", "thorough")),
        ("CrystFEL 0.11.1, asdf", IndexerChoice("crystfel", "asdf")),
        (
            "CrystFEL 0.12.0, pinkIndexer --pinkIndexer-tolerance=0.1",
            IndexerChoice("crystfel", "pinkIndexer", options=("--pinkIndexer-tolerance=0.1",)),
        ),
        ("fast 0.1.0", IndexerChoice("fast")),
        ("", IndexerChoice("fast")),
    ],
)
def test_files_of_earlier_versions_have_the_name_for_people_alone(shown, choice):
    assert recorded_choice({"indexer": shown}) == choice


@pytest.mark.parametrize(
    "choice",
    [
        IndexerChoice("fast"),
        IndexerChoice("crystfel", "asdf", "thorough"),
        IndexerChoice(
            "crystfel", "pinkIndexer", options=("--pinkIndexer-tolerance=0.1", "--no-retry")
        ),
        IndexerChoice("somebody's"),
    ],
)
def test_what_was_recorded_is_read_again(choice):
    assert recorded_choice({"indexer": "CrystFEL 9, nonsense", **choice.record()}) == choice


def test_what_is_not_registered_is_refused():
    for use in (IndexerChoice("fst").settled, lambda: IndexerChoice("fst").own_name):
        with pytest.raises(InputError, match=r"no indexer 'fst'; choose one of crystfel, fast \("):
            use()


def test_auto_is_the_first_that_is_available(monkeypatch):
    monkeypatch.setattr("wrappers.indexers.find_indexamajig", lambda: None)
    assert IndexerChoice().settled() == IndexerChoice("fast")
    assert IndexerChoice("fast", timeout=5).settled() == IndexerChoice("fast", timeout=5)
    program = indexamajig.CrystfelProgram("x", "0.12.0", ("asdf",), frozenset())
    monkeypatch.setattr("wrappers.indexers.find_indexamajig", lambda: program)
    monkeypatch.setattr("wrappers.indexers.require_program", lambda program_: program)
    assert IndexerChoice().settled() == IndexerChoice("crystfel", "asdf")
    assert [name for name, kind in INDEXERS.items() if kind.of_crystfel] == ["crystfel"]

"""Thousands of mutated messages: each is read, or refused in a sentence, and none is kept."""

from __future__ import annotations

import psutil
import pytest

from tests.fuzz_streams import small_run, try_messages
from wrappers.streams.protocols import PROTOCOLS

N = {"hdf5": 100}
"""Messages, where 10,000 take longer than a second or two: a process of its own reads them."""
GROWTH = 30e6
"""Bytes; messages that were kept would be over 50 MB."""


@pytest.mark.parametrize("scheme", PROTOCOLS.names())
def test_only_a_sentence_comes_of_a_strange_message(scheme, tmp_path):
    run, n = small_run(tmp_path), N.get(scheme, 10_000)
    try_messages(run, scheme, n // 10, 1)
    before = psutil.Process().memory_info().rss
    try_messages(run, scheme, n, 2)
    assert psutil.Process().memory_info().rss - before < GROWTH

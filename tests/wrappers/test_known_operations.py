"""What Numba is told of operations is what it finds by itself."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from numba import njit

from wrappers.known_operations import OPERATIONS

SIGNATURES = """
import itertools, json, operator, sys
from numba import types
from numba.core.registry import cpu_target
if sys.argv[1] == "told":
    import wrappers.known_operations
context = cpu_target.typing_context
context.refresh()
kinds = [types.boolean, types.int32, types.int64, types.uint64, types.float32, types.float64]
found = {}
for name in json.loads(sys.argv[2]):
    for pair in itertools.product(kinds, [*kinds, types.IntegerLiteral(2)]):
        try:
            given = context.resolve_function_type(getattr(operator, name), pair, {})
        except Exception:
            given = None
        found[f"{name} {pair}"] = str(given)
for kind in kinds:
    found[f"bool {kind}"] = str(context.resolve_function_type(bool, (kind,), {}))
print(json.dumps(found))
"""


def test_numba_finds_the_same_types_by_itself():
    names = json.dumps([*OPERATIONS])
    told, found = (
        json.loads(subprocess.check_output([sys.executable, "-c", SIGNATURES, how, names]))
        for how in ("told", "not")
    )
    assert len(told) > 500
    assert told == found


@pytest.mark.parametrize("kind", [np.int64, np.uint64, np.float32, np.float64])
def test_the_operations_are_those_of_numpy(kind):
    @njit
    def use(a, b):
        c = a
        c += b
        c *= b
        c -= a
        return a + b, a - b, a * b, c, a < b, a <= b, a > b, a >= b, a == b, a != b

    a, b = kind(7), kind(3)
    expected = a + b, a - b, a * b, (a + b) * b - a, False, False, True, True, False, True
    assert use(a, b) == expected

"""On Numba's inside: what an operation on two numbers of one type gives, said at once.

Numba tries for each `+` and `<` of a function all that they may mean, arrays and strings too, and
then rates dozens of pairs of types: a sixth of the time that it takes to compile a kernel. What is
said here is what it finds in the end.
"""

from __future__ import annotations

import operator
from typing import Any

from numba import types as numba_types
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global

__all__ = ["OPERATIONS"]

_types: Any = numba_types
_WHOLE = {_types.int64, _types.uint64}
_NUMBERS = _WHOLE | {_types.float64, _types.float32}
OPERATIONS = {
    **dict.fromkeys(["add", "sub", "mul", "iadd", "isub", "imul"], (_NUMBERS, None)),
    **dict.fromkeys(["truediv", "itruediv"], (_NUMBERS - _WHOLE, None)),
    **dict.fromkeys(["and_", "or_", "xor", "iand", "ior", "ixor"], (_WHOLE, None)),
    **dict.fromkeys(["lt", "le", "gt", "ge", "eq", "ne"], (_NUMBERS, _types.boolean)),
}
"""Of two numbers of one type, by name: for which types, and what they give if not that type."""


def _say_at_once(name: str, kinds: set[Any], given: Any) -> None:
    """Have Numba know what an operation gives without trying all that it may mean."""

    class Operation(AbstractTemplate):
        metadata = {"target": "cpu"}  # noqa: RUF012  (so it is asked before those of any target)

        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) != 2 or args[0] not in kinds or args[1] != args[0]:
                return None
            return signature(given or args[0], *args)

    infer_global(getattr(operator, name))(Operation)


@infer_global(bool)
class _Truth(AbstractTemplate):
    metadata = {"target": "cpu"}  # noqa: RUF012

    def generic(self, args: Any, kws: Any) -> Any:
        known = len(args) == 1 and args[0] in {_types.boolean, *_WHOLE}
        return signature(_types.boolean, *args) if known else None


for _name, (_kinds, _given) in OPERATIONS.items():
    _say_at_once(_name, _kinds, _given)

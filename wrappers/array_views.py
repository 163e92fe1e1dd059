"""On Numba's inside: arrays as kernels hand them to each other.

Numba's own arrays carry an owner, whose references are counted, their strides, and more: each time
one is handed over or an element is taken, that is a dozen instructions more to be compiled. A view
has where an array is, and its size; whoever made it keeps the array. Indices are not looked at, and
do not count from the end.

And the smaller and the larger of two numbers: Numba compiles its own apart, for each pair of types.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types as numba_types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.imputils import lower_builtin
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, models, register_model

__all__ = [
    "PackedType",
    "View",
    "columns",
    "data_pointer",
    "itemsize",
    "larger",
    "matrix",
    "smaller",
    "views",
    "width",
]

_intrinsic: Any = intrinsic  # (its own annotations are those of a plain function)
_types: Any = numba_types


class View(numba_types.Type):
    """A view of an array of up to three dimensions, the last of which is in one piece."""

    def __init__(self, dtype: Any, ndim: int) -> None:
        super().__init__(f"View({dtype}, {ndim})")
        self.dtype, self.ndim = dtype, ndim


class PackedType(numba_types.Type):
    """Packed arrays (`wrappers.packed_arrays`), by the type of their views."""

    def __init__(self, viewed: Any) -> None:
        super().__init__(f"Packed({viewed})")
        self.viewed = viewed


@register_model(View)
class _ViewModel(models.StructModel):
    """Where it is, its shape, and the elements from one to the next along all but the last axis."""

    def __init__(self, manager: Any, kind: Any) -> None:
        members = [("data", _types.CPointer(kind.dtype))]
        members += [(f"size_{axis}", _types.intp) for axis in range(kind.ndim)]
        members += [(f"step_{axis}", _types.intp) for axis in range(kind.ndim - 1)]
        super().__init__(manager, kind, members)


def _parts(builder: Any, kind: Any, view: Any) -> tuple[Any, list[Any], list[Any]]:
    """Return where a view is, its sizes and its steps."""
    data, *numbers = (builder.extract_value(view, place) for place in range(2 * kind.ndim))
    return data, numbers[: kind.ndim], numbers[kind.ndim :]


def _made(context: Any, builder: Any, kind: Any, data: Any, sizes: Any, steps: Any) -> Any:
    view = ir.Constant(context.get_value_type(kind), ir.Undefined)
    for place, each in enumerate((data, *sizes, *steps)):
        view = builder.insert_value(view, each, place)
    return view


def data_pointer(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Return where the elements of an array or a view are."""
    if isinstance(kind, View):
        return builder.extract_value(value, 0)
    return context.make_array(kind)(context, builder, value).data


def _viewed(kind: Any) -> Any:
    """Return the type of a view of an array, and of all arrays in a tuple."""
    if isinstance(kind, _types.Array):
        if kind.layout != "C":
            raise TypingError("only an array in one piece has a view")
        return View(kind.dtype, kind.ndim)
    if isinstance(kind, PackedType):
        return kind.viewed
    if isinstance(kind, _types.BaseNamedTuple):
        return _types.NamedTuple([_viewed(each) for each in kind], kind.instance_class)
    if isinstance(kind, _types.BaseTuple):
        return _types.BaseTuple.from_types([_viewed(each) for each in kind])
    return kind


def _itemsize(context: Any, kind: Any) -> int:
    return int(context.get_abi_sizeof(context.get_data_type(kind.dtype)))


def _view(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, _types.Array):
        array = context.make_array(kind)(context, builder, value)
        sizes = cgutils.unpack_tuple(builder, array.shape, kind.ndim)
        steps: list[Any] = []
        for size in sizes[:0:-1]:
            steps.insert(0, builder.mul(size, steps[0]) if steps else size)
        return _made(context, builder, _viewed(kind), array.data, sizes, steps)
    if isinstance(kind, _types.BaseTuple):
        parts = cgutils.unpack_tuple(builder, value, len(kind))
        made = [_view(context, builder, each, part) for each, part in zip(kind, parts, strict=True)]
        return context.make_tuple(builder, _viewed(kind), made)
    if isinstance(kind, PackedType):
        table = builder.bitcast(value, context.get_value_type(_types.intp).as_pointer())
        places = (builder.gep(table, [_number(context, k)]) for k in itertools.count())
        return _unpacked(context, builder, kind.viewed, map(builder.load, places))
    return value


def _number(context: Any, k: int) -> Any:
    return context.get_constant(_types.intp, k)


def _unpacked(context: Any, builder: Any, kind: Any, numbers: Iterator[Any]) -> Any:
    """Return views of packed arrays, given the next of their numbers."""
    if isinstance(kind, View):
        pointer = context.get_data_type(kind.dtype).as_pointer()
        data, *rest = itertools.islice(numbers, 2 * kind.ndim)
        data = builder.inttoptr(data, pointer)
        return _made(context, builder, kind, data, rest[: kind.ndim], rest[kind.ndim :])
    if isinstance(kind, _types.BaseTuple):
        made = [_unpacked(context, builder, each, numbers) for each in kind]
        return context.make_tuple(builder, kind, made)
    return next(numbers)


@_intrinsic
def views(typing_context, arrays):
    """Return a view of an array, or a tuple with views of all arrays in it."""

    def generate(context, builder, signature, arguments):
        return _view(context, builder, signature.args[0], arguments[0])

    return _viewed(arrays)(arrays), generate


@_intrinsic(prefer_literal=True)
def matrix(typing_context, rows, columns):
    """Return a view of numbers (float64) that last until the function that asks returns.

    Rows and columns are plain numbers. Nothing is in it yet, or what was there the last time.
    """
    if not isinstance(rows, _types.IntegerLiteral) or not isinstance(
        columns, _types.IntegerLiteral
    ):
        return None
    kind, sizes = View(_types.float64, 2), (rows.literal_value, columns.literal_value)

    def generate(context, builder, signature, arguments):
        n = context.get_constant(_types.intp, sizes[0] * sizes[1])
        with builder.goto_entry_block():
            data = builder.alloca(context.get_data_type(_types.float64), n)
        rows, columns = (context.get_constant(_types.intp, each) for each in sizes)
        return _made(context, builder, kind, data, (rows, columns), (columns,))

    return kind(rows, columns), generate


@_intrinsic
def width(typing_context, view):
    """Return the number of columns of a view of two dimensions."""

    def generate(context, builder, signature, arguments):
        return _parts(builder, signature.args[0], arguments[0])[1][1]

    return _types.intp(view), generate


@_intrinsic
def itemsize(typing_context, view):
    """Return the bytes of an element: a constant."""

    def generate(context, builder, signature, arguments):
        return context.get_constant(_types.intp, _itemsize(context, signature.args[0]))

    return _types.intp(view), generate


@_intrinsic
def columns(typing_context, view, first, stop):
    """Return a view of the columns from `first` to before `stop`, of two dimensions."""

    def generate(context, builder, signature, arguments):
        view, first, stop = arguments
        kind = signature.args[0]
        data, (rows, _), steps = _parts(builder, kind, view)
        data, size = builder.gep(data, [first]), builder.sub(stop, first)
        return _made(context, builder, kind, data, (rows, size), steps)

    return view(view, _types.intp, _types.intp), generate


@_intrinsic
def smaller(typing_context, one, other):
    """Return the smaller of two numbers; the first where none is."""
    return _chosen(typing_context, "<", one, other)


@_intrinsic
def larger(typing_context, one, other):
    """Return the larger of two numbers; the first where none is."""
    return _chosen(typing_context, ">", one, other)


def _chosen(typing_context, how, one, other):
    """Return what is typed and generated for the one of two numbers that compares so."""
    kind = typing_context.unify_types(one, other)

    def generate(context, builder, signature, arguments):
        first, second = (
            context.cast(builder, value, its, kind)
            for value, its in zip(arguments, signature.args, strict=True)
        )
        if isinstance(kind, _types.Float):
            compare = builder.fcmp_ordered
        else:
            compare = builder.icmp_signed if kind.signed else builder.icmp_unsigned
        return builder.select(compare(how, second, first), second, first)

    return kind(one, other), generate


@infer_global(operator.getitem)
class _GetItem(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        view, index = args
        if not isinstance(view, View):
            return None
        if isinstance(index, _types.SliceType) and view.ndim == 1 and not index.has_step:
            return signature(view, view, _types.slice2_type)
        n = _n_indices(index)
        if not 0 < n <= view.ndim:
            return None
        found = view.dtype if n == view.ndim else View(view.dtype, view.ndim - n)
        return signature(found, view, index)


@infer_global(operator.setitem)
class _SetItem(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        view, index, _ = args
        if not isinstance(view, View) or _n_indices(index) != view.ndim:
            return None
        return signature(_types.none, view, index, view.dtype)


def _n_indices(index: Any) -> int:
    """Return the number of whole numbers of an index, 0 where it has others."""
    if isinstance(index, _types.Integer):
        return 1
    if isinstance(index, _types.BaseTuple) and all(isinstance(i, _types.Integer) for i in index):
        return len(index)
    return 0


@infer_global(len)
class _Len(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        (view,) = args
        return signature(_types.intp, view) if isinstance(view, View) else None


@lower_builtin(len, View)
def _len(context, builder, signature, arguments):
    return builder.extract_value(arguments[0], 1)


def _place(context, builder, kind, view, index_kind, index):
    """Return where an element is, or a row begins, and sizes and steps of the latter."""
    indices, kinds = [index], [index_kind]
    if isinstance(index_kind, _types.BaseTuple):
        indices, kinds = cgutils.unpack_tuple(builder, index), [*index_kind]
    data, sizes, steps = _parts(builder, kind, view)
    for axis, (each, whole) in enumerate(zip(indices, kinds, strict=True)):
        place = context.cast(builder, each, whole, _types.intp)
        if axis < len(steps):
            place = builder.mul(place, steps[axis])
        data = builder.gep(data, [place])
    return data, sizes[len(indices) :], steps[len(indices) :]


@lower_builtin(operator.getitem, View, _types.Integer)
@lower_builtin(operator.getitem, View, _types.BaseTuple)
def _get(context, builder, signature, arguments):
    kind, index_kind = signature.args
    place, sizes, steps = _place(context, builder, kind, arguments[0], index_kind, arguments[1])
    if isinstance(signature.return_type, View):
        return _made(context, builder, signature.return_type, place, sizes, steps)
    return context.unpack_value(builder, kind.dtype, place)


@lower_builtin(operator.getitem, View, _types.SliceType)
def _slice(context, builder, signature, arguments):
    kind, slice_kind = signature.args
    part = context.make_helper(builder, slice_kind, value=arguments[1])
    data = builder.gep(builder.extract_value(arguments[0], 0), [part.start])
    return _made(context, builder, kind, data, (builder.sub(part.stop, part.start),), ())


@lower_builtin(operator.setitem, View, _types.Any, _types.Any)
def _set(context, builder, signature, arguments):
    kind, index_kind, value_kind = signature.args
    place, _, _ = _place(context, builder, kind, arguments[0], index_kind, arguments[1])
    value = context.cast(builder, arguments[2], value_kind, kind.dtype)
    context.pack_value(builder, kind.dtype, value, place)
    return context.get_dummy_value()

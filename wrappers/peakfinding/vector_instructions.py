"""The vector path: what `vectors` offers, in LLVM's words, on the inside of Numba.

LLVM turns its vectors into whatever the processor has. What each of these does is said by
`plain_vectors`, which has the same names and, bit for bit, the same results.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from wrappers.array_views import data_pointer
from wrappers.peakfinding.plain_vectors import BITS, LANES

__all__ = [
    "add_pixels",
    "add_values",
    "bits_at",
    "bits_false",
    "bits_nonzero",
    "bits_outside",
    "lanes_of",
    "no_pixels",
    "no_sums",
    "no_wide_pixels",
    "nothing_like",
    "prefetch",
    "total_sums",
    "trailing_zeros",
]

_intrinsic: Any = intrinsic  # (its own annotations are those of a plain function)
_FLOAT, _DOUBLE = ir.FloatType(), ir.DoubleType()
_FLOATS, _DOUBLES = ir.VectorType(_FLOAT, LANES), ir.VectorType(_DOUBLE, LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)
_COUNT = ir.IntType(64)
_LARGEST = float(np.finfo(np.float32).max)


class _Sums(types.Type):
    """Number, sums, sums of squares and largest bit pattern, lane by lane.

    Of short integers, sums of pairs; of the pairs' squares, modulo 2**32 and without 16 bits each.
    """

    def __init__(self, short: bool, lanes: int) -> None:
        super().__init__(f"Sums({short}, {lanes})")
        self.short, self.lanes = short, lanes


_sums = _Sums(False, LANES)


@register_model(_Sums)
class _SumsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        fields = [_COUNT, _DOUBLES, _DOUBLES, _INTEGERS]
        if kind.short:
            pairs = ir.VectorType(ir.IntType(32), kind.lanes // 2)
            fields = [_COUNT, pairs, pairs, pairs, ir.VectorType(ir.IntType(16), kind.lanes)]
        super().__init__(manager, kind, ir.LiteralStructType(fields))


def _is_short(dtype: Any) -> bool:
    """Whether all values of a type fit in a 16-bit integer with a sign."""
    whole = isinstance(dtype, types.Integer)
    return whole and dtype.bitwidth + (not dtype.signed) <= 16


@_intrinsic
def no_sums(typing_context):
    """Return sums over nothing, for `add_values`."""
    return _sums(), _nothing


@_intrinsic
def no_pixels(typing_context, data):
    """Return sums over nothing, for `add_pixels` with such data, 16,384 times at most."""
    return (_Sums(True, LANES) if _is_short(data.dtype) else _sums)(data), _nothing


@_intrinsic
def no_wide_pixels(typing_context, data):
    """Do as `no_pixels` for more pixels at once, if there are vectors of so many."""
    return (_Sums(True, 2 * LANES) if _is_short(data.dtype) else _sums)(data), _nothing


def _nothing(context, builder, signature, arguments):
    return ir.Constant(context.get_value_type(signature.return_type), None)


@_intrinsic
def nothing_like(typing_context, sums):
    """Return sums over nothing, of the kind of others."""
    return sums(sums), _nothing


@_intrinsic
def lanes_of(typing_context, sums):
    """Return how many pixels `add_pixels` adds to such sums at once: a constant."""

    def generate(context, builder, signature, arguments):
        return context.get_constant(types.intp, sums.lanes)

    return types.intp(sums), generate


@_intrinsic
def add_values(typing_context, sums, values, first, n, lower, upper):
    """Return sums with n values added, those strictly between limits; `LANES` are read."""
    number = types.float32

    def generate(context, builder, signature, arguments):
        sums, values, first, n, lower, upper = arguments
        value = _lanes(context, builder, signature.args[1], values, first, LANES)
        value = _floats(builder, signature.args[1], value)
        whole = ir.Constant(ir.IntType(32), (1 << LANES) - 1)
        above = builder.shl(whole, builder.trunc(n, ir.IntType(32)))
        good = _first_lanes(builder, builder.not_(above), LANES)
        good = builder.and_(
            good, builder.fcmp_ordered(">", value, _everywhere(builder, lower, LANES))
        )
        good = builder.and_(
            good, builder.fcmp_ordered("<", value, _everywhere(builder, upper, LANES))
        )
        return _added(builder, sums, value, good)

    return sums(sums, values, types.intp, types.intp, number, number), generate


@_intrinsic
def add_pixels(typing_context, sums, data, first, chosen):
    """Return sums with `lanes_of` elements added: those finite and with a bit in `chosen`."""

    def generate(context, builder, signature, arguments):
        sums, data, first, chosen = arguments
        kind = signature.args[1]
        if signature.args[0].short:
            value = _lanes(context, builder, kind, data, first, signature.args[0].lanes)
            return _added_shorts(builder, sums, kind, value, chosen)
        value = _floats(builder, kind, _lanes(context, builder, kind, data, first, LANES))
        good = _first_lanes(builder, chosen, LANES)
        if isinstance(kind.dtype, types.Float):
            for comparison, limit in (("<=", _LARGEST), (">=", -_LARGEST)):
                limits = ir.Constant(_FLOATS, [limit] * LANES)
                good = builder.and_(good, builder.fcmp_ordered(comparison, value, limits))
        return _added(builder, sums, value, good)

    return sums(sums, data, types.intp, types.uint64), generate


def _floats(builder, kind, value):
    """Return lanes of an array of this kind as float32."""
    if value.type == _FLOATS:
        return value
    if isinstance(kind.dtype, types.Float):
        return builder.fptrunc(value, _FLOATS)
    convert = builder.sitofp if kind.dtype.signed else builder.uitofp
    return convert(value, _FLOATS)


def _first_lanes(builder, bits, n):
    """Return the lowest bits of an integer as lanes."""
    kind = ir.IntType(n)
    lanes = bits if bits.type == kind else builder.trunc(bits, kind)
    return builder.bitcast(lanes, ir.VectorType(ir.IntType(1), n))


def _lanes(context, builder, kind, array, first, n):
    """Load `n` elements of a contiguous array."""
    pointer = data_pointer(context, builder, kind, array)
    pointer = builder.gep(pointer, [first])
    vector = ir.VectorType(pointer.type.pointee, n).as_pointer()
    return builder.load(builder.bitcast(pointer, vector), align=1)


def _everywhere(builder, value, n):
    """Return a vector with `value` in each lane."""
    one = builder.insert_element(
        ir.Constant(ir.VectorType(value.type, n), ir.Undefined),
        value,
        ir.Constant(ir.IntType(32), 0),
    )
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), n), None)
    return builder.shuffle_vector(one, one, lanes)


def _added(builder, sums, value, good):
    """Add the good lanes to the sums."""
    value = builder.select(good, value, ir.Constant(_FLOATS, None))
    wide = builder.fpext(value, _DOUBLES)
    n, total, squares, top = (builder.extract_value(sums, i) for i in range(4))
    number = builder.ctpop(builder.bitcast(good, ir.IntType(LANES)))
    n = builder.add(n, builder.zext(number, _COUNT))
    total = builder.fadd(total, wide)
    squares = builder.fadd(
        squares, builder.fmul(wide, wide, flags=["contract"]), flags=["contract"]
    )
    # Floats above zero are ordered like the integers with their bits, and the others are below.
    pattern = builder.bitcast(value, _INTEGERS)
    top = builder.select(builder.icmp_signed(">", pattern, top), pattern, top)
    for i, field in enumerate((n, total, squares, top)):
        sums = builder.insert_value(sums, field, i)
    return sums


def _added_shorts(builder, sums, kind, value, chosen):
    """Add the chosen lanes of short integers to the sums."""
    n, total, squares, high, top = (builder.extract_value(sums, i) for i in range(5))
    if kind.dtype.bitwidth < 16:
        value = (builder.sext if kind.dtype.signed else builder.zext)(value, top.type)
    good = _first_lanes(builder, chosen, value.type.count)
    value = builder.select(good, value, ir.Constant(value.type, None))
    number = builder.ctpop(builder.bitcast(good, ir.IntType(value.type.count)))
    n = builder.add(n, builder.zext(number, _COUNT))
    # In pairs: for the sum of two squares there is one instruction.
    pairs = total.type
    both, half = builder.bitcast(value, pairs), ir.Constant(pairs, [16] * pairs.count)
    for one in (builder.shl(both, half), both):
        total = builder.add(total, builder.ashr(one, half))
    square = []
    for odd in (0, 1):
        places = ir.Constant(pairs, [*range(odd, value.type.count, 2)])
        one = builder.sext(builder.shuffle_vector(value, value, places), pairs)
        square.append(builder.mul(one, one, flags=["nsw"]))
    pair = builder.add(*square)
    squares, high = builder.add(squares, pair), builder.add(high, builder.lshr(pair, half))
    top = builder.select(builder.icmp_signed(">", value, top), value, top)
    for i, field in enumerate((n, total, squares, high, top)):
        sums = builder.insert_value(sums, field, i)
    return sums


@_intrinsic
def total_sums(typing_context, sums):
    """Return number, sum, sum of squares, and the largest value or 0."""
    kind = types.Tuple((types.int64, types.float64, types.float64, types.float32))

    def generate(context, builder, signature, arguments):
        n, total, squares, *high, top = (
            builder.extract_value(arguments[0], i) for i in range(len(arguments[0].type.elements))
        )
        if signature.args[0].short:
            fields = [
                n,
                builder.sitofp(_reduced(builder, "add", _long(builder.sext, total)), _DOUBLE),
                builder.uitofp(_reduced(builder, "add", _whole(builder, squares, *high)), _DOUBLE),
                builder.sitofp(_reduced(builder, "smax", top), _FLOAT),
            ]
            return context.make_tuple(builder, kind, fields)
        fields = [
            n,
            _added_up(builder, total),
            _added_up(builder, squares),
            builder.bitcast(_reduced(builder, "smax", top), _FLOAT),
        ]
        return context.make_tuple(builder, kind, fields)

    return kind(sums), generate


def _long(extend, vector):
    """Return 32-bit lanes as 64-bit ones."""
    return extend(vector, ir.VectorType(_COUNT, vector.type.count))


def _whole(builder, low, high):
    """Return sums (64 bits) from their last 32 bits and the sums without 16 bits of each number."""
    half, wide_half = (
        ir.Constant(ir.VectorType(ir.IntType(n), low.type.count), [16] * low.type.count)
        for n in (32, 64)
    )
    rest = builder.sub(low, builder.shl(high, half))
    high = builder.shl(_long(builder.zext, high), wide_half)
    return builder.add(high, _long(builder.zext, rest))


def _added_up(builder, vector):
    """Return the sum of lanes of floats, always in the same order: half to half."""
    n = vector.type.count
    while n > 1:
        n //= 2
        halves = [ir.Constant(ir.VectorType(ir.IntType(32), n), [*range(i, i + n)]) for i in (0, n)]
        vector = builder.fadd(*(builder.shuffle_vector(vector, vector, half) for half in halves))
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


def _reduced(builder, how, vector):
    """Return the lanes of integers as one."""
    lane = vector.type.element
    name = f"llvm.vector.reduce.{how}.v{vector.type.count}i{lane.width}"
    return builder.call(_function(builder, name, lane, vector.type), [vector])


@_intrinsic
def bits_outside(typing_context, values, first, lower, upper):
    """Return which of `BITS` float32 are not strictly between limits; NaN never."""

    def generate(context, builder, signature, arguments):
        values, first, lower, upper = arguments
        value = _lanes(context, builder, signature.args[0], values, first, BITS)
        outside = builder.or_(
            builder.fcmp_ordered("<=", value, _everywhere(builder, lower, BITS)),
            builder.fcmp_ordered(">=", value, _everywhere(builder, upper, BITS)),
        )
        return builder.bitcast(outside, ir.IntType(BITS))

    return types.uint64(values, types.intp, types.float32, types.float32), generate


@_intrinsic
def bits_false(typing_context, flags, first):
    """Return which of `BITS` elements of a bool array are False."""
    return types.uint64(flags, types.intp), _compared_to_zero("==")


@_intrinsic
def bits_nonzero(typing_context, words, first):
    """Return which of `BITS` elements of an array of words are not 0."""
    return types.uint64(words, types.intp), _compared_to_zero("!=")


def _compared_to_zero(how):
    """Return what generates the bits of a comparison of an array's elements with 0."""

    def generate(context, builder, signature, arguments):
        array, first = arguments
        lanes = _lanes(context, builder, signature.args[0], array, first, BITS)
        bits = builder.icmp_unsigned(how, lanes, ir.Constant(lanes.type, None))
        return builder.bitcast(bits, ir.IntType(BITS))

    return generate


@_intrinsic
def bits_at(typing_context, bits, p):
    """Return 57 or more of the bits of an array of words from bit `p` on; 8 bytes are read."""
    # Bytes are in the order of x86 and ARM.

    def generate(context, builder, signature, arguments):
        bits, p = arguments
        pointer = data_pointer(context, builder, signature.args[0], bits)
        pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
        pointer = builder.gep(pointer, [builder.lshr(p, p.type(3))])
        word = builder.load(builder.bitcast(pointer, _COUNT.as_pointer()), align=1)
        return builder.lshr(word, builder.and_(p, p.type(7)))

    return types.uint64(bits, types.intp), generate


@_intrinsic
def trailing_zeros(typing_context, word):
    """Return the place of a word's lowest bit; 64 if none is set."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@_intrinsic
def prefetch(typing_context, array, index):
    """Ask for the memory of an array's element, counted flat, which is needed soon."""

    def generate(context, builder, signature, arguments):
        array, index = arguments
        pointer = data_pointer(context, builder, signature.args[0], array)
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = _function(
            builder, "llvm.prefetch.p0", ir.VoidType(), byte, number, number, number
        )
        where = builder.bitcast(builder.gep(pointer, [index]), byte)
        builder.call(function, [where, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


def _function(builder, name, result, *arguments):
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)

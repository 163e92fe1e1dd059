"""What Numba has no words for: many values at once, single bits, and memory asked for early.

Where the compiler is left to find vectors by itself, it may find none, and a kernel is several
times slower without anyone being told. So the inner loops of the peak finder name them, on Numba's
inside (`vector_instructions`). A Numba whose inside is another one cannot compile that. Then, and
where the environment variable `PLAIN_KERNELS` is 1, it is done the plain way (`plain_vectors`):
the same results, to the last bit, later.

These are for use in compiled functions only.
"""

from __future__ import annotations

import importlib
import os
import warnings
from types import ModuleType
from typing import Any

import numba
import numpy as np

from wrappers.peakfinding import plain_vectors
from wrappers.peakfinding.plain_vectors import BITS, LANES

__all__ = [
    "BITS",
    "LANES",
    "PLAIN",
    "PLAIN_KERNELS",
    "add_pixels",
    "add_values",
    "bits_at",
    "bits_false",
    "bits_nonzero",
    "bits_outside",
    "columns",
    "itemsize",
    "lanes_of",
    "larger",
    "matrix",
    "no_pixels",
    "no_sums",
    "no_wide_pixels",
    "nothing_like",
    "packed",
    "prefetch",
    "smaller",
    "total_sums",
    "trailing_zeros",
    "views",
    "width",
]

PLAIN_KERNELS = "SFX_TUNER_PLAIN_KERNELS"
"""The environment variable that chooses the plain path."""


def _vector_path() -> ModuleType | None:
    """Return the vector path, or None, with a warning, where it is not to be taken."""
    if os.environ.get(PLAIN_KERNELS) == "1":
        _warn(f"{PLAIN_KERNELS}=1 asks for the peak finder's plain kernels", "Unset it")
        return None
    try:
        from wrappers.peakfinding import vector_instructions

        _probe(vector_instructions)
    # Whatever another Numba raises: there is no list of what that may be.
    except Exception as error:
        _warn(
            f"the peak finder's fast kernels cannot be compiled ({type(error).__name__})",
            "Install the version that constraints.txt names",
        )
        return None
    return vector_instructions


def _probe(path: Any) -> None:
    """Compile a little of everything; whatever Numba raises if its inside is not as expected."""
    from wrappers.array_views import views
    from wrappers.linked_kernels import Lean, Linked
    from wrappers.packed_arrays import Packed

    njit: Any = numba.njit  # (its own annotations know not all of its options)
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    add_pixels, no_wide_pixels, total_sums = path.add_pixels, path.no_wide_pixels, path.total_sums
    bits_at, bits_nonzero, trailing_zeros = path.bits_at, path.bits_nonzero, path.trailing_zeros
    prefetch, types = path.prefetch, numba.types

    @njit(pipeline_class=Linked, **options)
    def least(data, words):
        sums = add_pixels(no_wide_pixels(data), data, 0, bits_at(words, 0))
        prefetch(data, trailing_zeros(bits_nonzero(words, 0)))
        return total_sums(sums)

    @njit(pipeline_class=Lean, **options)
    def little(data, words):
        data, (words,) = views((data, words))
        return least(data, words)

    little.compile((types.int16[::1], numba.typeof(Packed((np.zeros(1, np.uint64),)))))


def _warn(reason: str, mend: str) -> None:
    warnings.warn(
        f"{reason} (Numba {numba.__version__}): results are the same, but slower. {mend}",
        RuntimeWarning,
        stacklevel=3,
    )


_vectors = _vector_path()

PLAIN = _vectors is None
"""Whether the plain path is taken."""

_chosen = _vectors or plain_vectors
_arrays: ModuleType = plain_vectors if PLAIN else importlib.import_module("wrappers.array_views")
add_pixels = _chosen.add_pixels
add_values = _chosen.add_values
bits_at = _chosen.bits_at
bits_false = _chosen.bits_false
bits_nonzero = _chosen.bits_nonzero
bits_outside = _chosen.bits_outside
columns = _arrays.columns
itemsize = _arrays.itemsize
lanes_of = _chosen.lanes_of
larger = _arrays.larger
matrix = _arrays.matrix
no_pixels = _chosen.no_pixels
no_sums = _chosen.no_sums
no_wide_pixels = _chosen.no_wide_pixels
nothing_like = _chosen.nothing_like
packed: Any = plain_vectors.packed
if not PLAIN:
    packed = importlib.import_module("wrappers.packed_arrays").Packed
prefetch = _chosen.prefetch
smaller = _arrays.smaller
total_sums = _chosen.total_sums
trailing_zeros = _chosen.trailing_zeros
views = _arrays.views
width = _arrays.width

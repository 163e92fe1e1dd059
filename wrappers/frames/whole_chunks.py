"""Where the chunks of a selection of an HDF5 data set are, if it consists of whole ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

__all__ = ["chunk_corners", "in_whole_chunks"]


def in_whole_chunks(selection: Sequence[int | slice], chunks: Sequence[int]) -> bool:
    """Whether a selection consists of whole chunks.

    Parameters
    ----------
    selection : sequence of int or slice
        Of all dimensions; slices have a start and a stop.
    chunks : sequence of int
        Their size in each.
    """
    return len(selection) == len(chunks) and all(
        place.start == 0 == place.stop % size if isinstance(place, slice) else size == 1
        for place, size in zip(selection, chunks, strict=True)
    )


def chunk_corners(
    selection: Sequence[int | slice], chunks: Sequence[int]
) -> Iterator[tuple[int, ...]]:
    """Yield the place of each of the whole chunks that a selection consists of."""
    return itertools.product(
        *(
            range(0, place.stop, size) if isinstance(place, slice) else (place,)
            for place, size in zip(selection, chunks, strict=True)
        )
    )

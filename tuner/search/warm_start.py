"""Warm starts: points that served the simulated experiments well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from wrappers.files import write_whole
from wrappers.schema import Count, Share, read_json

__all__ = ["SHIPPED", "WARM_START", "WarmStart"]

SHIPPED = Path(__file__).parents[1] / "data"
"""Where the file is that comes with the program."""

WARM_START = "warm_start.json"


@dataclass(frozen=True)
class WarmStart:
    """What warm-started searches know of the simulated experiments.

    `experiments.warm_start` made the one that comes with the program.

    Attributes
    ----------
    points : tuple of mapping
        A portfolio: places in the unit cube by name, each chosen to add most to what those
        before it reach on the training experiments. The first is the best single setting.
    gp, tpe : int
        Points of it that a warm-started search begins with; chosen on validation.
    provenance : mapping
        How it was made.
    """

    points: tuple[Mapping[str, Share], ...]
    gp: Count
    tpe: Count
    provenance: Mapping[str, object]

    @classmethod
    def load(cls, directory: Path = SHIPPED) -> WarmStart:
        """Read ``warm_start.json``.

        Raises
        ------
        InputError
            If it is missing or damaged.
        """
        return read_json(
            directory / WARM_START, cls, "the warm starts", "take the file of the program anew"
        )

    def save(self, directory: Path) -> None:
        """Write ``warm_start.json``."""
        write_whole(directory / WARM_START, json.dumps(asdict(self), indent=1) + "\n")

"""How frequent kinds of frames are: counts with their shares and intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from envs.evaluation import wilson_interval

__all__ = ["Counted", "kind_shares"]


@dataclass(frozen=True)
class Counted:
    """So many of some frames.

    Attributes
    ----------
    k, n : int
        Those that count, and all of them.
    """

    k: int
    n: int

    @property
    def share(self) -> float:
        """Their share; 0 of no frames."""
        return self.k / max(self.n, 1)

    @property
    def ci95(self) -> tuple[float, float]:
        """The 95 % interval of the share (Wilson)."""
        return wilson_interval(self.k, self.n)


def kind_shares(counts: Mapping[str, int]) -> dict[str, Counted]:
    """Return the share of each kind, from its number of frames, in the same order."""
    n = sum(counts.values())
    return {name: Counted(k, n) for name, k in counts.items()}

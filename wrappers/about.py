"""What is said of a setting, once: its unit, its words, its usual range, CrystFEL's option."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["About", "Group", "Range"]

Group = Literal["peaks", "hit", "geometry", "mask"]
"""What a setting decides: which peaks are found in given pixels, which frames are hits, where the
detector stands, or which pixels are given to the peak finder."""


@dataclass(frozen=True)
class Range:
    """The range in which a setting is sought.

    Attributes
    ----------
    low, high : float
        Both ends are included.
    log : bool
        Whether the range is searched on a logarithmic scale.
    """

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class About:
    """The description of a setting that everything else is derived from.

    Attributes
    ----------
    label : str
        What the setting is, without the full stop.
    group : str
        What the setting decides; see `Group`.
    unit : str
    remark : str
        What a reader must know of the value, such as "inclusive".
    zero : str
        What a value of 0 means, where 0 switches the setting off: then 0 lies beyond the upper
        end of the scale, not below the lower end. "" where 0 is a value like any other.
    option : str
        The option of CrystFEL's ``indexamajig``, without its dashes; "" where there is none.
    range : Range or None
        The usual range, where it depends neither on the run nor on the peak finder.
    start : float or None
        Where a search begins, if not at the default; a setting that 0 switches off begins there
        only where it is tuned.
    digits : int
        Significant digits of a value; finer differences mean nothing.
    """

    label: str
    group: Group
    unit: str = ""
    remark: str = ""
    zero: str = ""
    option: str = ""
    range: Range | None = None
    start: float | None = None
    digits: int = 3

    @property
    def note(self) -> str:
        """The unit, the remark and what 0 means, as they stand beside a value."""
        zero = f"0: {self.zero}" if self.zero else ""
        return "; ".join(part for part in (self.unit, self.remark, zero) if part)

    @property
    def help(self) -> str:
        """A sentence on the setting."""
        return f"{self.label} ({self.note})." if self.note else f"{self.label}."

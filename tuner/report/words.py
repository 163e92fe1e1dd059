"""Numbers as people read them."""

from __future__ import annotations

import numpy as np

__all__ = ["duration", "percent", "plainly", "shown"]


def percent(rate: float) -> str:
    """Return a rate in per cent."""
    return f"{100 * rate:.1f}\u00a0%"


def plainly(error: float) -> str:
    """Return an error's first digit, without an exponent."""
    return np.format_float_positional(float(f"{error:.1g}"), trim="-")


def shown(value: str | float) -> str:
    """Return a setting's value for people."""
    return value if isinstance(value, str) else f"{value:.6g}"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

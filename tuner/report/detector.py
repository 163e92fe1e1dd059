"""What is said of camera length and beam centre: on the report's first screen and in the terminal.

There is one estimate of each. Where a length was tuned it is the recommended one, which the search
took from lattices, as long as the lattices of the recommended set agree with it; else it is what
these lattices give.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envs.geometry_rule import FEWEST_INDEXED
from tuner.recommendation import at_edge
from tuner.report.words import plainly
from wrappers.lattices.geometry_drift import Drift
from wrappers.settings import Settings

__all__ = ["Statement", "detector_statements"]

CLOSE_CLEN = 5e-4
"""Relative error of a camera length that does no harm."""

VAGUE_CLEN = 0.01
"""Relative error of a camera length that says nothing: indexers accept about ± 2 %."""

CLOSE_SHIFT = 0.2
"""Error of the beam centre, in pixels, that does no harm."""

SHIFTS = ("shift_x", "shift_y")


@dataclass(frozen=True)
class Statement:
    """A sentence, and whether it calls for somebody to do something.

    Code stands between backticks.
    """

    text: str
    warning: bool = False

    def __str__(self) -> str:
        return self.text.replace("`", "")


def detector_statements(
    settings: Settings,
    refined: Mapping[str, Sequence[float]],
    n_indexed: int,
    provenance: Mapping[str, Any],
    drift: Drift | None,
    asked_shift: Sequence[float] | None = None,
) -> tuple[Statement, ...]:
    """Return what a session says of the detector's place.

    Parameters
    ----------
    settings : Settings
        The recommended set.
    refined : mapping of str to (float, float)
        What its lattices give for ``clen``, ``shift_x`` and ``shift_y``, with standard errors, in
        metres.
    n_indexed : int
        Frames behind that; below three nothing is said.
    provenance : mapping
        Of the recommendation: ``tuned``, ``geometry_clen``, ``clen_bounds``, ``pixel_size`` …; what
        an older session does not have is not spoken of.
    drift : Drift or None
        Of the recommended set's frames.
    asked_shift : (float, float), optional
        The shift in metres that the clearest frames ask for, where it is another by pixels. The
        recommended set's lattices are then others than the crystals', and know nothing of it.
    """
    if n_indexed < FEWEST_INDEXED:
        return ()
    edges = at_edge(settings, refined, provenance)
    found = []
    if drift is not None and drift.grave:
        found.append(Statement(str(drift), warning=True))
    nominal = provenance.get("geometry_clen")
    if "clen" in edges:
        found.append(_at_edge("clen", "camera length", refined, provenance, "`--clen-range`"))
    elif _known(refined, "clen") and isinstance(nominal, float):
        found.append(_camera_length(settings, refined["clen"], nominal, provenance, drift))
    for name in SHIFTS:
        if name in edges:
            what = f"detector shift `{name}`"
            found.append(_at_edge(name, what, refined, provenance, "the geometry"))
    if asked_shift is not None:
        found.append(_asked(settings, asked_shift, provenance))
    elif all(_known(refined, name) and name not in edges for name in SHIFTS):
        found.append(_beam_centre(settings, refined, provenance))
    return tuple(found)


def _known(refined: Mapping[str, Sequence[float]], name: str) -> bool:
    return name in refined and all(map(math.isfinite, refined[name]))


def _at_edge(
    name: str,
    what: str,
    refined: Mapping[str, Sequence[float]],
    provenance: Mapping[str, Any],
    mend: str,
) -> Statement:
    low, high = provenance[f"{name}_bounds"]
    given = refined[name][0] if _known(refined, name) else low
    asks = "" if low <= given <= high else f", and the lattices ask for {_mm(given)}"
    verb = "widen it with" if "--" in mend else "correct"
    return Statement(
        f"The {what} is at the edge of its range, {1e3 * low:.6g} to {1e3 * high:.6g} mm{asks}: "
        f"the right one may lie beyond, so no error is given. Mend: {verb} {mend}.",
        warning=True,
    )


def _camera_length(
    settings: Settings,
    refined: Sequence[float],
    nominal: float,
    provenance: Mapping[str, Any],
    drift: Drift | None,
) -> Statement:
    given, error = refined
    tuned = "clen" in provenance.get("tuned", ()) and settings.clen is not None
    close = max(2 * error, CLOSE_CLEN * nominal)
    kept = ""
    if tuned and settings.clen is not None:
        if abs(settings.clen - given) <= close:
            given = settings.clen
        else:
            kept = (
                f" The recommended set keeps {_mm(settings.clen)}, which the search took from the "
                "lattices of other evaluations."
            )
    off = given - nominal
    if drift is not None and drift.grave:
        # A mean over lengths that differ has no error worth its name.
        return Statement(
            f"On average over the run the lattices give {_mm(given)}, "
            f"{100 * abs(off) / nominal:.2g} % ({1e3 * abs(off):.3g} mm) "
            f"{'more' if off > 0 else 'less'} than the geometry's {_mm(nominal)}.{kept}"
        )
    known = f" ± {plainly(1e3 * error)}"
    if close > VAGUE_CLEN * nominal and abs(off) <= close:
        return Statement(
            f"The lattices place the camera length no better than {_mm(given, known)}, so they do "
            f"not say whether the geometry's {_mm(nominal)} is right: few of them, or wrong ones.",
            warning=True,
        )
    if abs(off) <= close:
        return Statement(
            f"The geometry's camera length, {_mm(nominal)}, is right within "
            f"{plainly(100 * close / nominal)} %: the lattices give {_mm(given, known)}.{kept}"
        )
    text = (
        f"The geometry's camera length is {100 * abs(off) / nominal:.2g} % "
        f"({1e3 * abs(off):.3g}{known} mm) too {'short' if off > 0 else 'long'}: the lattices give "
        f"{_mm(given)}, the geometry has {_mm(nominal)}."
    )
    if kept:
        return Statement(text + kept, warning=True)
    if tuned:
        return Statement(f"{text} The recommended set corrects it.")
    return Statement(
        f"{text} `clen` was not tuned: correct the geometry, or add `clen` to `--tune`.",
        warning=True,
    )


def _asked(settings: Settings, asked: Sequence[float], provenance: Mapping[str, Any]) -> Statement:
    pixel = provenance.get("pixel_size")
    off = [there - getattr(settings, name) for name, there in zip(SHIFTS, asked, strict=True)]
    amounts = " and ".join(
        f"{each / pixel:+.1f} px in {axis}"
        if isinstance(pixel, float)
        else f"{1e3 * each:+.3f} mm in {axis}"
        for each, axis in zip(off, "xy", strict=True)
    )
    places = ", ".join(
        f"`{name}` = {1e3 * there:+.3f} mm" for name, there in zip(SHIFTS, asked, strict=True)
    )
    return Statement(
        f"The beam centre is off by {amounts}, as the clearest frames show: many lattices of the "
        f"recommended set may be wrong. Mend: correct the geometry ({places}), and tune again.",
        warning=True,
    )


def _beam_centre(
    settings: Settings, refined: Mapping[str, Sequence[float]], provenance: Mapping[str, Any]
) -> Statement:
    pixel = provenance.get("pixel_size")
    least = CLOSE_SHIFT * (pixel if isinstance(pixel, float) else 1e-4)
    off, widest = {}, least
    for name in SHIFTS:
        given, error = refined[name]
        kept = getattr(settings, name)
        close = max(2 * error, least)
        widest = max(widest, close)
        if name in provenance.get("tuned", ()) and abs(kept - given) <= close:
            given = kept
        if abs(given) > close:
            off[name] = (given, error)
    if not off:
        within = (
            f"{plainly(widest / pixel)} px"
            if isinstance(pixel, float)
            else f"{1e6 * widest:.0f} µm"
        )
        return Statement(f"The geometry's beam centre is right within {within}.")

    def amount(name: str) -> str:
        given, error = off[name]
        length = f"{1e6 * abs(given):.0f} ± {plainly(1e6 * error)} µm"
        if isinstance(pixel, float):
            length = f"{abs(given) / pixel:.2g} ± {plainly(error / pixel)} px ({length})"
        return f"{length} in {name[-1]}"

    text = (
        f"The geometry's beam centre is off by {' and '.join(map(amount, off))}: "
        + " and ".join(f"`{name}` = {1e3 * off[name][0]:+.3f} mm" for name in off)
        + " mends it."
    )
    left = [name for name in off if name not in provenance.get("tuned", ())]
    if not left:
        return Statement(f"{text} The recommended set does so.")
    names = " and ".join(f"`{name}`" for name in left)
    return Statement(
        f"{text} {names} {'was' if len(left) == 1 else 'were'} not tuned: correct the geometry, or "
        f"add {names} to `--tune`.",
        warning=True,
    )


def _mm(length: float, known: str = "") -> str:
    return f"{1e3 * length:.3f}{known} mm"

"""The names of kinds: what the features of a frame, or of a part of a mixture, are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wrappers.frame_kinds.features import FEATURES

__all__ = ["KINDS", "UNNAMED", "VETOED", "can_be", "drops", "name_of"]

UNNAMED = "unnamed"

KINDS = {
    "blank": "no spots beyond chance, and nothing else either",
    "single crystal": "spots of one lattice, as far as the vectors between them tell",
    "several crystals": "many spots, with vectors between them that one lattice would not have",
    "powder or ice ring": "a ring that is sharper than the solvent's, all around the beam",
    "salt": "few spots, very bright and far out",
    "jet streak": "a line of light from the beam outwards",
    "beam off": "no light: the level does not vary over the rings",
    "detector fault": "a part of the detector is dead, stuck, or restless",
    UNNAMED: "nothing that has a name",
}
"""The kinds of frames, and what each is named by."""

VETOED = ("beam off", "detector fault")
"""Kinds of frames that hold nothing to be indexed."""

DARK = -2.0
FAULTY = -3.3
STREAKY = -1.2
SHARP = -2.0
SOME_SPOTS, CRYSTAL_SPOTS = 1.0, 2.2
FAR_OUT, BRILLIANT = 2.2, 7.0
MANY_SPOTS, DISORDERED = 3.5, 0.06
MOST_OF_SALT = 5.0
UNUSUAL = 2.0
FEW_SPOTS, A_RING, A_STREAK, DIM, A_FAULT, CLEAR = 1.6, -3.2, -2.0, -1.0, -3.8, -0.5
NO_CRYSTAL, NO_SPOT = 1.4, 2.5
"""Limits of the features of `features.FEATURES`, chosen on the train family
(`experiments.frame_kinds`)."""


def can_be(name: str, values: Sequence[float]) -> bool:
    """Whether a frame with such features shows what a kind is named by, if only faintly.

    And, of the ordinary kinds, no ring or streak that is clear.
    """
    seen = dict(zip(FEATURES, values, strict=True))
    spots, plain = seen["spots"] > FEW_SPOTS, max(seen["streak"], seen["ring"]) < CLEAR
    several = _are_several(seen)
    return {
        "blank": plain and seen["spots"] < MANY_SPOTS,
        "single crystal": spots and plain and not several,
        "several crystals": spots and plain and several,
        "powder or ice ring": seen["ring"] > A_RING,
        "salt": 0 < seen["spots"] < MOST_OF_SALT and plain,
        "jet streak": seen["streak"] > A_STREAK,
        "beam off": min(seen["light"], seen["level"]) < DIM,
        "detector fault": seen["fault"] > A_FAULT,
    }.get(name, True)


def name_of(values: Sequence[float]) -> str:
    """Return the kind that features, in the order of `FEATURES`, are called by."""
    seen = dict(zip(FEATURES, values, strict=True))
    if min(seen["light"], seen["level"]) < DARK and seen["spots"] < CRYSTAL_SPOTS:
        return "beam off"
    if seen["fault"] > FAULTY:
        return "detector fault"
    if seen["streak"] > STREAKY:
        return "jet streak"
    if seen["ring"] > SHARP:
        return "powder or ice ring"
    bright_and_far = seen["innermost"] > FAR_OUT and seen["brightest"] > BRILLIANT
    if SOME_SPOTS < seen["spots"] < MOST_OF_SALT and bright_and_far:
        return "salt"
    if seen["spots"] > CRYSTAL_SPOTS:
        return "several crystals" if _are_several(seen) else "single crystal"
    return "blank" if abs(seen["level"]) < UNUSUAL else UNNAMED


def _are_several(seen: Mapping[str, float]) -> bool:
    return seen["spots"] > MANY_SPOTS and seen["disorder"] > DISORDERED


def drops(name: str, values: Sequence[float]) -> bool:
    """Whether a frame of a kind and with such features is left out by the veto.

    Its own features must say so, too; and one in which spots are seen is kept whatever else is
    wrong, also where they are on a faulty part: the rest of the crystal may be on sound ones.
    """
    seen = dict(zip(FEATURES, values, strict=True))
    if seen["spots"] >= NO_CRYSTAL or seen["brightest"] >= NO_SPOT:
        return False
    dark = min(seen["light"], seen["level"]) < DARK
    return (name == "beam off" and dark) or (name == "detector fault" and seen["fault"] > FAULTY)

"""Frames by kind: blank, crystals, rings, salt, streaks, beam off, a detector at fault.

=========== ================================================================================
`measures`  what is measured of a frame: levels by place, spots; kernels in `kernels`
`spots`     what its spots say of lattices: one, or several
`features`  a frame's features, in units of what is usual in its run
`mixture`   a Gaussian mixture whose number of parts follows from held-out likelihood
`layout`    whether two geometries are of one detector
`naming`    the kinds, and what features each is called by
`kinds`     parts of a mixture with names; written, read, carried on over a night
`run`       the kinds of a run's frames, measured by processes
=========== ================================================================================
"""

from wrappers.frame_kinds.kinds import FrameKinds
from wrappers.frame_kinds.naming import KINDS, UNNAMED, VETOED
from wrappers.frame_kinds.run import KindsOfFrames, KindTeller, Told, run_digest, tell_kinds

__all__ = [
    "KINDS",
    "UNNAMED",
    "VETOED",
    "FrameKinds",
    "KindTeller",
    "KindsOfFrames",
    "Told",
    "run_digest",
    "tell_kinds",
]

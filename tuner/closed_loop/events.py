"""What happens in a night, one line each in ``night.jsonl``: whatever is known follows from them.

The log is written before anything is done about what it says, so a loop that was killed goes on
from the log alone.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from wrappers.files import append_line
from wrappers.schema import Count, Number, Share, read_json_lines

__all__ = [
    "Alarmed",
    "Beam",
    "Begun",
    "Block",
    "Ended",
    "Event",
    "Kept",
    "Noted",
    "Pairs",
    "Proof",
    "Resumed",
    "Returned",
    "Rose",
    "Settled",
    "Tuned",
    "Tuning",
    "append_event",
    "as_line",
    "read_events",
]

REMEDY = "mend or remove that line, or begin another night"

Interval = tuple[Share, Share]
Beam = Literal["on", "partly", "off"]
Outcome = Literal["first", "better", "moved", "no better", "nothing", "failed"]
Proof = Literal["better", "no worse"]


@dataclass(frozen=True)
class Pairs:
    """Frames that were indexed with two sets.

    Attributes
    ----------
    n : int
    new_only, old_only : int
        Frames that only one of them indexes.
    both : int
        Frames that both index; 0 in the log of an older version, too.
    """

    n: Count = 0
    new_only: Count = 0
    old_only: Count = 0
    both: Count = 0

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(
            self.n + other.n,
            self.new_only + other.new_only,
            self.old_only + other.old_only,
            self.both + other.both,
        )


@dataclass(frozen=True)
class _Line:
    time: Number = field(default_factory=lambda: round(time.time(), 3), kw_only=True)


@dataclass(frozen=True)
class Begun(_Line):
    """The night begins.

    Attributes
    ----------
    source, geometry : str
    tune : tuple of str
        Options of its tuning sessions, as on the command line of ``tune``.
    n_tuning : int
        Frames of a session.
    size, seconds : int, float
        Of a block: frames, or as many as come in so many seconds.
    n_sample : int
        Frames of a block that are indexed, hits or not.
    geometry_sha256 : str or None
        What tells the geometry and its mask files from others; None in the log of an older version.
    """

    source: str
    geometry: str
    tune: tuple[str, ...]
    n_tuning: Count
    size: Count
    seconds: Number
    n_sample: Count
    version: str
    geometry_sha256: str | None = None
    kind: Literal["begun"] = "begun"


@dataclass(frozen=True)
class Resumed(_Line):
    """A program that was ended or killed goes on."""

    kind: Literal["resumed"] = "resumed"


@dataclass(frozen=True)
class Block(_Line):
    """Frames that were searched with one set.

    Attributes
    ----------
    number : int
        Of the block.
    first : int
        Number of its first frame, counted from the beginning of the night.
    n_frames, n_unreadable, n_hits : int
        Its frames are `first` to `first` + `n_frames` + `n_unreadable` - 1.
    used : int
        Number of the session whose set this is; 0 stands for what is customary.
    hits : str
        The file of the hits, in the night's folder; "" where there is none.
    beam : str
        Whether it was on.
    level : float or None
        Mean of the usable pixels, a median over some frames.
    n_sampled, n_indexed : int
        Frames that were given to the indexer, hits or not, and those with a lattice.
    n_light, n_brighter, n_darker : int
        Frames whose light is known, and those that are clearly brighter or darker than the frames
        last tuned on; see `evidence.of_other_light`.
    n_placed, n_elsewhere : int
        Indexed frames whose lattices tell where the detector is, and those that put it elsewhere
        than the set does; see `sampled`.
    pairs : Pairs
        Frames that were also indexed with the set before.
    kinds : mapping of str to int
        Frames by kind, of those whose kind was told.
    received, dropped, damaged, other : int
        Of the stream, since the program was started: images that came, had no room, could not be
        read, and were not of the geometry.
    photon_energy, camera_length : float or None
        Of its first frame, in eV and m; None in the log of an older version.
    begins_series : bool
        Whether the stream has begun a series with another photon energy or distance than that of
        the frames before.
    """

    number: Count
    first: int
    n_frames: Count
    n_unreadable: Count
    n_hits: Count
    used: Count
    hits: str = ""
    beam: Beam = "on"
    level: Number | None = None
    n_sampled: Count = 0
    n_indexed: Count = 0
    n_light: Count = 0
    n_brighter: Count = 0
    n_darker: Count = 0
    n_placed: Count = 0
    n_elsewhere: Count = 0
    pairs: Pairs = Pairs()
    kinds: dict[str, Count] = field(default_factory=dict)
    received: int = 0
    dropped: int = 0
    damaged: int = 0
    other: int = 0
    photon_energy: Number | None = None
    camera_length: Number | None = None
    begins_series: bool = False
    kind: Literal["block"] = "block"


@dataclass(frozen=True)
class Alarmed(_Line):
    """A rate has left its interval.

    Attributes
    ----------
    rate : str
    k, n : int
    low, high : float
    of_kinds : tuple of str
        Which kinds of frames have become more frequent since the set came into force, a sentence
        each.
    """

    rate: str
    k: Count
    n: Count
    low: Share
    high: Share
    of_kinds: tuple[str, ...] = ()
    kind: Literal["alarm"] = "alarm"


@dataclass(frozen=True)
class Rose(_Line):
    """A kind of frames has become more frequent.

    Attributes
    ----------
    of : str
        The kind.
    since : int
        Number of the first frame of the block since which it is.
    k, n : int
        Frames of the kind since then, of all whose kind was told.
    before : float
        Its share before.
    """

    of: str
    since: Count
    k: Count
    n: Count
    before: Share
    kind: Literal["rose"] = "rose"


@dataclass(frozen=True)
class Tuning(_Line):
    """A tuning session begins.

    Attributes
    ----------
    number : int
        Its folder is ``tuning-`` and this.
    blocks : tuple of int
        Whose frames it has.
    """

    number: Count
    blocks: tuple[Count, ...]
    kind: Literal["tuning"] = "tuning"


@dataclass(frozen=True)
class Tuned(_Line):
    """A tuning session has ended.

    Attributes
    ----------
    number : int
    outcome : str
        Whether its set comes into force: that of the first session, one that is better than the
        set in force on the session's own frames, and where the lattices put the detector elsewhere
        one that is no worse there, and has it there ("moved"). The set was chosen on those frames:
        it is proved on fresh ones.
    why : str
        A sentence.
    pairs : Pairs
        The session's frames, with its set and with the one in force.
    intervals : mapping of str to (float, float)
        95 % intervals of the set's rates.
    """

    number: Count
    outcome: Outcome
    why: str = ""
    pairs: Pairs = Pairs()
    intervals: dict[str, Interval] = field(default_factory=dict)
    kind: Literal["tuned"] = "tuned"


@dataclass(frozen=True)
class Kept(_Line):
    """The new set is proved.

    Attributes
    ----------
    used : int
    pairs : Pairs
        Fresh frames with this set and with the one before.
    proof : str
        What it is proved to be.
    """

    used: Count
    pairs: Pairs
    proof: Proof = "better"
    kind: Literal["kept"] = "kept"


@dataclass(frozen=True)
class Returned(_Line):
    """The set before is taken back.

    Attributes
    ----------
    used : int
        The set that is in force again.
    instead_of : int
    pairs : Pairs
    proof : str
        What that one is not proved to be.
    """

    used: Count
    instead_of: Count
    pairs: Pairs
    proof: Proof = "better"
    kind: Literal["returned"] = "returned"


@dataclass(frozen=True)
class Settled(_Line):
    """The rates of today are what further ones are held against."""

    intervals: dict[str, Interval]
    kind: Literal["settled"] = "settled"


@dataclass(frozen=True)
class Noted(_Line):
    """Something that people should know, and that changes nothing."""

    text: str
    kind: Literal["note"] = "note"


@dataclass(frozen=True)
class Ended(_Line):
    """No more frames come, or somebody has stopped the loop."""

    why: str
    kind: Literal["ended"] = "ended"


Event = (
    Begun
    | Resumed
    | Block
    | Alarmed
    | Rose
    | Tuning
    | Tuned
    | Kept
    | Returned
    | Settled
    | Noted
    | Ended
)

_Shape = Annotated[Event, Field(discriminator="kind")]


def append_event(path: Path, event: Event) -> None:
    """Append a line to the log, which is on disk when this returns.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    append_line(path, as_line(event))


def as_line(event: Event) -> str:
    """Return an event as it stands in the log."""
    values = asdict(event)
    return json.dumps({"time": values.pop("time"), "kind": values.pop("kind"), **values})


def read_events(path: Path, *, mend: bool = False) -> list[Event]:
    """Read a night's log; a last line that is not whole is left out, or with `mend` dropped.

    Raises
    ------
    InputError
        If it cannot be read, or a line is no event; the line is named.
    """
    shape: type[Event] = _Shape  # type: ignore[assignment]
    return read_json_lines(path, shape, "the night's log", REMEDY, mend=mend)

"""What happens in a night, in words: for the terminal and the page."""

from __future__ import annotations

from tuner.closed_loop.events import (
    Alarmed,
    Begun,
    Block,
    Ended,
    Event,
    Kept,
    Noted,
    Pairs,
    Resumed,
    Returned,
    Rose,
    Settled,
    Tuned,
    Tuning,
)
from tuner.closed_loop.evidence import BRIGHTER, CLEN_OFF, DARKER, OTHER_LIGHT, PIXELS_OFF, PLACE
from tuner.closed_loop.kinds import rose_words
from tuner.closed_loop.rules import CUSTOMARY

__all__ = ["in_words", "lost_words", "set_words"]

ODD_WORDS = {
    BRIGHTER: f"frames are over {OTHER_LIGHT:g} times brighter than those last tuned on",
    DARKER: f"frames are over {OTHER_LIGHT:g} times darker than those last tuned on",
    PLACE: f"indexed frames put the detector over {CLEN_OFF:.1%} nearer or farther than the set, "
    f"or over {PIXELS_OFF:g} px beside",
}


def set_words(number: int) -> str:
    """Return what a set is called."""
    return "the customary set" if number == CUSTOMARY else f"the set of tuning-{number}"


def in_words(event: Event, *, is_proved: bool = True) -> str:
    """Return an event as a sentence, without a full stop.

    Parameters
    ----------
    event : Event
    is_proved : bool
        Whether sets are proved on fresh frames, as in a night.
    """
    match event:
        case Begun():
            return f"the night begins with frames of {event.source}"
        case Resumed():
            return "the night goes on"
        case Block():
            return _block(event)
        case Alarmed(rate=rate) if rate in ODD_WORDS:
            return f"{event.k} of {event.n} {ODD_WORDS[rate]}: {_kept(event)}"
        case Alarmed():
            return (
                f"the {event.rate} is {event.k / event.n:.1%} ({event.k} of {event.n} frames), "
                f"outside [{event.low:.1%}, {event.high:.1%}]: {_kept(event)}"
            )
        case Rose():
            return rose_words(event)
        case Tuning():
            return f"tuning-{event.number} begins"
        case Tuned(outcome="first"):
            return f"{set_words(event.number)} comes into force"
        case Tuned(outcome="better" | "moved"):
            proved = ", to be proved" if is_proved else ""
            return f"{set_words(event.number)} comes into force{proved}: {event.why}"
        case Tuned(outcome="no better"):
            return f"tuning-{event.number} has nothing better: {event.why}"
        case Tuned(outcome="failed"):
            return f"tuning-{event.number} has failed: {event.why}"
        case Tuned():
            return f"tuning-{event.number} recommends nothing: {event.why}"
        case Kept():
            return (
                f"{set_words(event.used)} is proved to be {event.proof} and stays: "
                f"{_pairs(event.pairs)}"
            )
        case Returned():
            return (
                f"{set_words(event.instead_of)} is not proved to be {event.proof}: "
                f"{set_words(event.used)} is taken back; {_pairs(event.pairs)}"
            )
        case Settled():
            rates = (
                f"{rate} [{low:.1%}, {high:.1%}]"
                for rate, (low, high) in event.intervals.items()
                if rate not in ODD_WORDS
            )
            return f"further frames are held against the rates of these: {', '.join(rates)}"
        case Noted():
            return event.text
        case Ended():
            return f"the night ends: {event.why}"


def lost_words(block: Block) -> str:
    """Return what was left out of a stream since the program was started; "" for nothing."""
    counts = (block.dropped, "dropped"), (block.damaged, "damaged"), (block.other, "others")
    return ", ".join(f"{n:,} {what}" for n, what in counts if n)


def _block(block: Block) -> str:
    beam = {"on": "", "partly": ", beam in part", "off": ", no beam"}[block.beam]
    sampled = f"; {block.n_indexed} of {block.n_sampled} index" if block.n_sampled else ""
    bad = f", {block.n_unreadable} unreadable" if block.n_unreadable else ""
    lost = lost_words(block)
    lost = f"; {lost} so far" if lost else ""
    hits = f" → {block.hits}" if block.hits else ""
    series = "; another series begins with it" if block.begins_series else ""
    return (
        f"{block.n_hits} hits in {block.n_frames} frames{bad}{beam}{sampled}, "
        f"{set_words(block.used)}{series}{lost}{hits}"
    )


def _kept(alarm: Alarmed) -> str:
    return "; ".join(("frames are kept for a re-tune", *alarm.of_kinds))


def _pairs(pairs: Pairs) -> str:
    return (
        f"of {pairs.n} frames {pairs.new_only} index only with it, {pairs.old_only} only with the "
        "one before"
    )

"""The closed loop: what `rules` decides is done here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

from tuner.closed_loop.events import (
    Begun,
    Block,
    Ended,
    Event,
    Noted,
    Resumed,
    Tuned,
    Tuning,
    append_event,
    read_events,
)
from tuner.closed_loop.feed import (
    block_file,
    forget_blocks,
    list_of_blocks,
    open_frames,
    taken_before,
)
from tuner.closed_loop.folder import (
    FOLDERS,
    forget_night,
    hits_of_no_block,
    require_folder_for_night,
    with_geometry,
)
from tuner.closed_loop.retuning import NICENESS, LastChecks, Order, Session, lacks_report
from tuner.closed_loop.rules import CUSTOMARY, Rules, State, after, due, replayed
from tuner.closed_loop.searching import BlockSearch, session_folder
from tuner.closed_loop.words import in_words
from tuner.recommendation import write_recommendation
from tuner.session.ownership import owned
from wrappers.errors import InputError, NothingFoundError, ProgramError
from wrappers.frames.address import Address, is_address
from wrappers.streams.protocols import asked_frames, is_growing, is_stream
from wrappers.streams.receiver import BUFFER

__all__ = ["LOG", "Loop", "begun_of"]

LOG = "night.jsonl"
POLL = 0.5
"""Seconds between two looks at a session, where there are no frames to go on with."""
PATIENCE = 5.0
"""Seconds without a frame after which a block is closed, and a session is looked at."""
SILENCE = 60.0
"""Seconds without a frame that are worth a word."""


class Loop:
    """Runs a night; used as a context manager.

    Parameters
    ----------
    night : Path
        Folder of all that it writes.
    begun : Begun or None
        What is asked for; None goes on with the night in the folder.
    jobs : int
        Processes.
    buffer : int
        Images of a stream that wait in memory.
    idle : float, optional
        Seconds without a frame after which the loop ends.
    memory : int, optional
        Bytes that a session may take.
    stopped : callable
        Says that it is enough: the block under way is finished, and the loop ends.
    on_event : callable
        Called with each event and the state behind it.
    on_wait : callable
        Called now and then while there is nothing to do but wait, with a line of words.

    Raises
    ------
    InputError
        If the folder holds a night or something else already, or no night where one is to be
        resumed; if it cannot be resumed; if another process writes it; or if the source cannot be
        opened.
    """

    def __init__(
        self,
        night: Path,
        begun: Begun | None,
        *,
        jobs: int = 1,
        buffer: int = BUFFER,
        idle: float | None = None,
        memory: int | None = None,
        rules: Rules = Rules(),  # noqa: B008 (frozen)
        stopped: Callable[[], bool] = lambda: False,
        on_event: Callable[[Event, State], None] = lambda event, state: None,
        on_wait: Callable[[str], None] = lambda words: None,
    ) -> None:
        self._night, self._log = night, night / LOG
        self._jobs, self._buffer, self._idle, self._memory = jobs, buffer, idle, memory
        self._stopped, self._on_event, self._on_wait = stopped, on_event, on_wait
        self.events: list[Event] = []
        self.state = State()
        self._session: Session | None = None
        self._last_checks = LastChecks()
        self._said: set[str] = set()
        self._stack = ExitStack()
        earlier = self._earlier(resume=begun is None)
        self.begun = begun or begun_of(earlier, self._log)
        source = self.begun.source
        self._most = asked_frames(source) if is_stream(source) else None
        self._rules = replace(rules, n_tuning=self.begun.n_tuning)
        self.events, self.state = earlier, replayed(earlier, self._rules)

    def _earlier(self, resume: bool) -> list[Event]:
        if self._log.exists() and not resume:
            raise InputError(
                f"{self._night} holds a night already: --resume {self._night} goes on with it, or "
                "name another folder"
            )
        if resume and not self._log.exists():
            raise InputError(
                f"{self._night} holds no night that could be gone on with: there is no {LOG}"
            )
        if resume:
            return read_events(self._log)
        require_folder_for_night(self._night)
        return []

    def __enter__(self) -> Self:
        source = self.begun.source
        with ExitStack() as stack:
            stack.enter_context(owned(self._night))
            goes_on = bool(self.events)
            if goes_on:
                read_events(self._log, mend=True)
            frames = self._frames = stack.enter_context(
                open_frames(
                    *(self._source, Path(self.begun.geometry), self.state.next_frame, self._buffer),
                    goes_on=self.state.next_frame > 0,
                    before=self._last_taken,
                    taken=taken_before(self._night, self.state.next_block)
                    if is_growing(source)
                    else (),
                )
            )
            self.begun = with_geometry(self.begun, goes_on=goes_on)
            # A night begins once its frames are there: what cannot be opened leaves nothing.
            self._take(Resumed() if goes_on else self.begun)
            for name in FOLDERS:
                (self._night / name).mkdir(exist_ok=True)
            if goes_on:
                told = [event for event in self.events if isinstance(event, Block)]
                for note in hits_of_no_block(
                    self._night, told, goes_on=is_stream(source) and not is_growing(source)
                ):
                    self._note(note)
            self._search = stack.enter_context(
                BlockSearch(
                    self._night,
                    frames,
                    self.begun,
                    n_frames=self._most,
                    jobs=self._jobs,
                    on_note=self._note,
                    stopped=self._stopped,
                )
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._session is not None:
            self._session.close()
        self._last_checks.close()
        self._stack.close()

    @property
    def failure(self) -> InputError | ProgramError | None:
        """Why no session has found a set, as the error that it is; None where one has."""
        if self.state.used != CUSTOMARY:
            return None
        ends = [event for event in self.events if isinstance(event, Tuned)]
        why = in_words(ends[-1]) if ends else self._no_session
        kind = ProgramError if ends and ends[-1].outcome == "failed" else NothingFoundError
        return kind(f"no session of the night has found a set: {why}")

    @property
    def _last_taken(self) -> tuple[float | None, float | None]:
        """Photon energy and camera length of the last frames of the log."""
        last = next((each for each in reversed(self.events) if isinstance(each, Block)), None)
        return (None, None) if last is None else (last.photon_energy, last.camera_length)

    @property
    def _source(self) -> Address:
        name = self.begun.source
        return name if is_address(name) else Path(name)

    def run(self) -> None:
        """Go on until no more frames come.

        Raises
        ------
        InputError
            If a file cannot be read or written.
        """
        idle, last, silent = self._idle, time.monotonic(), False
        if self.state.used != CUSTOMARY:
            self._publish()  # a kill may have come between the event and the file
        if self.state.phase == "tuning":
            self._start(next(e for e in reversed(self.events) if isinstance(e, Tuning)))
        self._go_on_with_checks()
        self._decide()
        ended = ""
        while not ended:
            if self._frames.ended or self._has_all:
                n = "all" if self._most is None else f"the {self._most} asked-for"
                ended = f"{n} frames of the run are done"
                break
            if self._frames.waits:
                self._wait_for_session()
            patience = PATIENCE if idle is None else min(PATIENCE, max(idle, POLL))
            block = self._next_block(patience)
            if block is not None:
                if silent:
                    self._take(Noted(f"frames come again, after {time.monotonic() - last:.0f} s"))
                silent = False
                self._take(block)
                last = time.monotonic()
            elif not silent and time.monotonic() - last >= SILENCE:
                silent = True
                self._take(Noted(f"{self._silence(SILENCE)}: no beam, or no sender"))
            self._decide()
            forget_blocks(self._night / "frames", self._kept_blocks())
            # What was looked at of a stream is gone there: it is searched, too.
            if self._stopped() and not self._frames.has_looked_ahead:
                break
            is_late = idle is not None and time.monotonic() - last >= idle
            if block is None and is_late and self._session is None:
                ended = self._silence(idle or 0.0)
            if self._session is not None:
                self._on_wait(f"tuning: {self._session.n_evaluations} evaluations")
        # Frames were kept for it, and nobody else goes on with it.
        self._wait_for_session()
        self._end("it was stopped" if self._stopped() else ended)

    def _next_block(self, patience: float) -> Block | None:
        """Search the next block; a night that is refused before its first one leaves nothing."""
        try:
            return self._search.next(self.state, patience)
        except InputError:
            if self.state.next_block == 1:
                forget_night(self._night, self._log)
            raise

    def _silence(self, seconds: float) -> str:
        reason = self._frames.counts.reason
        return f"no frame has come for {seconds:g} s" + (f" ({reason})" if reason else "")

    @property
    def _has_all(self) -> bool:
        return self._most is not None and self.state.next_frame >= self._most

    def _end(self, why: str) -> None:
        if not self.state.n_sessions:
            self._take(Noted(self._no_session))
        while self._last_checks.under_way and not self._stopped():
            self._on_wait("the last checks of a session, and its report")
            time.sleep(POLL)
        self._last_checks.close()
        self._remark()
        self._take(Ended(why))

    @property
    def _no_session(self) -> str:
        blocks = [event for event in self.events if isinstance(event, Block)]
        return (
            f"no session was run: {sum(b.n_hits for b in blocks)} hits in "
            f"{sum(b.n_frames for b in blocks)} frames, a session waits for "
            f"{self._rules.n_first_hits} hits in {self._rules.n_tuning}"
        )

    def _remark(self) -> None:
        for remark in self._last_checks.remarks():
            self._take(Noted(remark))

    def _wait_for_session(self) -> None:
        while self._session is not None and not self._stopped():
            self._on_wait(f"tuning: {self._session.n_evaluations} evaluations")
            self._session.wait(POLL)
            self._decide()

    def _ended(self) -> Tuned | None:
        """Return what became of the session; None while there is none, or it runs."""
        if self._session is None or (tuned := self._session.told()) is None:
            return None
        self._last_checks.add(self._session, tuned)
        self._session = None
        # It says when it was written, which may be long before a program that was killed goes on.
        return replace(tuned, time=round(time.time(), 3))

    def _take(self, event: Event) -> None:
        append_event(self._log, event)
        self.events.append(event)
        self.state = after(self.state, event, self._rules)
        self._on_event(event, self.state)

    def _note(self, text: str) -> None:
        """Have something in the log, once."""
        if text not in self._said:
            self._said.add(text)
            self._take(Noted(text))

    def _decide(self) -> None:
        """Do what is due."""
        self._remark()
        while True:
            if (tuned := self._ended()) is not None:
                self._take(tuned)
                if tuned.number == self.state.used:
                    self._publish()
            event = due(self.state, self._rules)
            if event is None:
                return
            self._take(event)
            if isinstance(event, Tuning):
                self._start(event)
            elif event.kind == "returned":
                self._publish()

    def _publish(self) -> None:
        """Have the set in force in the night's folder, for other programs."""
        recommendation = self._search.set_of(self.state.used).recommendation
        if recommendation is not None:
            write_recommendation(recommendation, self._night / "recommended.toml")

    def _kept_blocks(self) -> set[int]:
        sessions = [event for event in self.events if isinstance(event, Tuning)]
        kept = {number for event in sessions for number in event.blocks}
        return kept | {each.number for each in self.state.kept}

    def _start(self, tuning: Tuning) -> None:
        """Begin a session, or go on with it."""
        data = session_folder(self._night, tuning.number).with_suffix(".lst")
        list_of_blocks(self._night / "frames", tuning.blocks, data)
        beside = not self._frames.waits and self.state.used != CUSTOMARY
        self._session = Session(self._order(tuning, NICENESS if beside else 0))

    def _order(self, tuning: Tuning, niceness: int) -> Order:
        used, folder = self.state.used, session_folder(self._night, tuning.number)
        return Order(
            number=tuning.number,
            data=f"{folder}.lst",
            geometry=f"{block_file(self._night / 'frames', tuning.blocks[0])}.geom",
            session=str(folder),
            outcome=f"{folder}.json",
            options=self.begun.tune,
            used=used,
            against=None if used == CUSTOMARY else str(session_folder(self._night, used)),
            jobs=self._jobs,
            niceness=niceness,
            memory=self._memory,
            of_place=self.state.of_place,
        )

    def _go_on_with_checks(self) -> None:
        """Have the last checks of sessions that a kill has ended before their report."""
        begun = {event.number: event for event in self.events if isinstance(event, Tuning)}
        for event in self.events:
            if not isinstance(event, Tuned) or event.number not in begun:
                continue
            if lacks_report(session_folder(self._night, event.number), event):
                session = Session(self._order(begun[event.number], NICENESS))
                self._last_checks.add(session, event)


def begun_of(events: Sequence[Event], log: Path) -> Begun:
    """Return what a night was begun with.

    Raises
    ------
    InputError
        If its log does not say so.
    """
    if not events or not isinstance(events[0], Begun):
        raise InputError(f"{log} does not say how the night began: begin another one")
    return events[0]

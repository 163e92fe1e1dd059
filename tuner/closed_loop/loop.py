"""The closed loop: what `rules` decides is done here."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

from tuner.closed_loop.events import (
    Alarmed,
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
from tuner.closed_loop.evidence import PLACE
from tuner.closed_loop.feed import (
    block_file,
    forget_blocks,
    list_of_blocks,
    open_frames,
    taken_before,
)
from tuner.closed_loop.retuning import NICENESS, LastChecks, Order, Session
from tuner.closed_loop.rules import CUSTOMARY, Rules, State, after, due, replayed
from tuner.closed_loop.searching import BlockSearch, session_folder
from tuner.recommendation import write_recommendation
from tuner.session.ownership import OWNER, owned
from wrappers.errors import InputError
from wrappers.frames.opening import Address, is_address
from wrappers.streams.protocols import GROWING, asked_frames, is_stream
from wrappers.streams.receiver import BUFFER

__all__ = ["LOG", "Loop", "begun_of"]

LOG = "night.jsonl"
HITS = re.compile(r"hits-\d{5,}\.cxi")
"""Names of our files of hits."""
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
        _require_folder_for_night(self._night)
        return []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(owned(self._night))
            goes_on = bool(self.events)
            if goes_on:
                read_events(self._log, mend=True)
            frames = stack.enter_context(
                open_frames(
                    *(self._source, Path(self.begun.geometry), self.state.next_frame, self._buffer),
                    goes_on=self.state.next_frame > 0,
                    taken=taken_before(self._night, self.state.next_block) if self._grows else (),
                )
            )
            # A night begins once its frames are there: what cannot be opened leaves nothing.
            self._take(Resumed() if goes_on else self.begun)
            for name in ("hits", "frames"):
                (self._night / name).mkdir(exist_ok=True)
            if goes_on:
                self._look_for_orphans()
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
    def failure(self) -> Tuned | None:
        """What became of the last session, where none of them has found a set."""
        ends = [event for event in self.events if isinstance(event, Tuned)]
        return ends[-1] if ends and self.state.used == CUSTOMARY else None

    @property
    def _grows(self) -> bool:
        return self.begun.source.startswith(f"{GROWING}://")

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
        self._decide()
        while not self._search.ended and not self._has_all:
            self._wait_for_session()
            patience = PATIENCE if idle is None else min(PATIENCE, idle)
            block = self._search.next(self.state, patience)
            if block is not None:
                if silent:
                    self._take(Noted(f"frames come again, after {time.monotonic() - last:.0f} s"))
                silent = False
                self._take(block)
                last = time.monotonic()
            elif not silent and time.monotonic() - last >= SILENCE:
                silent = True
                self._take(Noted(f"no frame has come for {SILENCE:g} s: no beam, or no sender"))
            self._decide()
            forget_blocks(self._night / "frames", self._kept_blocks())
            if self._stopped():
                break
            if block is None and idle is not None and time.monotonic() - last >= idle:
                self._end(f"no frame has come for {idle:g} s")
                return
            if self._session is not None:
                self._on_wait(f"tuning: {self._session.n_evaluations} evaluations")
        self._wait_for_session()
        if self._stopped():
            self._end("it was stopped")
        else:
            n = "all" if self._most is None else f"the {self._most} asked-for"
            self._end(f"{n} frames of the run are done")

    @property
    def _has_all(self) -> bool:
        return self._most is not None and self.state.next_frame >= self._most

    def _end(self, why: str) -> None:
        if not self.state.n_sessions:
            blocks = [event for event in self.events if isinstance(event, Block)]
            self._take(
                Noted(
                    f"no session was run: {sum(b.n_hits for b in blocks)} hits in "
                    f"{sum(b.n_frames for b in blocks)} frames, a session waits for "
                    f"{self._rules.n_first_hits} hits in {self._rules.n_tuning}"
                )
            )
        while self._last_checks.under_way and not self._stopped():
            self._on_wait("the last checks of a session, and its report")
            time.sleep(POLL)
        self._last_checks.close()
        self._remark()
        self._take(Ended(why))

    def _remark(self) -> None:
        for remark in self._last_checks.remarks():
            self._take(Noted(remark))

    def _wait_for_session(self) -> None:
        """Wait where frames wait, too."""
        while self._session is not None and self._search.waits and not self._stopped():
            self._session.wait(POLL)
            self._decide()

    def _ended(self) -> Tuned | None:
        """Return what became of the session; None while there is none, or it runs."""
        if self._session is None or (tuned := self._session.told()) is None:
            return None
        self._last_checks.add(self._session, tuned)
        self._session = None
        return tuned

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

    @property
    def _last_alarm(self) -> str:
        return next((e.rate for e in reversed(self.events) if isinstance(e, Alarmed)), "")

    def _start(self, tuning: Tuning) -> None:
        """Begin a session, or go on with it."""
        used = self.state.used
        folder, names = session_folder(self._night, tuning.number), self._night / "frames"
        data = folder.with_name(f"{folder.name}.lst")
        list_of_blocks(names, tuning.blocks, data)
        beside = not self._search.waits and used != CUSTOMARY
        self._session = Session(
            Order(
                number=tuning.number,
                data=str(data),
                geometry=str(block_file(names, tuning.blocks[0])) + ".geom",
                session=str(folder),
                outcome=str(folder.with_name(f"{folder.name}.json")),
                options=self.begun.tune,
                used=used,
                against=None if used == CUSTOMARY else str(session_folder(self._night, used)),
                jobs=self._jobs,
                niceness=NICENESS if beside else 0,
                memory=self._memory,
                of_place=self._last_alarm == PLACE,
            )
        )

    def _look_for_orphans(self) -> None:
        """Remove hits that were written, but not told, before a kill: their frames come again.

        Those of a stream do not, and stay.
        """
        told = {Path(event.hits).name for event in self.events if isinstance(event, Block)}
        for path in (self._night / "hits").glob("*.cxi"):
            if path.name in told or not HITS.fullmatch(path.name):
                continue
            if is_stream(self._source) and not self._grows:
                self._note(f"{path} was written before the program was killed: it is of no block")
            else:
                path.unlink()


def _require_folder_for_night(night: Path) -> None:
    """Refuse a folder that holds anything else: a night removes files of its own."""
    try:
        names = sorted(path.name for path in night.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(
            f"{night} cannot be the night's folder ({error.strerror}): name a new one"
        ) from error
    other = next((name for name in names if name != OWNER and not name.startswith(".")), None)
    if other is not None:
        raise InputError(
            f"{night} holds other files already, such as {other}: name a new folder for the night"
        )


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

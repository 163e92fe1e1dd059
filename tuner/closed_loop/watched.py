"""The re-tune that a watch of runs calls due, beside the watch.

It is the loop's: a session like the one in force, on the run that raised the alarm, whose set is
taken up where it is better on that run's frames. There is no proof on further frames.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tuner.closed_loop.events import Tuned
from tuner.closed_loop.retuning import NICENESS, LastChecks, Order, Session
from tuner.closed_loop.searching import session_folder
from tuner.closed_loop.words import in_words
from tuner.session.config import SessionConfig
from wrappers.errors import InputError
from wrappers.schema import read_json

__all__ = ["WatchedRetuning"]

OF_SESSION = re.compile(r"tuning-(\d+)(\.json|\.log)?")
"""Names of what a session leaves: its folder, its outcome, what it said."""


class WatchedRetuning:
    """Re-tunes beside a watch, one session at a time; close it in the end.

    A session that finds nothing better is the last one for its set: the rates are what they are.
    One that was stopped with an earlier watch is gone on with.

    Parameters
    ----------
    recommended : Path
        The session that the watch was begun with.
    geometry : Path
        Of the runs.
    out : Path
        Folder of the hits, where the sessions go, too.
    jobs : int
    say : callable
        Called with a sentence for people.

    Attributes
    ----------
    used : Path
        The session whose set is in force: of those in `out` the last that was better.

    Raises
    ------
    InputError
        If that is no session, which another one could be like.
    """

    def __init__(
        self,
        recommended: Path,
        geometry: Path,
        out: Path,
        *,
        jobs: int,
        say: Callable[[str], None],
    ) -> None:
        if not (recommended / "session.json").exists():
            raise InputError(
                f"--retune needs a session to begin others like it, and {recommended} is none: "
                "name the session's folder"
            )
        self._geometry, self._out, self._jobs, self._say = geometry, out, jobs, say
        self._session: Session | None = None
        self._last_checks = LastChecks()
        self._is_final = False
        self.used, self._number = recommended, 1
        for path in out.glob("tuning-*"):
            if (match := OF_SESSION.fullmatch(path.name)) is not None:
                self._number = max(self._number, int(match[1]))
        for path in sorted(out.glob("tuning-*.json"), key=lambda each: (len(each.name), each)):
            with suppress(InputError):
                tuned = read_json(path, Tuned, "the outcome of the session", "remove it")
                if tuned.outcome == "better":
                    self.used = session_folder(out, tuned.number)
        self._go_on()

    def _go_on(self) -> None:
        """Go on with the last session, if it was begun and nobody knows what became of it."""
        session = session_folder(self._out, self._number)
        if not (session / "session.json").exists() or session.with_suffix(".json").exists():
            return
        try:
            begun = SessionConfig.read(session / "session.json")
        except InputError as error:
            self._say(f"{session}, which was stopped, cannot be gone on with: {error}")
            return
        self._say(f"going on with the re-tune that was stopped: {session}")
        self._begin(begun.data, begun.geometry)

    def _begin(self, data: str, geometry: str) -> None:
        session = session_folder(self._out, self._number)
        self._session = Session(
            Order(
                number=self._number,
                data=data,
                geometry=geometry,
                session=str(session),
                outcome=f"{session}.json",
                options=(),
                used=self._number - 1,
                against=str(self.used),
                jobs=self._jobs,
                niceness=NICENESS,
            )
        )

    def step(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Take up what has come, of the watch's runs and of the session."""
        for remark in self._last_checks.remarks():
            self._say(remark)
        if self._session is not None and (tuned := self._session.told()) is not None:
            self._last_checks.add(self._session, tuned)
            self._session = None
            self._say(in_words(tuned, is_proved=False))
            if tuned.outcome == "better":
                self.used = session_folder(self._out, tuned.number)
            self._is_final = tuned.outcome == "no better"
        alarmed = [line["file"] for line in lines if line["alarms"]]
        if alarmed and self._session is None and not self._is_final:
            self._number += 1
            self._say(f"re-tuning on {alarmed[-1]}: {session_folder(self._out, self._number)}")
            self._begin(str(alarmed[-1]), str(self._geometry))

    @property
    def under_way(self) -> bool:
        """Whether a session runs."""
        return self._session is not None

    def close(self) -> None:
        """End the session, if there is one."""
        if self._session is not None:
            self._session.close()
        self._last_checks.close()

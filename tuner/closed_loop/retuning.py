"""Tuning sessions of a night, each in a process of its own beside the reduction."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tuner.closed_loop.events import Pairs, Tuned
from tuner.closed_loop.evidence import chance_of_gain
from wrappers.errors import ContradictedError, NothingFoundError
from wrappers.files import write_whole
from wrappers.schema import read_json, read_json_text

__all__ = ["LastChecks", "Order", "Session", "lacks_report", "main"]

NICENESS = 10
"""Of a session beside a running reduction."""
BETTER = 0.05
"""Of the sign test on the session's frames. A set that is no better passes oftener than that, as it
was chosen on them: the best of 8 equal sets in one session of 6, of 20 in two of 5. It is a hurdle,
so that few of them come into force; the error rate is that of the proof on fresh frames."""
COMPARED = 200
"""Frames, at most, that are indexed with both sets where the session has not measured both on half
as many."""
VAIN = ("nothing", "failed")
"""Outcomes of sessions that have no set, and no last checks."""
REPORT = "report.html"
"""What a session writes last."""
LAST_WORDS = 4000
"""Bytes at the end of what a session has said."""
PATIENCE = 60.0
"""Seconds that an earlier process of the session may take to end."""


@dataclass(frozen=True)
class Order:
    """What a session's process is to do.

    Attributes
    ----------
    number : int
    data, geometry, session, outcome : str
        Files: the frames, their geometry, the session's folder, and where the outcome goes.
    options : tuple of str
        Further options of ``tune``.
    used : int
        Number of the set in force.
    against : str or None
        The session of that set; None where it is the customary one.
    jobs : int
    niceness : int
    memory : int or None
        Bytes; None leaves them to ``tune``.
    of_place : bool
        Whether the lattices put the detector elsewhere than the set in force when it fell due.
    """

    number: int
    data: str
    geometry: str
    session: str
    outcome: str
    options: tuple[str, ...]
    used: int
    against: str | None
    jobs: int
    niceness: int
    memory: int | None = None
    of_place: bool = False

    def arguments(self) -> list[str]:
        """Return the words behind ``sfx-tuner``."""
        how = ["--jobs", str(self.jobs)]
        if self.memory is not None:
            how += ["--memory", f"{self.memory // 1000}KB"]
        if (Path(self.session) / "session.json").exists():
            return ["tune", "--resume", self.session, *how]
        begin = ["tune", self.data, "-g", self.geometry, "-o", self.session, *how]
        if self.against is not None:
            return [*begin, "--from", self.against]
        return [*begin, *self.options]


class Session:
    """A session that runs in a process of its own, which ends when this one does.

    It is known what became of it before it has ended: the checks of the cell and the report, which
    no set waits for, come last.

    Parameters
    ----------
    order : Order
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self._log = Path(f"{order.session}.log")
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                # Without -P a folder that the user happens to be in could be imported from.
                [sys.executable, "-P", "-m", __name__, json.dumps(asdict(order))],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the loop to answer
            )

    def close(self) -> None:
        """End the process, which can be gone on with."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @property
    def n_evaluations(self) -> int:
        """How far the session has come."""
        path = Path(self.order.session) / "evaluations.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, or for so long."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def told(self) -> Tuned | None:
        """Return what became of the session; None while nobody knows.

        Raises
        ------
        InputError
            If its outcome cannot be read or written.
        """
        code = self._process.poll()
        order, path = self.order, Path(self.order.outcome)
        if path.exists():
            return read_json(path, Tuned, "the outcome of the session", "remove it, and --resume")
        if code is None:
            return None
        self.close()
        why = self._last_words()
        if code == NothingFoundError.exit_code:
            tuned = Tuned(order.number, "nothing", why)
        else:
            tuned = Tuned(order.number, "failed", f"{why} ({self._log} says more)")
        write_whole(path, json.dumps(asdict(tuned)))
        return tuned

    @property
    def is_over(self) -> bool:
        """Whether its process has ended."""
        return self._process.poll() is not None

    @property
    def remark(self) -> str:
        """What the last checks found that people should know, once it is over; "" for nothing."""
        code, name = self._process.poll(), Path(self.order.session).name
        if code == 0:
            return ""
        if code == ContradictedError.exit_code:
            return f"the frames of {name} contradict the cell: {self._last_words()}"
        return (
            f"{name} ended before its last checks and its report were done: "
            f"sfx-tuner tune --resume {self.order.session} does them"
        )

    def _last_words(self) -> str:
        with open(self._log, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_WORDS))
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].removeprefix("sfx-tuner: ") if lines else "it said nothing"


def lacks_report(session: Path, tuned: Tuned) -> bool:
    """Return whether a session that has a set was ended before its last checks were done."""
    known = (session / "session.json").exists() and tuned.outcome not in VAIN
    return known and not (session / REPORT).exists()


class LastChecks:
    """Sessions that have told what became of them, and still run; close it in the end."""

    def __init__(self) -> None:
        self._sessions: list[Session] = []

    def add(self, session: Session, tuned: Tuned) -> None:
        """Let a session go on by itself."""
        if tuned.outcome in VAIN:
            session.close()
        else:
            self._sessions.append(session)

    def remarks(self) -> list[str]:
        """Let go of the sessions that are over; return what there is to say of them."""
        over = [session for session in self._sessions if session.is_over]
        self._sessions = [session for session in self._sessions if session not in over]
        return [session.remark for session in over if session.remark]

    @property
    def under_way(self) -> bool:
        """Whether any still runs."""
        return not all(session.is_over for session in self._sessions)

    def close(self) -> None:
        """End them."""
        for session in self._sessions:
            session.close()


def main() -> None:
    """Run a session, hold its set against the one in force, and write what became of it."""
    order = read_json_text(sys.argv[1], Order, "the order", "this is a fault of the program")
    threading.Thread(target=_end_with_the_loop, daemon=True).start()
    os.nice(order.niceness)
    _wait_for_earlier(Path(order.session))

    def tell() -> None:
        if not Path(order.outcome).exists():
            write_whole(Path(order.outcome), json.dumps(asdict(_outcome(order))))
        os.nice(max(0, NICENESS - order.niceness))  # nobody waits for the rest

    from tuner.cli import main as command_line

    sys.argv = ["sfx-tuner", *order.arguments()]
    command_line(tell)


def _outcome(order: Order) -> Tuned:
    """Say whether the session's set is better than the one in force, on the session's frames."""
    from tuner.apply.applying import rate_intervals
    from tuner.closed_loop.measuring import (
        NightSet,
        compared,
        differ_in_place,
        indexed_frames,
        measured_frames,
    )
    from tuner.recommendation import settings_digest
    from wrappers.detector.geometry import Geometry
    from wrappers.frames.opening import open_source
    from wrappers.frames.sampling import sample_frames

    new = NightSet.read(order.number, Path(order.session))
    assert new.recommendation is not None
    intervals = rate_intervals(new.recommendation)
    if order.against is None:
        return Tuned(order.number, "first", intervals=intervals)
    old = NightSet.read(order.used, Path(order.against))
    with open_source(order.data, Geometry.read(Path(order.geometry))) as run:
        sets = [each.of(run).settings for each in (old, new)]
        if settings_digest(sets[0]) == settings_digest(sets[1]):
            return Tuned(order.number, "no better", "the session recommends the set in force")
        has_moved = order.of_place and differ_in_place(sets[0], sets[1], run)
        # The set in force is the session's start, and both were measured: it is known already.
        frames, (before, now) = measured_frames(Path(order.session), sets)
        if 2 * len(frames) < min(COMPARED, len(run)):
            chosen, _ = sample_frames(run, COMPARED, seed=order.number)
            frames = frozenset(chosen)
            before, now = indexed_frames(run, [old, new], chosen, jobs=order.jobs)
    pairs = compared(before, now, len(frames))
    words = (
        f"of {pairs.n} frames since the alarm {len(now)} index with the new set, {len(before)} "
        "with the one in force"
    )
    if chance_of_gain(pairs) <= BETTER:
        return Tuned(order.number, "better", words, pairs, intervals)
    is_worse = chance_of_gain(Pairs(pairs.n, pairs.old_only, pairs.new_only)) <= BETTER
    if has_moved and not is_worse:
        why = f"it has the detector where the lattices put it, and {words}"
        return Tuned(order.number, "moved", why, pairs, intervals)
    return Tuned(order.number, "no better", words, pairs)


def _wait_for_earlier(session: Path) -> None:
    """Wait for a process that a killed loop has left, and that is ending."""
    from tuner.session.ownership import is_owned

    ends = time.monotonic() + PATIENCE
    while is_owned(session) and time.monotonic() < ends:
        time.sleep(0.2)


def _end_with_the_loop() -> None:
    """End when the loop's end of the pipe is closed, however it ended: the session can resume."""
    # Not by way of sys.stdin, whose lock would be held as Python ends.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()

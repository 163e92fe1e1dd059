"""The report of a running session in a browser of this machine."""

from __future__ import annotations

import json
import math
import multiprocessing
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from markupsafe import Markup

from tuner.display.local_server import LocalHandler, LocalServer, script_policy
from tuner.display.progress import Progress
from tuner.report.page import render, script
from wrappers.errors import InputError
from wrappers.processes import serve_parent

if TYPE_CHECKING:
    from tuner.session.store import SessionStore

__all__ = ["LOOK", "POLICY", "Dashboard", "PageServer", "renewed_page"]

LINGER = 5.0
"""Seconds, at most, that the end waits for a page that is being looked at to take the report."""

LOOK = 2.0
"""Seconds between two looks of a page."""

REST = 2.0
"""How much longer than a drawing took is waited before the next: the session needs the cores."""

SCRIPT = script("dashboard.js")

FINAL = '"over"'
"""Tag of the last state."""

POLICY = script_policy(SCRIPT)


class Dashboard:
    """Serves the report of a running session on 127.0.0.1; used as a context manager.

    The page asks every two seconds how far the session has come and whether there is something
    new, and then takes it over where it is scrolled to. It is drawn when it is asked for and
    something is new, a third of the time at most, by a process of its own. In the end a page that
    is open gets the session's report. Only this page and its line can be asked for,
    and nothing be changed by it.

    Parameters
    ----------
    directory : Path
        Of the session, which need not be there yet.
    port : int
        0 takes a free one.
    progress : Progress, optional
        Of the session.

    Attributes
    ----------
    address : str
        Where a browser finds it.

    Raises
    ------
    InputError
        If the port cannot be had.
    """

    def __init__(self, directory: Path, port: int = 0, progress: Progress | None = None) -> None:
        self._directory, self._progress = directory, progress
        self._store: SessionStore | None = None  # what is new
        self._drawn = _nothing_yet(directory)
        self._drawing: Future[tuple[str, bytes]] | None = None
        self._begun = self._rested = 0.0
        self._asked = -math.inf
        self._taken = threading.Event()
        self._lock = threading.Lock()
        # A process of its own: the session does not share Python's one lock with it.
        self._draughtsman = ProcessPoolExecutor(
            1, multiprocessing.get_context("forkserver"), serve_parent
        )
        self._server = PageServer(self, port)
        self.address = self._server.address

    def __enter__(self) -> Self:
        self._server.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._hand_over()
        self._server.end()
        self._draughtsman.shutdown(cancel_futures=True)

    def _hand_over(self) -> None:
        """Let a page that is open take the report that the session has written."""
        report = self._directory / "report.html"
        if time.monotonic() - self._asked > 2 * LOOK or not report.exists():
            return
        with self._lock:
            self._drawn = _final(report)
            self._drawing, self._store = None, None
        self._taken.wait(LINGER)

    def update(self) -> None:
        """Take up what the session has measured; called by the thread that writes it."""
        from tuner.session.store import SessionStore

        store = SessionStore.open(self._directory)
        with self._lock:
            self._store = store

    def page(self) -> tuple[str, bytes]:
        """Return a tag that tells one state from others, and the page as it was last drawn.

        Where something is new, a drawing is begun that later calls return.
        """
        with self._lock:
            self._asked = time.monotonic()
            if self._drawing is not None and self._drawing.done():
                done, self._drawing = self._drawing, None
                self._rested = time.monotonic() + REST * (time.monotonic() - self._begun)
                self._drawn = done.result()
            rested = self._drawing is None and time.monotonic() > self._rested
            if self._store is not None and rested:
                store, self._store = self._store, None
                self._begun = time.monotonic()
                self._drawing = self._draughtsman.submit(_draw, store, self._directory)
            return self._drawn

    def status(self) -> bytes:
        """Return what is under way, as JSON: a line of words, and the share of the budget spent."""
        progress = self._progress
        if progress is None:
            return json.dumps({}).encode()
        share = min(progress.share, 1.0)
        return json.dumps({"line": progress.line, "spent": round(share, 4)}).encode()

    def given(self, tag: str) -> None:
        """Note that a page has been given the state of a tag."""
        if tag == FINAL:
            self._taken.set()


def _final(report: Path) -> tuple[str, bytes]:
    text = report.read_text()
    main = Markup(text[text.index("<main>") : text.index("</main>") + len("</main>")])
    line = f"The session has ended: this is its report, {report.absolute()}."
    return _whole(FINAL, report.parent.name, line, main, report.parent)


def _nothing_yet(directory: Path) -> tuple[str, bytes]:
    line = "The first evaluation is under way, or being drawn."
    return _whole('"0"', "sfx-tuner", line, None, directory)


def _draw(store: SessionStore, directory: Path) -> tuple[str, bytes]:
    # The draughtsman's: it takes a second to import.
    from tuner.report import render_body, title_of

    n = len(store.trials)
    line = f"Running: {n} evaluation{'s' * (n != 1)} so far. This page renews itself."
    return _whole(
        f'"{n}"', title_of(store), line, render_body(store, None, frames=False), directory
    )


def _whole(
    tag: str, title: str, line: str, main: Markup | None, directory: Path
) -> tuple[str, bytes]:
    """Return the tag of a state, and the page that shows it."""
    end = (
        "The session has ended, or was stopped: this is what it last showed. When it ends, its "
        f"report is {directory.absolute() / 'report.html'}."
    )
    return tag, renewed_page(tag, title, line, main, end, over=tag == FINAL)


def renewed_page(
    tag: str, title: str, line: str, main: Markup | None, end: str, *, over: bool = False
) -> bytes:
    """Return a page that takes over what is new, as long as it is served.

    Parameters
    ----------
    tag : str
        Of the state that it shows, in double quotes.
    title, line : str
        The line says what is under way.
    main : Markup or None
        None where there is nothing to show yet.
    end : str
        What stands instead of the line when nothing is served any more.
    over : bool
        Whether nothing new will come.
    """
    page = render(
        "dashboard.html.j2",
        title=title,
        policy=POLICY,
        tag=tag,
        pause=round(1000 * LOOK),
        end=end,
        over=over,
        line=line,
        main=main,
        script=SCRIPT,
    )
    return page.encode()


class Renewed(Protocol):
    """What a page that renews itself is about."""

    def page(self) -> tuple[str, bytes]:
        """Return a tag that tells one state from others, and its page."""

    def status(self) -> bytes:
        """Return what is under way, as JSON: ``line``, and ``spent`` of 1; or nothing."""

    def given(self, tag: str) -> None:
        """Note that a page has been given the state of a tag."""


class PageServer(LocalServer):
    """Serves a page that renews itself, and its line; nothing can be changed by it.

    Parameters
    ----------
    about : Renewed
    port : int
        0 takes a free one.

    Raises
    ------
    InputError
        If the port cannot be had.
    """

    def __init__(self, about: Renewed, port: int) -> None:
        self.about = about
        try:
            super().__init__(port, _Handler)
        except OSError as error:
            raise InputError(
                f"--dashboard cannot have port {port} ({error.strerror}): name another, or none"
            ) from error
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)

    def begin(self) -> None:
        """Answer from here on, in a thread."""
        self._thread.start()

    def end(self) -> None:
        """Answer no more."""
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(LocalHandler):
    server: PageServer
    policy = POLICY

    def get(self, path: str) -> None:
        if path == "/status":
            self.send(200, "application/json", self.server.about.status())
        elif path == "/":
            self._answer()
        else:
            self.send_error(404)

    def _answer(self) -> None:
        try:
            tag, content = self.server.about.page()
        except Exception as error:  # the session must not suffer
            self.send_error(500, f"The report cannot be drawn: {type(error).__name__}")
            return
        if self.headers.get("If-None-Match") == tag:
            self.send(304, tag=tag)
        else:
            self.send(200, "text/html; charset=utf-8", content, tag)
            self.server.about.given(tag)

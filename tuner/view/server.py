"""The page of `sfx-tuner view`, for a browser of this machine."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tuner.display.local_server import LocalHandler, LocalServer, script_policy
from tuner.recommendation import Recommendation, write_recommendation
from tuner.report.page import render, script
from tuner.view.sight import Sight
from wrappers.errors import InputError, ProgramError
from wrappers.files import is_of_the_disk

__all__ = ["ViewServer"]

SCRIPT = script("view.js")
POLICY = script_policy(SCRIPT)

LONGEST = 1 << 14
"""Bytes of a question."""


class ViewServer:
    """Serves a page that moves settings over a sample; used as a context manager.

    Only the page that it has given itself can ask, by a secret that stands in it: nothing else in
    the browser can have a set written.

    Parameters
    ----------
    sight : Sight
    title : str
    output : Path
        Where "use these" writes the set; an earlier one is replaced.
    port : int
        0 takes a free one.

    Attributes
    ----------
    address : str

    Raises
    ------
    InputError
        If the port cannot be had.
    """

    def __init__(self, sight: Sight, title: str, output: Path, port: int = 0) -> None:
        self.sight, self.title, self.output = sight, title, output
        self.secret = secrets.token_urlsafe(16)
        try:
            self._server = _Server(self, port)
        except OSError as error:
            raise InputError(
                f"port {port} cannot be had ({error.strerror}): name another with --port, or none"
            ) from error
        self.address = self._server.address
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._server.serve_forever, daemon=True),
            threading.Thread(target=sight.prepare, args=(self._ended.is_set,), daemon=True),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def wait(self) -> None:
        """Serve until Ctrl-C."""
        self._ended.wait()

    def page(self) -> bytes:
        """Return the page."""
        page = render(
            "view.html.j2",
            title=f"sfx-tuner view: {self.title}",
            policy=POLICY,
            script=SCRIPT,
            given=json.dumps({**self.sight.describe(), "secret": self.secret}),
        )
        return page.encode()

    def answer(self, path: str, question: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer to a question of the page; None where there is no such question.

        Raises
        ------
        InputError
            If the question makes no sense.
        """
        if path == "/picture":
            content, facts = self.sight.picture(self._place(question))
            return {**facts, "png": base64.b64encode(content).decode()}
        settings = self.sight.settings(question.get("settings", {}))
        if path == "/peaks":
            return self.sight.peaks(self._place(question), settings)
        if path == "/effect":
            return self.sight.effect(settings)
        if path == "/use":
            chosen = Recommendation(
                settings,
                {},
                {
                    "chosen": "by eye, in sfx-tuner view",
                    "geometry_clen": self.sight.nominal_clen,
                },
            )
            write_recommendation(chosen, self.output)
            return {"said": f"written: {self.output}; sfx-tuner tune … --start {self.output}"}
        return None

    def _place(self, question: dict[str, Any]) -> int:
        place = question.get("frame")
        if type(place) is not int or not 0 <= place < len(self.sight.frames):
            raise InputError("there is no such frame in the sample")
        return place


class _Server(LocalServer):
    def __init__(self, view: ViewServer, port: int) -> None:
        self.view = view
        super().__init__(port, _Handler)


class _Handler(LocalHandler):
    server: _Server
    policy = POLICY

    def get(self, path: str) -> None:
        if path == "/":
            self.send(200, "text/html; charset=utf-8", self.server.view.page())
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        """Answer the page's questions."""
        view = self.server.view
        given = self.headers.get("X-Secret", "")
        if not self.is_from_here() or not secrets.compare_digest(
            given.encode("utf-8", "surrogateescape"), view.secret.encode()
        ):
            self.refuse_foreign()
            return
        code = 200
        try:
            answer = view.answer(self.path, self._question())
        except InputError as error:
            code, answer = 400, {"error": str(error)}
        except ProgramError as error:
            code, answer = 500, {"error": str(error)}
        except OSError as error:
            if not is_of_the_disk(error):
                raise
            code, answer = 500, {"error": f"the disk: {error.strerror}"}
        if answer is None:
            self.send_error(404)
        else:
            self.send(code, "application/json", json.dumps(answer).encode())

    def _question(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LONGEST:
            raise InputError("the question is too long")
        try:
            question = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise InputError("the question is no JSON") from None
        if not isinstance(question, dict):
            raise InputError("the question is no JSON object")
        return question

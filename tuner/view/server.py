"""The page of `sfx-tuner view`, for a browser of this machine."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from tuner.display.local_server import LocalHandler, LocalServer, script_policy
from tuner.recommendation import Recommendation, write_recommendation
from tuner.report.page import render, script
from tuner.view.sight import Sight
from wrappers.errors import InputError, ProgramError
from wrappers.files import is_of_the_disk

__all__ = ["ViewServer"]

SCRIPT = script("view.js")
POLICY = script_policy(SCRIPT)

KEY = "key"

LONGEST = 1 << 14
"""Bytes of a question."""


class ViewServer:
    """Serves a page that moves settings over a sample; used as a context manager.

    The page is given to whoever names the secret that is in its address, once: from then on the
    browser knows it by a cookie, so that it stands in no list of processes or of pages visited.
    Only the page that was given can ask, by the same secret: neither other users of the machine nor
    other pages in the browser can have a set written.

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
        With the secret.

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
        self.address = f"{self._server.address}?{KEY}={self.secret}"
        self.cookie = f"sfx-tuner-{self._server.server_port}"
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


def _is(secret: str, given: str | None) -> bool:
    return secrets.compare_digest((given or "").encode("utf-8", "surrogateescape"), secret.encode())


class _Server(LocalServer):
    def __init__(self, view: ViewServer, port: int) -> None:
        self.view = view
        super().__init__(port, _Handler)


class _Handler(LocalHandler):
    server: _Server
    policy = POLICY

    def get(self, path: str) -> None:
        view = self.server.view
        place = urlsplit(path)
        if place.path != "/":
            self.send_error(404)
        elif _is(view.secret, dict(parse_qsl(place.query)).get(KEY)):
            self.send_response(303)
            self.send_header(
                "Set-Cookie", f"{view.cookie}={view.secret}; Path=/; HttpOnly; SameSite=Strict"
            )
            self.send_header("Location", "/")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif _is(view.secret, self._cookie(view.cookie)):
            self.send(200, "text/html; charset=utf-8", view.page())
        else:
            self.send_error(403, "Open the whole address that sfx-tuner view has printed")

    def _cookie(self, name: str) -> str | None:
        with suppress(CookieError):
            found = SimpleCookie(self.headers.get("Cookie", "")).get(name)
            return None if found is None else found.value
        return None

    def do_POST(self) -> None:
        """Answer the page's questions."""
        view = self.server.view
        if not self.is_from_here() or not _is(view.secret, self.headers.get("X-Secret")):
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

"""Pages for browsers of this machine alone."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

__all__ = ["LocalHandler", "LocalServer", "script_policy"]

HOSTS = ("127.0.0.1", "localhost", "::1")
"""Names under which a page may ask: others are a foreign site's that was pointed here. The port
may be another one, that of a tunnel."""


def script_policy(script: str) -> str:
    """Return what a page may load that runs one script: that, and answers of where it came from."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
        f"script-src 'sha256-{digest}'"
    )


class LocalServer(ThreadingHTTPServer):
    """Listens on 127.0.0.1; what it serves is the handler's."""

    daemon_threads = True

    def __init__(self, port: int, handler: type[LocalHandler]) -> None:
        super().__init__(("127.0.0.1", port), handler)

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep a browser that goes away from writing over the terminal."""


class LocalHandler(BaseHTTPRequestHandler):
    """Answers what comes from this machine's own pages, and says no to all else.

    Attributes
    ----------
    policy : str
        What the pages may load; a browser enforces it.
    """

    policy = "default-src 'none'"
    server_version = "sfx-tuner"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        """Answer, or refuse a foreign site."""
        if self.is_from_here():
            self.get(self.path)
        else:
            self.refuse_foreign()

    def _refuse(self) -> None:
        self.send_error(405)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse

    def get(self, path: str) -> None:
        """Answer a page's question; for those who make use of this."""
        self.send_error(404)

    def is_from_here(self) -> bool:
        """Whether the browser asks for a name of this machine."""
        with contextlib.suppress(ValueError):
            return urlsplit(f"//{self.headers.get('Host', '')}").hostname in HOSTS
        return False

    def refuse_foreign(self) -> None:
        """Say under which names there is something."""
        self.send_error(403, "Ask for this page as 127.0.0.1 or localhost")

    def send(self, code: int, kind: str = "", content: bytes = b"", tag: str = "") -> None:
        """Send an answer of a type, with a tag for what it is the state of."""
        self.send_response(code)
        if tag:
            self.send_header("ETag", tag)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", f"{self.policy}; frame-ancestors 'none'")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("X-Content-Type-Options", "nosniff")
        if kind:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal shows other things."""

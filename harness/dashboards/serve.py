"""Serving optuna-dashboard on one sweep, for reading alone."""

import json
import socketserver
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from harness.dashboards.study_view import REFUSED, ShownStudy
from harness.records.errors import UserError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

READING = ("GET", "HEAD")
MISSING = "needs the Python package {}, which is not installed; install unet-harness[dashboard]"


class ThreadingServer(socketserver.ThreadingMixIn, WSGIServer):
    """A browser keeps connections open, and would keep others out."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """No line a request."""


def application(folder: Path, name: str, published: Sequence[Path] = ()) -> "WSGIApplication":
    """optuna-dashboard on the sweep in this folder. UserError where there is no study, or no optuna-dashboard."""
    try:
        from optuna_dashboard import wsgi
    except ImportError as error:
        raise UserError(f"`harness dashboard` {MISSING.format('optuna-dashboard')}") from error
    shown = ShownStudy(folder, name, published)
    return only_reading(wsgi(shown, artifact_store=shown))  # it is both


def only_reading(app: "WSGIApplication") -> "WSGIApplication":
    """The application with every request that would change something refused, as its own pages show refusals."""

    def answer(environ: dict[str, Any], start: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in READING:
            return app(environ, start)
        start("403 Forbidden", [("Content-Type", "application/json")])
        return [json.dumps({"reason": REFUSED}).encode()]

    return answer


def serve(app: "WSGIApplication", host: str, port: int, ready: Callable[[str], None]) -> None:
    """Until Ctrl-C; `ready` is told the address. Port 0 is any free one. UserError where it cannot listen there."""
    try:
        server = make_server(host, port, app, server_class=ThreadingServer, handler_class=Quiet)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another with --port, or --port 0 for "
            "any free one"
        ) from error
    with server:
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{server.server_port}/dashboard")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return

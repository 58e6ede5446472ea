"""As much of W&B's server as `wandb sync` talks to: it has the rows of one run, and tells them to who asks to resume.

Of who does not ask, a folder's rows replace those of the run, as W&B's users report (issues 3841 and 5865 of
github.com/wandb/wandb): its upload begins at row 0. Lines are written from the row on that comes with them.
"""

import contextlib
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HISTORY = "wandb-history.jsonl"


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lines: dict[int, str] = {}
        self.exists = False
        self.asked: list[dict[str, Any]] = []  # each GraphQL request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(self.lines[number]) for number in sorted(self.lines)]

    def answer(self, operation: str) -> dict[str, Any]:
        """To a GraphQL query."""
        if operation == "UpsertBucket":
            self.exists = True
        project = {"id": "p", "name": "unet-harness", "entity": {"id": "e", "name": "me"}}
        tail = [self.lines[number] for number in sorted(self.lines)[-1:]]
        run = {
            "id": "r", "name": "run", "displayName": "run", "description": "", "config": "{}", "sweepName": None,
            "tags": [], "notes": None, "storageId": "r", "wandbConfig": json.dumps({"t": 1}), "project": project,
            "historyLineCount": len(self.lines), "eventsLineCount": 0, "logLineCount": 0, "eventsTail": "[]",
            "historyTail": json.dumps(tail), "summaryMetrics": tail[0] if tail else "{}",
        }  # fmt: skip
        user = {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}, "admin": False}
        return {
            "viewer": {**user, "email": "me", "name": "me"},
            "serverInfo": {"features": [], "cliVersionInfo": {}, "latestLocalVersionInfo": None},
            "upsertBucket": {"bucket": {**run, "historyLineCount": 0}, "inserted": True},  # else it would append
            "model": {"bucket": run if self.exists else None},
            # as of one that it has already, so that no file of it is sent
            "createArtifact": {
                "artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": {"id": "s", "latestArtifact": None}}
            },
            "createRunFiles": {"runID": "r", "uploadHeaders": [], "files": []},
        }


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.say({})

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("content-encoding") == "gzip":
            content = gzip.decompress(content)
        if self.path.endswith("/graphql"):
            self.server.asked.append(json.loads(content))
            self.say({"data": self.server.answer(self.server.asked[-1]["operationName"])})
        elif self.path.endswith("/file_stream"):
            history = json.loads(content).get("files", {}).get(HISTORY, {"offset": 0, "content": []})
            if history["content"] and history["offset"] == 0:
                self.server.lines.clear()
            self.server.lines |= dict(enumerate(history["content"], start=history["offset"]))
            self.say({"limits": {}})
        else:
            self.say({})

    def say(self, answer: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()

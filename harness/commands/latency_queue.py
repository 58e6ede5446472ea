"""`harness latency queue FOLDER`: requests, their answers, and what keeps them waiting."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.verb import Verb
from harness.records.errors import UserError
from harness.records.quantity import Failed
from harness.records.terminal import table

if TYPE_CHECKING:
    from harness.device.queue import Entry, FolderQueue


def run(arguments: argparse.Namespace) -> int:
    from harness.device.queue import FolderQueue

    if arguments.overrides:
        raise UserError(f"`harness latency queue` takes no settings ('{arguments.overrides[0]}'), only the folder")
    queue = FolderQueue(Path(arguments.name))
    rows = [(entry.request.id, entry.request.name, entry.state, entry.request.chip or "any",
             entry.request.submitted[:16], _answer(queue, entry)) for entry in queue.entries()]  # fmt: skip
    print(table(("request", "name", "state", "chip", "submitted (UTC)", "answer or trouble"), rows))
    for message in queue.agent_messages():
        print(message)
    return 0


VERB = Verb(
    summary="list a queue folder's requests, their answers and what keeps them waiting",
    name="the queue folder",
    operands="FOLDER",
    example="harness latency queue ~/queue",
    run=run,
)


def _answer(queue: FolderQueue, entry: Entry) -> str:
    if entry.state != "answered":
        return entry.request.errors[-1] if entry.request.errors else ""
    quantity = queue.answer(entry.request.id)
    if quantity is None:
        return "its result was removed"
    return quantity.message if isinstance(quantity, Failed) else f"{quantity.value:.2f} {quantity.unit}"

"""Latencies that come later: what was asked for is remembered in the store, and filled in once it is answered.

The export that a request needs is dear, so the store keeps which request stands for which architecture, latent,
settings and versions; asking for the answer exports nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from harness.device.queue import FolderQueue
from harness.latency.queued import QueuedBackend
from harness.records.errors import UserError
from harness.records.quantity import Failed, Measured, Quantity, Unavailable
from harness.records.record import Measurement, measurement_key
from harness.records.store import Store
from harness.trials.twins import conditions_of_twin, under

REQUEST = "latency_request"
"""The subject of a remembered request; its settings are those of the latency that it asks for."""


def ask(
    store: Store,
    backend: QueuedBackend,
    settings: Mapping[str, Any],
    made: Callable[[], tuple[nn.Module, Sequence[Any]]],
) -> Quantity:
    """The answer, or Unavailable while it waits; submits the request unless the queue has it. Never waits.

    `made` builds the module and its inputs, and is called only where they must be exported.
    """
    if (obstacle := backend.obstacle()) is not None or backend.queue is None:
        return obstacle or Unavailable(reason="needs a queue")
    remembered = store.measurement(measurement_key(REQUEST, settings))
    if remembered is not None and (found := backend.collect(remembered.provenance["request"])) is not None:
        return found
    request = backend.submit(*made())
    if not isinstance(request, str):
        return request
    found = backend.collect(request) or Unavailable(reason=f"request {request} was removed from the queue")
    where = {"request": request, "queue": str(backend.queue.expanduser().absolute())}
    waits = Unavailable(reason="asked for in a queue", awaits=request)
    store.put(Measurement(subject=REQUEST, settings=settings, quantities={backend.quantity: waits}, provenance=where))
    return found


def collect(store: Store) -> int:
    """Fill the answers that arrived since into the store's records; how many numbers. A queue out of reach gives none.

    An answer becomes a measurement of its own too, so that a later trial of the same architecture has it.
    """
    asked = {found.provenance["request"]: found for found in store.measurements() if found.subject == REQUEST}
    if not asked:
        return 0
    answers = {request: answer for request, ticket in asked.items() if (answer := _answer(ticket)) is not None}
    for request, quantity in answers.items():
        ticket = asked[request]
        (name,) = ticket.quantities
        store.put(replace(ticket, subject="latency", quantities={name: quantity}))
    filled = 0
    for record in list(store.trials()):
        arrived = {
            name: under(answers[quantity.awaits], conditions_of_twin(name, record.quantities))
            for name, quantity in record.quantities.items()
            if isinstance(quantity, Unavailable) and quantity.awaits in answers
        }
        if arrived:
            store.put(replace(record, quantities={**record.quantities, **arrived}))
            filled += len(arrived)
    return filled


def _answer(ticket: Measurement) -> Measured | Failed | None:
    try:
        return FolderQueue(Path(ticket.provenance["queue"])).answer(ticket.provenance["request"])
    except (UserError, OSError):
        return None

"""Schedules of trials on equal workers, to hold the driver's own against."""

import heapq
from collections.abc import Sequence
from itertools import accumulate

from .cluster import BEGINNING, Span


def greedy_makespan(durations: Sequence[float], workers: int) -> float:
    """List scheduling: each trial, in this order, to the worker that is free first, in no time."""
    free = [0.0] * min(workers, len(durations))
    for seconds in durations:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free, default=0.0)


def batch_makespan(durations: Sequence[float], workers: int) -> float:
    """A driver that asks for as many as there are workers, and waits for the slowest of them."""
    return sum(max(durations[at : at + workers]) for at in range(0, len(durations), workers))


def makespan(spans: Sequence[Span]) -> float:
    """From the beginning of the world to the last end."""
    return max(span.end for span in spans) - BEGINNING


def utilisation(spans: Sequence[Span], workers: int) -> float:
    """Busy worker-time between the first fill and the last submission."""
    full, last = first_fill(spans), max(span.start for span in spans)
    busy = sum(max(0.0, min(span.end, last) - max(span.start, full)) for span in spans)
    return busy / (workers * (last - full))


def first_fill(spans: Sequence[Span]) -> float:
    """When as many trials run as ever at once, for the first time: on every worker, unless the driver is too slow."""
    changes = sorted([(span.start, 1) for span in spans] + [(span.end, -1) for span in spans])
    running = list(accumulate(change for _, change in changes))
    return changes[running.index(max(running))][0]

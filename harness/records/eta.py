"""How far a long work of many like parts is, and when it will end: a bar in a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from harness.records.terminal import console as console_of

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

LINE_EVERY_S = 10.0  # seconds between plain lines; what is done sooner says nothing


def with_eta(parts: Iterable[T], what: str, total: int, *, console: "Console | None" = None) -> Iterator[T]:
    """The parts, one by one, while standard error says how many of `total` are done and how long the rest will take."""
    console = console or console_of(stderr=True)
    yield from (_bar if console.is_terminal else _lines)(parts, what, total, console)


def _bar(parts: Iterable[T], what: str, total: int, console: "Console") -> Iterator[T]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield from bar.track(parts, total=total, description=what)


def _lines(parts: Iterable[T], what: str, total: int, console: "Console") -> Iterator[T]:
    started = last = time.monotonic()
    for done, part in enumerate(parts, 1):
        yield part
        now = time.monotonic()
        if now - last >= LINE_EVERY_S and done < total:
            last, seconds_left = now, (now - started) / done * (total - done)
            text = f"{what}: {done:,} of {total:,}, about {duration(seconds_left)} left"
            console.print(text, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"

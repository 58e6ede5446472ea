"""How a study is getting on, in the terminal: a live table of rungs and seeds, or plain lines where there is none."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice

from rich.console import Console
from rich.live import Live
from rich.table import Table

from harness.launch.events import Progress
from harness.records.quantities import title_of
from harness.records.quantity import Unavailable, value_of
from harness.records.record import TrialRecord, why
from harness.records.terminal import console as console_of
from harness.trials.reported import left_text, speed_text, stage_text
from harness.trials.spec import TrialSpec

ROWS = 30  # the table shows the newest so many
PLAIN_EVERY_S = 10.0  # seconds between plain lines about running trials, or about refused candidates


class _Seldom:
    """Whether a line is due: none for `PLAIN_EVERY_S` after the last one, or after `begin`."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def begin(self) -> None:
        self._last = time.monotonic()

    def due(self) -> bool:
        if time.monotonic() - self._last < PLAIN_EVERY_S:
            return False
        self.begin()
        return True


class Show:
    def __init__(self, console: Console | None = None) -> None:
        self.console = console or console_of(stderr=True)
        self._live: Live | None = None
        self._specs: dict[str, TrialSpec] = {}  # by trial key
        self._cells: dict[str, str] = {}  # trial key -> what its cell says
        self._more: dict[str, str] = {}  # trial key -> what a line says behind that
        self._rows: dict[str, dict[int, str]] = {}  # name -> seed -> trial key, the newest name last
        self._seeds: dict[int, None] = {}  # a set in order
        self._ended: set[str] = set()
        self._running_line, self._refused_line = _Seldom(), _Seldom()
        self._total: int | None = None

    def note(self, text: str) -> None:
        """One line that stays."""
        self.console.print(text, soft_wrap=True)

    def lost(self, label: str, reason: str) -> None:
        self.note(f"{label}: {reason}; starting it again")

    @contextmanager
    def board(self, specs: Sequence[TrialSpec] = (), *, total: int | None = None) -> Iterator[None]:
        """While inside, a terminal shows a table of trials; `total` is how many will come, where that is known."""
        self._specs, self._cells, self._rows, self._seeds, self._ended, self._total = {}, {}, {}, {}, set(), total
        self._more = {}
        for spec in specs:
            self.add(spec)
        if not self.console.is_terminal:
            yield
            return
        with Live(self._table(), console=self.console, refresh_per_second=4) as self._live:
            yield
        self._live = None

    def add(self, spec: TrialSpec) -> None:
        """A trial that was not known when the board was put up."""
        key = spec.key
        if key not in self._specs:
            self._specs[key], self._cells[key] = spec, "waiting"
            self._rows.setdefault(spec.name, {})[spec.seed] = key
            self._seeds[spec.seed] = None

    def running(self, progress: Mapping[str, Progress]) -> None:
        """What the workers last reported."""
        for key, last in progress.items():
            if key in self._cells:
                self._cells[key] = stage_text(last)
                self._more[key] = "".join(f", {text}" for text in (speed_text(last), left_text(last)) if text)
        if self._live is not None:
            self._live.update(self._table())
        elif progress and self._running_line.due():
            reported = [key for key in progress if key in self._specs]
            self.note("; ".join(f"{self._specs[key].label}: {self._cells[key]}{self._more[key]}" for key in reported))

    def refused(self, in_a_row: int, reason: str) -> None:
        """A candidate that is not trained: a long row of them is worth a line, a few are not."""
        if in_a_row == 1:
            self._refused_line.begin()
        elif self._refused_line.due():
            self.note(f"{in_a_row:,} candidates in a row were refused, the last because {reason}")

    def ended(self, spec: TrialSpec, record: TrialRecord) -> None:
        self.add(spec)
        self._ended.add(spec.key)
        self._cells[spec.key] = self._summary(record, spec.settings.task.judging.first)
        if self._live is not None:
            self._live.update(self._table())
        else:
            place = f"[{len(self._ended)}/{self._total or len(self._cells)}]"
            self.note(f"{place} {spec.label}: {self._cells[spec.key]}")

    def _summary(self, record: TrialRecord, score: str) -> str:
        if record.state != "complete":
            return f"{record.state}: {why(record)}"
        if (value := value_of(record.quantities.get(score))) is not None:
            awaits = [name for name, each in record.quantities.items() if isinstance(each, Unavailable) and each.awaits]
            return f"done, {title_of(score)} {value:.4g}" + (f", awaits {', '.join(awaits)}" if awaits else "")
        macs = value_of(record.quantities.get("macs"))
        return "counted" if macs is None else f"counted, {macs / 1e9:.4g} G multiply-adds"

    def _table(self) -> Table:
        """The newest rows: its cost does not grow with the trials."""
        table = Table("rung", *(f"seed {seed}" for seed in self._seeds))
        for name, keys in reversed(list(islice(reversed(self._rows.items()), ROWS))):
            table.add_row(name, *(self._cells[keys[seed]] if seed in keys else "" for seed in self._seeds))
        return table

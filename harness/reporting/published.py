"""Published numbers to stand beside our own, each with the label that says how far it can be trusted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.records.errors import UserError, unknown_name
from harness.reporting.format import change

LABELS = {
    "P": "printed in the paper",
    "P*": "printed in the paper, digits unreadable in our copy, completed from [2] and [R]: meeting it proves little",
    "2": "from a second-hand digest of the paper",
    "R": "our own reconstruction, checked by counting",
}
Direction = Literal["lower", "higher", "same"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedCell:
    """One published statement. What is not known has no cell: there is no empty or guessed one."""

    labels: tuple[str, ...]
    value: float | None = None  # absolute, in the column's unit
    change: float | None = None  # relative to the row's `against`: -0.17 is 17% less
    direction: Direction | None = None  # where only "better", "fewer", "about the same" is printed
    text: str = ""  # as printed, where the number alone would say it otherwise

    def __post_init__(self) -> None:
        if not self.labels:
            raise UserError(f"a published number needs a source label of {', '.join(LABELS)}; {self.shown!r} has none")
        for label in self.labels:
            if label not in LABELS:
                raise unknown_name("source label", label, LABELS)
        if self.value is None and self.change is None and self.direction is None and not self.text:
            raise UserError("a published cell says nothing; leave it out where nothing is known")
        if self.change is not None and self.direction is not None and self.direction != _direction(self.change):
            raise UserError(f"a published change of {self.change} is not '{self.direction}'; correct one of the two")

    @property
    def claimed(self) -> Direction | None:
        """Which way the quantity is said to go against the row's `against`; None where nothing is said of it."""
        return self.direction or (None if self.change is None else _direction(self.change))

    @property
    def shown(self) -> str:
        """The statement for people, without its labels: `3.12 (lower)`, `−17%`, `2.4x faster`."""
        if self.text:
            return self.text
        if self.value is not None:
            way = f" ({self.direction})" if self.direction else ""
            return f"{self.value:g}{way}"  # as printed: never rounded
        if self.change is not None:
            return change(self.change, digits=0)
        return self.direction or ""

    @property
    def source(self) -> str:
        return "".join(f"[{label}]" for label in self.labels)


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedColumn:
    title: str
    unit: str = ""
    samples: int | None = None  # of a score: of how many generated images it is; None where that does not matter

    @property
    def factor(self) -> float:
        """What a number of the column is multiplied by to be in the records' unit: 1e6 where it is printed in M."""
        return {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}.get(self.unit, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedRow:
    cells: Mapping[str, PublishedCell]
    title: str = ""
    number: str = ""  # what the publication calls the row: `2a`
    against: str | None = None  # the row that this row's changes refer to


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """One published figure or table: `reports/published/NAME.yaml`."""

    title: str
    source: str
    conditions: str  # what its numbers were obtained under
    columns: Mapping[str, PublishedColumn]
    rows: Mapping[str, PublishedRow]
    caption: str = ""  # a claim over the whole table, where it makes one
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for row in self.rows.values():
            if row.against is not None and row.against not in self.rows:
                raise unknown_name("published row", row.against, self.rows)
            for column in row.cells:
                if column not in self.columns:
                    raise unknown_name("published column", column, self.columns)

    def cell(self, row: str, column: str | None) -> PublishedCell | None:
        """The statement on this row and column, or None where none is known."""
        return self.rows[row].cells.get(column) if row in self.rows and column is not None else None


def _direction(relative: float) -> Direction:
    return "same" if relative == 0 else "lower" if relative < 0 else "higher"

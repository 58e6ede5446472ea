"""What is written to a terminal, a pipe or a file: names as they are, tables that fit.

A title, a folder or a class may be called anything. So brackets are no markup here, colons no emoji, and a character
that the terminal's encoding does not have is written as its code.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from harness.records.quantity import Counted, Failed, Measured, Quantity, Unavailable

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 200
"""Columns of a table that is printed as text: as wide as it needs to be, so that it can be piped."""


def prepare_streams(*streams: TextIO) -> None:
    """Have these streams write every character, what their encoding lacks as `\\u2248` instead of an error; and every
    line when it ends, also into a pipe."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)


def escaped(text: str) -> str:
    """On one line of any terminal: line ends, escapes and bytes that are no text are spelt out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def count_text(number: int, what: str) -> str:
    """`1 seed`, `1,200 seeds`."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def console(*, stderr: bool = False, file: TextIO | None = None) -> "Console":
    """Where rich writes: texts as they are, tables with lines that the encoding has."""
    from rich.console import Console

    return Console(stderr=stderr, file=file, markup=False, highlight=False, emoji=False)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> str:
    """The first column to the left, numbers to the right; in lines and corners that standard output can write."""
    from rich.console import Console
    from rich.table import Table

    lines = Table()
    for index, column in enumerate(columns):
        lines.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        lines.add_row(*(f"{cell:,}" if isinstance(cell, int) else escaped(str(cell)) for cell in row))
    plain = Console(width=WIDE, color_system=None, force_terminal=False, markup=False, highlight=False, emoji=False)
    with plain.capture() as text:
        plain.print(lines)
    return f"{title}\n{text.get()}".strip()  # not Rich's title, which breaks at the table's width


def quantities_table(title: str, quantities: Mapping[str, Quantity]) -> str:
    """Value, unit, and the interval with what it is; where there is no value, the reason stands there."""
    rows = [(name, *_cells_of(value)) for name, value in quantities.items()]
    return table(("quantity", "value", "unit", "spread, or reason"), rows, title)


def _cells_of(quantity: Quantity) -> tuple[str, str, str]:
    if isinstance(quantity, Unavailable):
        return "not available", "", quantity.reason
    if isinstance(quantity, Failed):
        return "failed", "", f"{quantity.phase}: {quantity.message}"
    if isinstance(quantity, Counted):
        return f"{quantity.value:,}", quantity.unit, ""
    what = quantity.spread if isinstance(quantity, Measured) else quantity.kind
    has_interval = quantity.low is not None and quantity.high is not None
    return (
        f"{quantity.value:.6g}",
        quantity.unit,
        f"{quantity.low:.6g} to {quantity.high:.6g}: {what}" if has_interval else "",
    )

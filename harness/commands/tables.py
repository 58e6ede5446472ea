"""Tables for the terminal."""

import io
from collections.abc import Mapping, Sequence

from harness.records.quantity import Counted, Failed, Measured, Quantity, Unavailable


def quantities_table(title: str, quantities: Mapping[str, Quantity]) -> str:
    """Value, unit, and the interval with what it is; where there is no value, the reason stands there."""
    rows = [(name, *_shown(value)) for name, value in quantities.items()]
    return table(("quantity", "value", "unit", "spread, or reason"), rows, title)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> str:
    """As wide as it needs to be, so that it can be piped; the first column to the left, numbers to the right."""
    from rich.console import Console
    from rich.table import Table

    made = Table()
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        made.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    buffer = io.StringIO()
    Console(file=buffer, width=200).print(made)
    return f"{title}\n{buffer.getvalue()}".strip()  # not Rich's title, which breaks at the table's width


def _shown(quantity: Quantity) -> tuple[str, str, str]:
    if isinstance(quantity, Unavailable):
        return "not available", "", quantity.reason
    if isinstance(quantity, Failed):
        return "failed", "", f"{quantity.stage}: {quantity.message}"
    if isinstance(quantity, Counted):
        return f"{quantity.value:,}", quantity.unit, ""
    what = quantity.spread if isinstance(quantity, Measured) else quantity.kind
    known = quantity.low is not None and quantity.high is not None
    return f"{quantity.value:.6g}", quantity.unit, f"{quantity.low:.6g} to {quantity.high:.6g}: {what}" if known else ""

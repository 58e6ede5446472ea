"""Every number in a report is written by this file, so that the same number looks the same everywhere."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

MINUS = "\u2212"
LISTED = 6
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_SUPERSCRIPT = str.maketrans("-0123456789", "\u207b⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float, unit: str = "") -> str:
    """A value with three significant digits: counts with an SI prefix (`1.23 M`), bytes so too (`12.3 MB`),
    fractions as per cent, all else plainly with its unit (`12.3 ms`). A count is an `int`: its unit stands in the
    heading. Unit `1` is a pure number's."""
    if not math.isfinite(value):
        return str(value)
    if unit in ("B", "bytes"):
        return _prefixed(value) + "B" if abs(value) >= 1e3 else f"{value:.0f} B"
    if isinstance(value, int):
        return _prefixed(value).strip()
    if unit == "fraction":
        return f"{_signed(f'{abs(value):.1%}', value)}"
    return _signed(significant(abs(value)), value) + (f" {unit}" if unit not in ("", "1") else "")


def significant(value: float, digits: int = 3) -> str:
    """`value` with so many significant digits, without an E: 0.0120, 12.0, 1,234, 1.20×10⁻⁶."""
    if value == 0:
        return "0"
    if abs(value) >= 10**digits:
        return f"{value:,.0f}"
    if abs(value) < 1e-4:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return f"{value:#.{digits}g}".rstrip(".")


def change(relative: float, *, digits: int = 1) -> str:
    """A relative change as signed per cent: -0.174 is `−17.4%`; what rounds to nothing is `0%`."""
    text = f"{abs(relative) * 100:,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        return "0%"
    return f"{'+' if relative > 0 else MINUS}{text}%"


def points(relative: float) -> str:
    """A distance between two relative changes, in percentage points: 0.021 is `2.1 points`."""
    return f"{abs(relative) * 100:.1f} points"


def signed(value: float, unit: str = "") -> str:
    """A difference with its sign: `+0.120`, `\u22120.0310`."""
    return ("+" if value > 0 else "") + number(float(value), unit)


def listed(names: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def duration(seconds: float) -> str:
    """A time for people: `48 s`, `3.2 min`, `1.4 h`."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{significant(seconds)} s"


def inside(title: str) -> str:
    """A heading inside a sentence: `Parameters` becomes `parameters`, `KID` stays."""
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]


def several(values: Sequence[Any]) -> str:
    """The value if there is one; a range of numbers or times; else the values themselves, at most LISTED of them."""
    distinct = list(dict.fromkeys(map(_text, values)))
    if len(distinct) == 1:
        return distinct[0]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return " to ".join(f"{end:,}" if isinstance(end, int) else number(end) for end in (min(values), max(values)))
    if len(distinct) > 2 and all(_is_time(value) for value in values):
        return f"{min(distinct)} to {max(distinct)}"
    more = f"; and {len(distinct) - LISTED} more" if len(distinct) > LISTED else ""
    return "; ".join(distinct[:LISTED]) + more


def _text(value: Any) -> str:
    """Sentences in a list stand as sentences; none are `none`."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "none"
    return str(value)


def _is_time(value: Any) -> bool:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True


def _prefixed(value: float) -> str:
    for size, prefix in _PREFIXES:
        if abs(value) >= size * 0.9995:  # 999,950 is 1.00 M, not 1000 k
            return f"{_signed(significant(abs(value) / size), value)} {prefix}"
    return _signed(f"{abs(value):.0f}", value) + " "


def _signed(text: str, value: float) -> str:
    return MINUS + text if value < 0 else text

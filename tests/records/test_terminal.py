"""What a terminal shows of quantities: the number, its unit, its spread; or why there is none."""

import io
import sys

import pytest
from rich.table import Table

from harness.records.quantity import Counted, Failed, Measured, Predicted, Unavailable
from harness.records.terminal import console, prepare_streams, quantities_table, table

SPREAD = "standard deviation over 100 random subsets of 256"
QUANTITIES = {
    "params": Counted(value=1234567, unit="weights"),
    "kid": Measured(value=0.0123456, unit="1", low=0.012, high=0.0131, spread=SPREAD),
    "fd": Measured(value=90.5, unit="1"),
    "latency_iphone": Predicted(value=12.0, unit="ms", low=10.5, high=14.0, extrapolated=False),
    "coreml_bytes": Unavailable(reason="Core ML export is switched off (coreml=none)"),
    "class_agreement": Failed(phase="sample", message="16 of 16 images have values that are NaN or infinite"),
}


def rows() -> dict[str, list[str]]:
    lines = quantities_table("a trial", QUANTITIES).splitlines()
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    return {name: rest for name, *rest in cells}


def test_every_quantity_has_its_value_unit_and_spread() -> None:
    assert rows() == {
        "params": ["1,234,567", "weights", ""],
        "kid": ["0.0123456", "1", f"0.012 to 0.0131: {SPREAD}"],
        "fd": ["90.5", "1", ""],
        "latency_iphone": ["12", "ms", "10.5 to 14: predicted"],
        "coreml_bytes": ["not available", "", "Core ML export is switched off (coreml=none)"],
        "class_agreement": ["failed", "", "sample: 16 of 16 images have values that are NaN or infinite"],
    }


def test_a_table_is_drawn_with_what_the_encoding_has(monkeypatch) -> None:
    """Lines and corners in UTF-8; dashes and bars in ASCII, and a character that it lacks as its code."""
    for encoding, corner in (("utf-8", "┏"), ("ascii", "+"), ("latin-1", "+")):
        written = io.BytesIO()
        stream = io.TextIOWrapper(written, encoding=encoding)
        prepare_streams(stream)
        monkeypatch.setattr(sys, "stdout", stream)
        print(table(("name", "value"), [("naïve ≈ 犬", 3)], "Ümlaute"), flush=True)
        console().print("a line ≈ [/b] :dog: 犬")
        stream.flush()
        assert written.getvalue().decode(encoding).splitlines()[1][0] == corner
        assert ("≈" if encoding == "utf-8" else r"\u2248") in written.getvalue().decode(encoding)


@pytest.mark.parametrize("name", ["foo [/bar]", "[red]", "[/]", ":dog: [link=x]y[/link]", "100 [%]", "back\\slash [b]"])
def test_a_name_is_printed_as_it_is(name, capsys) -> None:
    console().print(name)
    lines = Table(name, title=name)
    lines.add_row(name)
    console().print(lines)
    print(table((name,), [(name,)], name))
    assert capsys.readouterr().out.count(name) == 1 + 3 + 3

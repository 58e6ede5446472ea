"""How numbers are written."""

import pytest

from harness.reporting.format import change, number


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1_234_567, "parameters", "1.23 M"),
        (45_600_000_000, "multiply-adds", "45.6 G"),
        (999_950, "parameters", "1.00 M"),
        (640, "parameters", "640"),
        (0, "parameters", "0"),
        (12_300_000, "bytes", "12.3 MB"),
        (500, "bytes", "500 B"),
        (12.34, "ms", "12.3 ms"),
        (0.012, "1", "0.0120"),
        (-0.0002, "1", "−0.000200"),
        (0.0000012, "", "1.20×10⁻⁶"),
        (1234.5, "1", "1,234"),
        (99.96, "ms", "100 ms"),
        (0.931, "fraction", "93.1%"),
        (0.0, "1", "0"),
    ],
)
def test_numbers(value: float, unit: str, text: str) -> None:
    assert number(value, unit) == text


@pytest.mark.parametrize(
    ("relative", "text"), [(-0.174, "−17.4%"), (0.02, "+2.0%"), (0.0, "0%"), (-0.0001, "0%"), (12.5, "+1,250.0%")]
)
def test_changes(relative: float, text: str) -> None:
    assert change(relative) == text

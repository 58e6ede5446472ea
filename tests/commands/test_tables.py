"""What a terminal shows of quantities: the number, its unit, its spread; or why there is none."""

from harness.commands.tables import quantities_table
from harness.records.quantity import Counted, Failed, Measured, Predicted, Unavailable

SPREAD = "standard deviation over 100 random subsets of 256"
QUANTITIES = {
    "params": Counted(value=1234567, unit="weights"),
    "kid": Measured(value=0.0123456, unit="1", low=0.012, high=0.0131, spread=SPREAD),
    "fd": Measured(value=90.5, unit="1"),
    "latency_iphone": Predicted(value=12.0, unit="ms", low=10.5, high=14.0, extrapolated=False),
    "coreml_bytes": Unavailable(reason="Core ML export is switched off (coreml=none)"),
    "class_agreement": Failed(stage="sample", message="16 of 16 images have values that are NaN or infinite"),
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

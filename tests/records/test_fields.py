"""Settings describe themselves: path, type, default, and the text that stands beside the field in the source."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.records.fields import describe_fields


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    kind: Literal["inner"] = "inner"
    depth: int = 3  # how deep


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    threads: int | None = None
    """How many; null:
    all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer(Base):
    steps: int
    """The budget."""
    mode: Literal["fast", "slow"] = "fast"
    betas: tuple[float, float] = (0.9, 0.99)
    out: Path = Path("runs")
    inner: Inner | None = field(default_factory=Inner)


def test_every_field_with_its_text_its_base_classes_and_its_parts():
    fields = {line.path: (line.type, line.default, line.text) for line in describe_fields(Outer, "x")}
    assert fields == {
        "x.threads": ("whole number | null", "null", "How many; null: all."),
        "x.steps": ("whole number", "(required)", "The budget."),
        "x.mode": ("fast | slow", "fast", ""),
        "x.betas": ("list of number", "[0.9,0.99]", ""),
        "x.out": ("path", "runs", ""),
        "x.inner": ("kind: inner | null", "", ""),
        "x.inner.depth": ("whole number", "3", "how deep"),
    }

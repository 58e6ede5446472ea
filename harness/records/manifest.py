"""What an ablation consists of: written beside its runs, read by the report."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    name: str  # `mqa`
    title: str  # "MHSA to MQA"
    architecture_fingerprint: str
    against: str | None  # the name of the rung that changes are computed against; None for the base
    edits: Mapping[str, Any]  # the knobs that differ from `against`


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    name: str  # the ablation's: `fig3`
    rungs: tuple[Rung, ...]
    seeds: tuple[int, ...]
    protocol: Mapping[str, Any]
    protocol_fingerprint: str
    controls: Mapping[str, str]  # `floor`, `untrained`, `noise`, `pixel_gaussian` -> key of a Measurement
    command: str  # what to type to repeat it

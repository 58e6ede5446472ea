"""A ladder: a base architecture and named edits, each against the rung above it or against the base."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import parse_edits, with_edits
from harness.records.errors import UserError, unknown_name


@dataclass(frozen=True, kw_only=True, slots=True)
class LadderRung:
    name: str
    title: str
    base: str | None = None
    """Another architecture to edit than the rung it is compared with: of another family, which no edit leads to."""
    edits: Mapping[str, Any] = field(default_factory=dict)
    against: str | None = None
    """The rung that is compared with, and edited unless `base` is; by default the one above (cumulative) or the first
    (one_at_a_time). After `resolved` it is None for the first rung only."""

    def __post_init__(self) -> None:
        parse_edits(self.edits, f"rung {self.name}: edits")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ladder:
    """Built by `from_plain(Ladder, yaml["architecture"])`."""

    base: str
    """A catalogue name or a YAML file."""
    mode: Literal["cumulative", "one_at_a_time"]
    rungs: tuple[LadderRung, ...]
    """The first one edits `base`, usually not at all."""

    def __post_init__(self) -> None:
        if not self.rungs:
            raise UserError("a ladder has at least one rung: list them under 'rungs'")
        for index, rung in enumerate(self.rungs):
            above = [other.name for other in self.rungs[:index]]
            if rung.name in above:
                raise UserError(f"rung names are unique in a ladder, and '{rung.name}' comes twice; rename one")
            if rung.against is not None and rung.against not in above:
                raise unknown_name(f"rung above '{rung.name}':", rung.against, above)

    def architectures(self) -> tuple[tuple[LadderRung, ArchitectureConfig], ...]:
        """Every rung, its `against` filled in, with its architecture: its base or that of `against`, edited."""
        made: dict[str, tuple[LadderRung, ArchitectureConfig]] = {}
        for rung in self.rungs:
            against = rung.against or self._default_against(list(made))
            try:
                start = architecture(rung.base or self.base) if rung.base or not against else made[against][1]
                made[rung.name] = replace(rung, against=against), with_edits(start, rung.edits)
            except UserError as error:
                raise UserError(f"rung '{rung.name}': {error}") from error
        return tuple(made.values())

    def _default_against(self, above: list[str]) -> str | None:
        if not above:
            return None
        return above[-1] if self.mode == "cumulative" else above[0]

"""A ladder: a base architecture and named edits, each against the rung above it or against the base.

An edit whose path begins with `recipe.` or `objective.` is one of how the network is trained. It carries on from rung
to rung as the architecture's do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from harness.architecture.catalogue import architecture, edits_of
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import parted, with_edits
from harness.architecture.sizes import sizes_set
from harness.records.errors import UserError, check_printable, unknown_name
from harness.records.plain import covers


@dataclass(frozen=True, kw_only=True, slots=True)
class LadderRung:
    name: str
    title: str = ""
    """What readers see; by default the name."""
    base: str | None = None
    """Another architecture to edit than the rung it is compared with: of another family, which no edit leads to."""
    edits: Mapping[str, Any] | str = field(default_factory=dict)
    """`{feed_forward.ratio: 3}`, `{recipe.warmup_steps: 50}`, or the name of a catalogue architecture whose edits these
    are: `ffn3`."""
    twin: Mapping[str, Any] | str | None = None
    """The edits where the ladder stands on another base, a deployment twin's: null is the same ones. What sets a size
    (channels, layers, heads) has its own."""
    twin_base: str | None = None
    """The `base` there, of a rung that has one."""
    against: str | None = None
    """The rung that is compared with, and edited unless `base` is; by default the one above (cumulative) or the first
    (one_at_a_time). After `resolved` it is None for the first rung only."""
    levels: Mapping[str, str] = field(default_factory=dict)
    """Of a combination in a factorial ablation: knob -> choice."""

    @property
    def all_edits(self) -> dict[str, Any]:
        """Written out."""
        return edits_of(self.edits, f"rung {self.name}: edits")

    @property
    def edited(self) -> dict[str, Any]:
        """Those of the architecture."""
        return parted(self.all_edits)[0]

    @property
    def trained(self) -> dict[str, Any]:
        """Those of how it is trained."""
        return parted(self.all_edits)[1]

    @property
    def edited_on_twin(self) -> dict[str, Any]:
        return self.edited if self.twin is None else edits_of(self.twin, f"rung {self.name}: twin")

    def __post_init__(self) -> None:
        check_printable("a rung's name", self.name)
        if self.title:
            check_printable(f"the title of rung '{self.name}'", self.title)
        if path := next(iter(parted(self.edited_on_twin)[1]), None):
            raise UserError(
                f"rung '{self.name}': a deployment twin is not trained, so '{path}' under 'twin' means nothing; leave "
                "it out"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Ladder:
    """Built by `from_plain(Ladder, yaml["architecture"])`."""

    base: str
    """A catalogue name or a YAML file."""
    mode: Literal["cumulative", "one_at_a_time"]
    rungs: tuple[LadderRung, ...]
    """The first one edits `base`, usually not at all."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """The combinations of a factorial ablation that a rule refuses -> why. They are no rungs."""

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
        return tuple((rung, edited) for rung, _, edited in self._built())

    def trainings(self) -> dict[str, dict[str, Any]]:
        """Rung -> in what its training is not the study's: what it carries on from the rungs before it, and its own."""
        edits: dict[str, dict[str, Any]] = {}
        for rung, _, _ in self._built():
            before = edits.get(rung.against or "", {})
            kept = {path: value for path, value in before.items() if not any(covers(own, path) for own in rung.trained)}
            edits[rung.name] = {**kept, **rung.trained}
        return edits

    def on(self, base: str) -> "Ladder":
        """The same ladder on another base: each rung with its twin's edits where it names some.

        Refused by name: a rung that sets a size, or has a base of its own, and does not say what it is there, unless it
        is the same base; and one whose edits cannot be made there.
        """
        is_another = architecture(base) != architecture(self.base)
        for rung, start, edited in self._built():
            _check_carries_over(rung, start, edited, base, is_another=is_another)
        moved = replace(self, base=base, rungs=tuple(_on_twin_base(rung) for rung in self.rungs))
        try:
            moved.architectures()
        except UserError as error:
            raise UserError(
                f"on {base}, {error}; write what the rung is there beside its edits, under 'twin'"
            ) from error
        return moved

    def _built(self) -> list[tuple[LadderRung, ArchitectureConfig, ArchitectureConfig]]:
        """Every rung, what it edits, and what that makes."""
        built: dict[str, tuple[LadderRung, ArchitectureConfig, ArchitectureConfig]] = {}
        for rung in self.rungs:
            against = rung.against or self._default_against(list(built))
            try:
                start = architecture(rung.base or self.base) if rung.base or not against else built[against][2]
                built[rung.name] = replace(rung, against=against), start, with_edits(start, rung.edited)
            except UserError as error:
                raise UserError(f"rung '{rung.name}': {error}") from error
        return list(built.values())

    def _default_against(self, above: list[str]) -> str | None:
        if not above:
            return None
        return above[-1] if self.mode == "cumulative" else above[0]


def _check_carries_over(
    rung: LadderRung, start: ArchitectureConfig, edited: ArchitectureConfig, base: str, *, is_another: bool
) -> None:
    """Refuse a rung of which nobody said what it is on the twin's base."""
    if rung.base is not None and rung.twin_base is None:
        raise UserError(
            f"rung '{rung.name}' has a base of its own, {rung.base}, so it needs one beside {base} too; write "
            "twin_base: NAME beside it, or run the study without a twin"
        )
    sizes = sizes_set(rung.edited, start, edited) if rung.twin is None and is_another else ()
    if sizes:
        form = f"{{{sizes[0]}: SIZE}}"
        beside = f"beside its edits, e.g. twin: {form}"
        if rung.levels:
            beside = f"in its knob, choice by choice, e.g. twin: {{CHOICE: {form}}}"
        raise UserError(
            f"rung '{rung.name}' sets {', '.join(sizes)}: sizes, which mean nothing on {base}; write what they are "
            f"there {beside}"
        )


def _on_twin_base(rung: LadderRung) -> LadderRung:
    return replace(rung, base=rung.twin_base, edits=rung.edited_on_twin | rung.trained, twin=None, twin_base=None)

"""A factorial ablation: every combination of the named choices, so that main effects and interactions can be told.

    base: laptop/thin_sdxl
    mode: factorial
    knobs:
      ratio: {path: feed_forward.ratio, choices: [4, 3]}          # one value, set at one path
      attention: {edits: {mhsa: {}, mqa: mqa}}                    # named sets of edits; `mqa` names an architecture's
      width:
        edits: {base: {}, wide: {stages.0.channels: 48}}
        twin: {wide: {stages.0.channels: 384}}                    # what a size is on a deployment twin

It is a ladder whose rungs are the combinations, each an edit of the base and compared with it. The base itself is the
first: as a combination, where one makes it, else beside them. A combination that a rule refuses is left out and named;
a choice that no combination has is a mistake.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.architecture.catalogue import architecture, edits_of
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import both_set, parted, with_edits
from harness.architecture.ladder import Ladder, LadderRung
from harness.architecture.sizes import sizes_set
from harness.records.errors import UserError, unknown_name
from harness.records.plain import canonical_json, covers

MOST = 1000
BASE = "base"


@dataclass(frozen=True, kw_only=True, slots=True)
class FactorialKnob:
    path: str | None = None  # where `choices` are set; by default the knob's own name
    choices: tuple[Any, ...] = ()
    edits: Mapping[str, Any] = field(default_factory=dict)  # level -> {path: value, ...}, or a catalogue architecture
    twin: Mapping[str, Any] = field(default_factory=dict)  # level -> its edits on a deployment twin, if others

    def __post_init__(self) -> None:
        if bool(self.choices) == bool(self.edits) or (self.path is not None and self.edits):
            raise UserError("a knob of a factorial ablation has either choices, and their path, or edits; give one")
        names = [_text(choice) for choice in self.choices]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"a knob's choices are different ones, and {twice} comes twice; leave out one")
        if unknown := set(self.twin) - {*names, *self.edits}:
            raise unknown_name("choice of a knob under 'twin':", min(unknown), [*names, *self.edits])

    def levels(self, name: str) -> dict[str, dict[str, Any]]:
        """Level -> its edits, of the knob with this name."""
        if self.choices:
            return {_text(choice): {self.path or name: choice} for choice in self.choices}
        return {level: edits_of(edits, f"knob {name}: {level}") for level, edits in self.edits.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Factorial:
    """Built by `from_plain(Factorial, yaml["architecture"])`."""

    base: str
    """A catalogue name or a YAML file."""
    knobs: Mapping[str, FactorialKnob]
    mode: Literal["factorial"] = "factorial"

    def __post_init__(self) -> None:
        if not self.knobs:
            raise UserError("a factorial ablation has at least one knob: list them under 'knobs'")
        count = math.prod(len(knob.choices or knob.edits) for knob in self.knobs.values())
        if count > MOST:
            raise UserError(
                f"the knobs have {count:,} combinations, and a factorial ablation trains every one, {MOST:,} at most; "
                "leave out choices, or search the space: `harness sweep`"
            )

    def ladder(self) -> Ladder:
        """UserError for a choice that is in no combination, and for two knobs that set one path."""
        base, levels = architecture(self.base), {name: knob.levels(name) for name, knob in self.knobs.items()}
        _check_paths_differ(levels)
        configs: dict[str, ArchitectureConfig] = {}
        rungs: list[LadderRung] = []
        refused: dict[str, str] = {}
        reasons: dict[tuple[str, str], str] = {}
        for chosen in itertools.product(*levels.values()):
            combination = dict(zip(levels, chosen, strict=True))
            rung = self._rung(base, combination, levels)
            try:
                configs[rung.name] = with_edits(base, rung.edited)
                rungs.append(rung)
            except UserError as error:
                refused[rung.name] = str(error)
                reasons |= {(name, level): str(error) for name, level in combination.items()}
        self._check_every_level(base, levels, rungs, reasons)
        is_base = (rung for rung in rungs if configs[rung.name] == base and not rung.trained)
        first = next(is_base, LadderRung(name=BASE))
        others = [rung for rung in rungs if rung is not first]
        return Ladder(base=self.base, mode="one_at_a_time", rungs=(first, *others), refused=refused)

    def _rung(
        self, base: ArchitectureConfig, combination: Mapping[str, str], levels: Mapping[str, Mapping[str, Any]]
    ) -> LadderRung:
        edits: dict[str, Any] = {}
        twin: dict[str, Any] = {}
        carries_over = True
        for name, level in combination.items():
            own, of_twin = levels[name][level], self.knobs[name].twin
            edits |= own
            of_architecture = parted(own)[0]
            twin |= edits_of(of_twin[level], f"knob {name}: twin") if level in of_twin else of_architecture
            carries_over &= level in of_twin or not _sizes_set(base, own)
        name = ", ".join(f"{knob}={level}" for knob, level in combination.items())
        differs = (
            carries_over and twin != parted(edits)[0]
        )  # else the ladder says what is missing, where there is a twin
        return LadderRung(name=name, edits=edits, twin=twin if differs else None, levels=combination)

    def _check_every_level(
        self,
        base: ArchitectureConfig,
        levels: Mapping[str, Mapping[str, dict[str, Any]]],
        rungs: list[LadderRung],
        reasons: Mapping[tuple[str, str], str],
    ) -> None:
        there = {level for rung in rungs for level in rung.levels.items()}
        for name, level in ((name, level) for name, each in levels.items() for level in each):
            if (name, level) in there:
                continue
            try:
                with_edits(base, parted(levels[name][level])[0])
                reason = f"with every choice of the other knobs, {reasons[name, level]}"
            except UserError as error:
                reason = str(error)
            raise UserError(f"knob '{name}', choice {level}: {reason}")


def _check_paths_differ(levels: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    owned: list[tuple[str, str]] = []
    for name, each in levels.items():
        own = list(dict.fromkeys(path for edits in each.values() for path in edits))
        for path, (other, before) in itertools.product(own, owned):
            if covers(path, before):
                raise both_set(other, before, name, path)
        owned += [(name, path) for path in own]


def _sizes_set(base: ArchitectureConfig, edits: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        of_architecture = parted(edits)[0]
        return sizes_set(of_architecture, base, with_edits(base, of_architecture))
    except UserError:
        return ()  # the combination says why


def _text(choice: Any) -> str:
    """As one writes it: `3`, `mqa`, `true`."""
    return canonical_json(choice).strip('"')

"""One knob of a search space: its values, when it exists, what each value sets, and how Optuna is asked for one.

How knobs are written, and what they are to each other: `harness.search.space`.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, TypeAlias, cast

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from harness.records.errors import UserError, unknown_name
from harness.trials.varied import check_matters

Value: TypeAlias = bool | int | float | str
Parameters: TypeAlias = Mapping[str, Value]  # knob name -> value, as Optuna stores them

RECIPE = "recipe."
"""How the path of a knob begins that is a setting of the recipe."""
OF_THE_SWEEP = "steps"
"""The setting of the recipe that is the sweep's to say."""

LARGEST_END = 1e15
"""Of a range: up to here floats hold every whole number, and their differences."""
SMALLEST_OF_LOG = 1e-300

ENUMERABLE = 100_000
"""Values of a knob up to which it is no continuum, but enumerated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Knob:
    path: str | None = None  # where `choices` or `range` values are set
    choices: tuple[Any, ...] = ()
    range: tuple[float, float] | None = None  # both ends included; whole numbers if both ends and the step are
    step: float | None = None
    log: bool = False
    edits: Mapping[str, Any] = field(default_factory=dict)  # choice -> {path: value, ...}
    ladder: str | None = None  # the ablation whose rungs are the choices; a space writes them out as edits
    twin: Mapping[str, Any] = field(default_factory=dict)  # value -> its edits on a deployment twin, if others
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kinds = (bool(self.choices), self.range is not None, bool(self.edits), self.ladder is not None)
        if sum(kinds) != 1:
            raise UserError("a knob has exactly one of choices, range, edits and ladder")
        if (self.path is None) != (bool(self.edits) or self.ladder is not None):
            raise UserError("a knob with choices or a range has a path; one with edits or a ladder has none")
        if self.range is not None:
            _check_range(self.range, self.step, self.log)
        elif self.log or self.step is not None:
            raise UserError("step and log belong to a range; this knob has none")
        _check_choices(self.choices)
        values = tuple(map(str, self.values() or ()))
        for value in self.twin:
            if value not in values:
                raise unknown_name("value of a knob under 'twin':", value, values)
            paths = self.twin[value] if isinstance(self.twin[value], Mapping) else ()
            if path := next((path for path in paths if str(path).startswith(RECIPE)), None):
                raise UserError(
                    f"a deployment twin is not trained, so '{path}' under 'twin' means nothing; leave it out"
                )

    def suggest(self, trial: optuna.Trial, name: str) -> Value:
        """Ask the sampler for a value."""
        distribution = self.distribution()
        if isinstance(distribution, CategoricalDistribution):
            return cast(Value, trial.suggest_categorical(name, distribution.choices))
        low, high, step, log = distribution.low, distribution.high, distribution.step, distribution.log
        if isinstance(distribution, IntDistribution):
            return trial.suggest_int(name, int(low), int(high), step=int(step or 1), log=log)
        return trial.suggest_float(name, low, high, step=step, log=log)

    def distribution(self) -> CategoricalDistribution | IntDistribution | FloatDistribution:
        """The values as Optuna stores them beside a trial."""
        if self.range is None:
            return CategoricalDistribution(self.values() or ())
        low, high = self.range
        if all(number.is_integer() for number in (low, high, self.step or 1.0)):
            return IntDistribution(int(low), int(high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(low, high, log=self.log, step=self.step)

    def values(self) -> tuple[Any, ...] | None:
        """All values, or None where they are a continuum, or as good as one."""
        if self.range is None:
            return tuple(self.edits) if self.edits else self.choices
        low, high = self.range
        step = self.step or 1.0
        if (self.step is None and not (low.is_integer() and high.is_integer())) or high - low >= ENUMERABLE * step:
            return None
        exact = all(number.is_integer() for number in (low, high, step))
        numbers = [low + index * step for index in range(round((high - low) / step) + 1)]
        return tuple(int(number) if exact else number for number in numbers)

    def exists(self, parameters: Parameters) -> bool:
        return all(parameters.get(other) in values for other, values in self.when.items())

    def edits_for(self, value: Value) -> dict[str, Any]:
        """What the value sets of the architecture: path -> setting."""
        return {path: to for path, to in self._set_by(value).items() if not path.startswith(RECIPE)}

    def recipe_for(self, value: Value) -> dict[str, Any]:
        """What the value sets of the recipe: the setting's name -> its value."""
        return {path.removeprefix(RECIPE): to for path, to in self._set_by(value).items() if path.startswith(RECIPE)}

    def twin_edits_for(self, value: Value) -> dict[str, Any]:
        return dict(self.twin[str(value)]) if str(value) in self.twin else self.edits_for(value)

    @property
    def paths(self) -> tuple[str, ...]:
        """All that some value sets, of the architecture and of the recipe."""
        named = [edits for edits in self.edits.values() if isinstance(edits, Mapping)]  # else a catalogue's
        return tuple(dict.fromkeys([self.path] if self.path else itertools.chain.from_iterable(named)))

    @property
    def of_recipe(self) -> tuple[str, ...]:
        """The settings of the recipe that some value sets."""
        return tuple(path.removeprefix(RECIPE) for path in self.paths if path.startswith(RECIPE))

    def _set_by(self, value: Value) -> Mapping[str, Any]:
        return self.edits[str(value)] if self.edits else {str(self.path): value}

    def allows(self, value: Any) -> bool:
        """Whether this is one of its values."""
        values = self.values()
        if values is not None or self.range is None:
            return any(isinstance(value, bool) is isinstance(each, bool) and value == each for each in values or ())
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.range[0] <= value <= self.range[1]


def _check_range(ends: tuple[float, float], step: float | None, log: bool) -> None:
    low, high = ends
    shown = f"[{low:g}, {high:g}]"
    if not low <= high:
        raise UserError(f"a range goes from low to high, not {shown}")
    if max(-low, high) > LARGEST_END:
        raise UserError(f"the ends of a range lie between -{LARGEST_END:g} and {LARGEST_END:g}, not {shown}")
    if log and (low < SMALLEST_OF_LOG or step is not None):
        beside = "" if step is None else f" and step {step:g}"
        raise UserError(
            f"a knob with log: true has a range above 0, from {SMALLEST_OF_LOG:g}, and no step, not {shown}{beside}"
        )
    if step is None:
        return
    if step <= 0:
        raise UserError(f"a step is above 0, not {step:g}")
    if (high - low) / step > LARGEST_END:
        raise UserError(
            f"a step is at least {(high - low) / LARGEST_END:g} in {shown}, not {step:g}; choose a larger one"
        )
    if step > high - low > 0:
        raise UserError(f"a step of {step:g} is longer than its range {shown}; choose a smaller step, or a wider range")
    if abs((high - low) / step - (count := round((high - low) / step))) > 1e-9 * max(1, count):
        last = low + step * int((high - low) / step)
        raise UserError(f"steps of {step:g} from {low:g} do not lead to {high:g}; end the range at {last:g}")


def _check_choices(choices: Sequence[Any]) -> None:
    for at, choice in enumerate(choices):
        if choice is not None and not isinstance(choice, bool | int | float | str):
            raise UserError(f"a choice is a number, a text, true, false or null, not {choice!r}; name it under edits")
        if isinstance(choice, float) and not isfinite(choice):
            raise UserError(f"a choice is a finite number, not {choice:g}")
        if any(choice == other for other in choices[:at]):
            raise UserError(f"a choice stands there once, and {choice!r} does twice; leave out one")


def check_varied(setting: str, who: str) -> None:
    """Refuse what is no setting of the recipe, changes no result, or is the sweep's to say."""
    if setting == OF_THE_SWEEP:
        raise UserError(
            f"{who} varies recipe.steps, but all candidates of a sweep are trained alike long; leave out the knob, and "
            "give budgets: [STEPS, ...] or recipe.steps=STEPS"
        )
    check_matters(setting, who, but=OF_THE_SWEEP)

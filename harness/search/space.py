"""What a sweep may vary: knobs on a base architecture, as YAML, and as Optuna's distributions.

    base: laptop                                   # a catalogue name or the path of a YAML file
    knobs:
      ffn_ratio: {path: ffn_ratio, choices: [2, 3, 4]}      # one value, set at one path
      width: {path: stages.0.channels, range: [16, 48], step: 16}
      conv:                                                 # named sets of edits
        edits:
          regular: {conv.kind: regular}
          separable: {conv.kind: separable}
      expansion: {path: conv.expansion, choices: [1, 2], when: {conv: [separable]}}

A knob with `when` exists only where an earlier knob has one of the named values: an impossible one is never suggested.
`separable: sepconv` stands for the edits of that catalogue architecture. `twin` beside a knob's values says what they
are on a deployment twin, value by value; what it leaves out is the same there (see `knob_checks`):

      width: {edits: {base: {}, wide: {stages.0.channels: 48}}, twin: {wide: {stages.0.channels: 384}}}

A path that begins with `recipe.` is a setting of the training recipe; not `steps`, since the sweep says how long a
candidate is trained. `ladder` stands for the rungs of an ablation, each as all the edits that make it of the base. A
knob named by its path needs no `path`:

      recipe.learning_rate: {range: [1e-4, 1e-2], log: true}
      recipe: {edits: {plain: {}, decayed: {recipe.weight_decay: 0.01, recipe.warmup_steps: 50}}}
      rung: {ladder: fig3}
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from harness.architecture.catalogue import architecture, edits_of
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import both_set, with_edits
from harness.records.errors import UserError, check_printable, unknown_name
from harness.records.plain import check_types, covers, from_plain, to_plain
from harness.training.recipe import Recipe
from harness.trials.ablation_study import read_ablation

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
    settings = {field.name: field.metadata.get("identity") is not False for field in fields(Recipe)}
    varied = [name for name, matters in settings.items() if matters and name != OF_THE_SWEEP]
    if setting == OF_THE_SWEEP:
        raise UserError(
            f"{who} varies recipe.steps, but all candidates of a sweep are trained alike long; leave out the knob, and "
            "give budgets: [STEPS, ...] or recipe.steps=STEPS"
        )
    if setting not in settings:
        raise unknown_name(f"setting of the recipe, which {who} varies:", setting, varied)
    if not settings[setting]:
        raise UserError(
            f"{who} varies recipe.{setting}, which changes no result; leave out the knob, and set recipe.{setting} for "
            "the whole sweep"
        )


def varied(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """The recipe with other settings, by name; UserError where it refuses one."""
    plain: Any = to_plain(recipe)
    return from_plain(Recipe, {**plain, **settings}, where="recipe")


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    base: str
    knobs: Mapping[str, Knob]

    def __post_init__(self) -> None:
        before: dict[str, None] = {}
        if not self.knobs:
            raise UserError("a search space has at least one knob")
        for name, knob in self.knobs.items():
            check_printable("a knob's name", name)
            for value in (value for value in (*knob.choices, *knob.edits) if isinstance(value, str)):
                check_printable(f"a value of knob '{name}'", value)
            for other, values in knob.when.items():
                if other not in before:
                    raise UserError(f"knob '{name}' depends on '{other}', which must stand above it")
                self._check_when(name, other, values)
            self._check_undoes_none(name, list(before))
            before[name] = None
            for setting in knob.of_recipe:
                check_varied(setting, f"knob '{name}'")

    def _check_undoes_none(self, name: str, before: Sequence[str]) -> None:
        """Refuse a knob that sets what another one above it has set, unless it says by `when` where it does."""
        knob = self.knobs[name]
        for other in before:
            above = self.knobs[other]
            apart = any(not set(values) & set(above.when.get(each, values)) for each, values in knob.when.items())
            if apart or other in self._needed(name):
                continue
            for path, earlier in itertools.product(knob.paths, above.paths):
                if covers(path, earlier):
                    raise both_set(other, earlier, name, path)

    def _needed(self, name: str) -> dict[str, tuple[Value, ...]]:
        """The knobs without which this one does not exist -> the values that they then have."""
        needed: dict[str, tuple[Value, ...]] = {}
        pending = [name]
        while pending:
            for other, values in self.knobs[pending.pop()].when.items():
                if other not in needed:
                    needed[other] = values
                    pending.append(other)
        return needed

    def _check_when(self, name: str, other: str, values: Sequence[Value]) -> None:
        """Refuse a value that the other knob never has; a ladder's rungs are known once it is written out."""
        knob = self.knobs[other]
        if not values:
            raise UserError(f"knob '{name}' never exists: 'when' names no value of '{other}'")
        for value in values if knob.ladder is None else ():
            if not knob.allows(value):
                known = ", ".join(map(repr, knob.values() or knob.range or ()))
                raise UserError(f"knob '{name}' exists where '{other}' is {value!r}, which it never is, but {known}")

    @property
    def turns_recipe(self) -> bool:
        """Whether candidates differ in how they are trained, too."""
        return any(knob.of_recipe for knob in self.knobs.values())

    def suggest(self, trial: optuna.Trial) -> dict[str, Value]:
        """Ask the sampler for each knob that exists, in order."""
        parameters: dict[str, Value] = {}
        for name, knob in self.knobs.items():
            if knob.exists(parameters):
                parameters[name] = knob.suggest(trial, name)
        return parameters

    def distributions(self, parameters: Parameters) -> dict[str, BaseDistribution]:
        """Of the knobs that exist in this combination."""
        return {name: self.knobs[name].distribution() for name in parameters}

    def architecture(self, parameters: Parameters) -> ArchitectureConfig:
        """The base with the knobs turned; a rule that refuses the combination raises UserError."""
        return with_edits(architecture(self.base), self.edits(parameters))

    def edits(self, parameters: Parameters) -> dict[str, Any]:
        """What the combination sets of the architecture: path -> setting."""
        return self._joined(Knob.edits_for, parameters)

    def recipe(self, parameters: Parameters) -> dict[str, Any]:
        """What the combination sets of the recipe: the setting's name -> its value."""
        return self._joined(Knob.recipe_for, parameters)

    def twin_edits(self, parameters: Parameters) -> dict[str, Any]:
        """What the combination edits of a deployment twin's base."""
        return self._joined(Knob.twin_edits_for, parameters)

    def _joined(self, part: Callable[[Knob, Value], dict[str, Any]], parameters: Parameters) -> dict[str, Any]:
        """Of a path that two knobs set, the later one's."""
        parts = [part(self.knobs[name], value) for name, value in parameters.items()]
        return {path: to for each in parts for path, to in each.items()}

    def around(self, name: str) -> Iterator[dict[str, Value]]:
        """Every combination of the knobs without which this one does not exist, in the space's order."""
        needed = self._needed(name)
        names = [other for other in self.knobs if other in needed]
        return (dict(zip(names, each, strict=True)) for each in itertools.product(*map(needed.__getitem__, names)))

    def count(self) -> int | None:
        """How many combinations there are, without enumerating them; None where a knob is a continuum.

        Only the knobs that a `when` names are branched over: the others multiply.
        """
        steering = {other for knob in self.knobs.values() for other in knob.when}
        if any(knob.values() is None for knob in self.knobs.values()):
            return None
        return self._count({}, list(self.knobs.items()), steering)

    def _count(self, parameters: dict[str, Value], rest: list[tuple[str, Knob]], steering: set[str]) -> int:
        if not rest:
            return 1
        (name, knob), *others = rest
        values = knob.values() or ()
        if not knob.exists(parameters):
            return self._count(parameters, others, steering)
        if name in steering:
            return sum(self._count(parameters | {name: value}, others, steering) for value in values)
        return len(values) * self._count(parameters, others, steering)

    def combinations(self) -> Iterator[dict[str, Value]]:
        """Every combination of a finite space, each once: a knob that does not exist in one is absent from it."""
        return self._extend({}, list(self.knobs.items()))

    def neighbours(self, parameters: Parameters) -> Iterator[dict[str, Value]]:
        """The combinations one knob away. A knob that comes to exist takes each of its values, or a continuum's low
        end; one that ceases to exist goes."""
        for name, knob in self.knobs.items():
            if name in parameters:
                for value in knob.values() or ():
                    if value != parameters[name]:
                        yield from self._extend({}, list(self.knobs.items()), {**parameters, name: value})

    def _extend(
        self, parameters: dict[str, Value], rest: list[tuple[str, Knob]], given: Parameters = MappingProxyType({})
    ) -> Iterator[dict[str, Value]]:
        """All ways to go on from the knobs set so far; those in `given` have that value."""
        if not rest:
            yield parameters
            return
        (name, knob), *others = rest
        values = (given[name],) if name in given else knob.values() or (knob.range or ())[:1]
        options = [{name: value} for value in values] if knob.exists(parameters) else [{}]
        yield from itertools.chain.from_iterable(self._extend(parameters | option, others, given) for option in options)


def every_architecture(
    space: Space, combinations: Iterable[Parameters]
) -> Iterator[tuple[Parameters, ArchitectureConfig | UserError]]:
    """Every combination, of all that the space has, and its architecture or why a rule refuses it. A millisecond or two
    each. At the end a UserError for a knob's value that rules refuse in all of them: it is a mistake."""
    base = architecture(space.base)
    possible: set[tuple[str, Value]] = set()
    reasons: dict[tuple[str, Value], UserError] = {}
    for parameters in combinations:
        try:
            config = with_edits(base, space.edits(parameters))
        except UserError as error:
            reasons |= dict.fromkeys(parameters.items(), error)
            yield parameters, error
            continue
        possible |= parameters.items()
        yield parameters, config
    for (name, value), reason in reasons.items():
        if (name, value) not in possible:
            raise UserError(
                f"knob '{name}', value {value}, is in no combination that rules allow: {reason}; leave it out"
            )


def space(content: Mapping[str, Any]) -> Space:
    """A space from its YAML; UserError names the key that is wrong."""
    named = _named_by_path(content)
    check_types(Space, named, where="space")
    knobs = {str(name): _knob(str(name), knob) for name, knob in named["knobs"].items()}
    base = Space(base=named["base"], knobs=knobs).base  # refuses what knobs are to each other
    return Space(base=base, knobs={name: _written_out(name, knob, base) for name, knob in knobs.items()})


def _knob(name: str, content: Any) -> Knob:
    try:
        return from_plain(Knob, content)
    except UserError as error:
        raise UserError(f"knob '{name}': {error}") from error


def _named_by_path(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The content with the `path` of each knob whose name is one."""
    knobs = content.get("knobs")
    if not isinstance(knobs, Mapping):
        return content

    def needs_path(name: Any, knob: Any) -> bool:
        return "." in str(name) and isinstance(knob, Mapping) and not {"path", "edits", "ladder"} & knob.keys()

    named = {name: {"path": str(name), **knob} if needs_path(name, knob) else knob for name, knob in knobs.items()}
    return {**content, "knobs": named}


def _written_out(name: str, knob: Knob, base: str) -> Knob:
    """The knob with the edits that it names: by an architecture of the catalogue, or by a ladder."""

    def table(given: Mapping[str, Any], where: str) -> dict[str, Any]:
        return {value: edits_of(edits, f"space.knobs.{name}.{where}.{value}") for value, edits in given.items()}

    if knob.ladder is not None:
        edits, twin = rungs_as_edits(knob.ladder, base)
        return replace(knob, ladder=None, edits=edits, twin=twin)
    return replace(knob, edits=table(knob.edits, "edits"), twin=table(knob.twin, "twin"))


Edits = dict[str, dict[str, Any]]
"""Rung -> path -> setting."""


def rungs_as_edits(name: str, base: str) -> tuple[Edits, Edits]:
    """Each rung of sweeps/NAME.yaml as all the edits that make it of `base`; and of a deployment twin's base, those
    rungs that say what they are there.

    On another base than the ladder's own, the edits are those that its rungs have on it (`Ladder.on`).
    """
    ladder = read_ablation(name).architecture
    ladder = ladder if ladder.base == base else ladder.on(base)
    edits: Edits = {}
    twin: Edits = {}
    for rung, _ in ladder.architectures():
        if rung.base is not None:
            raise UserError(
                f"rung '{rung.name}' of {name} has a base of its own, {rung.base}: no edit of {base} leads there"
            )
        edits[rung.name] = _after(edits.get(rung.against or "", {}), rung.edited)
        before = twin.get(rung.against or "")
        if rung.twin is not None or before is not None:
            twin[rung.name] = _after(before or edits.get(rung.against or "", {}), rung.edited_on_twin)
    return edits, twin


def _after(before: Mapping[str, Any], edits: Mapping[str, Any]) -> dict[str, Any]:
    """First `before`, then `edits`; a path of both is set by `edits`, in its place there."""
    return {**{path: value for path, value in before.items() if path not in edits}, **edits}

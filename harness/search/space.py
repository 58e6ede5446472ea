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
are on a deployment twin, value by value; what it leaves out is the same there (see `harness.search.knob_checks`):

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
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import optuna
from optuna.distributions import BaseDistribution

from harness.architecture.catalogue import architecture, edits_of
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import both_set, parted, with_edits
from harness.records.errors import UserError, check_printable, of_file
from harness.records.plain import check_types, covers, from_plain
from harness.search.knob import Knob, Parameters, Value, check_varied
from harness.trials.ablation_study import read_ablation
from harness.trials.studies import find_study, read_study

SPACES = "search_spaces"
"""Where they lie."""


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
            if path := next((path for path in knob.paths if path.partition(".")[0] == "objective"), None):
                raise UserError(
                    f"knob '{name}' sets {path}, and all candidates of a sweep have its objective; compare objectives "
                    "as rungs of an ablation, which may set it"
                )

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


def read_space(name: str) -> Space:
    """The space in search_spaces/NAME.yaml; UserError names the file."""
    content = read_study(SPACES, name)
    with of_file(find_study(SPACES, name)):
        return space(content)


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
        edits[rung.name] = _after(edits.get(rung.against or "", {}), rung.all_edits)
        before = twin.get(rung.against or "")
        if rung.twin is not None or before is not None:
            before = before or parted(edits.get(rung.against or "", {}))[0]
            twin[rung.name] = _after(before, rung.edited_on_twin)
    return edits, twin


def _after(before: Mapping[str, Any], edits: Mapping[str, Any]) -> dict[str, Any]:
    """First `before`, then `edits`; a path of both is set by `edits`, in its place there."""
    return {**{path: value for path, value in before.items() if path not in edits}, **edits}

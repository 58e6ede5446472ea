"""Candidates that a sweep begins with: the rungs of an ablation, placed into the space's knobs."""

import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import with_edits
from harness.records.errors import UserError
from harness.search.recipe_knobs import varied
from harness.search.space import Knob, Parameters, Space, Value
from harness.training.recipe import Recipe
from harness.trials.ablation_study import read_ablation
from harness.trials.studies import read_study

MOST = 10_000  # combinations looked at for one architecture


@dataclass(frozen=True, slots=True)
class Placed:
    name: str  # `fig3/ffn3`
    parameters: Parameters


def rungs_of(
    name: str, space: Space, fit: Callable[[ArchitectureConfig], ArchitectureConfig], recipe: Recipe
) -> tuple[list[Placed], list[str]]:
    """The rungs of sweeps/NAME.yaml, trained by the sweep's `recipe`, as combinations of the space's knobs; a sentence
    for each that is none."""
    if "architecture" not in read_study("sweeps", name):
        raise UserError(f"enqueue: {name} is no ablation; name one whose rungs are to be the first candidates")
    placed, remarks = [], []
    for rung, made in read_ablation(name).architecture.architectures():
        parameters = parameters_of(space, fit(made), fit, recipe)
        if parameters is None:
            remarks.append(f"{name}/{rung.name} is not enqueued: no combination of the space's knobs makes it")
        else:
            placed.append(Placed(f"{name}/{rung.name}", parameters))
    return placed, remarks


def parameters_of(
    space: Space,
    wanted: ArchitectureConfig,
    fit: Callable[[ArchitectureConfig], ArchitectureConfig],
    recipe: Recipe,
) -> Parameters | None:
    """A combination of knob values whose architecture, fitted to the data, is `wanted`, and whose recipe is `recipe`;
    None where there is none.

    A value comes into question if its edits leave both as they are.
    """
    base = architecture(space.base)
    fitting = {name: _leaving(space, name, wanted, recipe) for name in space.knobs}
    for parameters in itertools.islice(_combined(space, fitting), MOST):
        try:
            made = fit(with_edits(base, space.edits(parameters)))
            if made == wanted and varied(recipe, space.recipe(parameters)) == recipe:
                return parameters
        except UserError:
            continue  # a rule refuses this one
    return None


def _leaving(space: Space, name: str, wanted: ArchitectureConfig, recipe: Recipe) -> Sequence[Value]:
    """The knob's values that leave both as they are: by themselves, or with values of the knobs that exist beside them,
    which set again what they set."""
    found = []
    for value in _tried(space.knobs[name], recipe):
        beside = {other: knob for other, knob in space.knobs.items() if value in knob.when.get(name, ())}
        options = [[{}, *({other: each} for each in _tried(knob, recipe))] for other, knob in beside.items()]
        combined = (functools.reduce(operator.or_, chosen, {name: value}) for chosen in itertools.product(*options))
        if any(_leaves(space, parameters, wanted, recipe) for parameters in combined):
            found.append(value)
    return found


def _leaves(space: Space, parameters: Parameters, wanted: ArchitectureConfig, recipe: Recipe) -> bool:
    try:
        kept = with_edits(wanted, space.edits(parameters)) == wanted
        return kept and varied(recipe, space.recipe(parameters)) == recipe
    except UserError:
        return False  # this architecture has no such place


def _tried(knob: Knob, recipe: Recipe) -> Sequence[Value]:
    """The knob's values; of a continuum, the recipe's own, if it lies in it."""
    values, ends = knob.values(), knob.range
    if values is not None or ends is None or not knob.of_recipe:
        return values or ()
    own = getattr(recipe, knob.of_recipe[0])
    return (own,) if isinstance(own, int | float) and ends[0] <= own <= ends[1] else ()


def _combined(space: Space, fitting: dict[str, Sequence[Value]]) -> itertools.chain[dict[str, Value]]:
    layers: list[dict[str, Value]] = [{}]
    for name, knob in space.knobs.items():
        layers = [
            {**parameters, **option}
            for parameters in layers
            for option in ([{name: value} for value in fitting[name]] if knob.exists(parameters) else [{}])
        ][:MOST]
    return itertools.chain(layers)

"""Candidates that a sweep begins with: the rungs of an ablation, placed into the space's knobs."""

import itertools
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
    fitting = {name: _leaving(knob, wanted, recipe) for name, knob in space.knobs.items()}
    for parameters in itertools.islice(_combined(space, fitting), MOST):
        try:
            made = fit(with_edits(base, space.edits(parameters)))
            if made == wanted and varied(recipe, space.recipe(parameters)) == recipe:
                return parameters
        except UserError:
            continue  # a rule refuses this one
    return None


def _leaving(knob: Knob, wanted: ArchitectureConfig, recipe: Recipe) -> Sequence[Value]:
    found = []
    for value in _tried(knob, recipe):
        try:
            left = with_edits(wanted, knob.edits_for(value)) == wanted
            if left and varied(recipe, knob.recipe_for(value)) == recipe:
                found.append(value)
        except UserError:
            continue  # this architecture has no such place
    return found


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

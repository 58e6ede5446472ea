"""What a space's knobs are on its base, on a deployment twin's and to the recipe: a value that is wrong is refused by
name, before a candidate is made."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import plain_with_edits, with_edits
from harness.architecture.rules import LARGEST, SIZES, leaves
from harness.architecture.sizes import sizes_set
from harness.records.errors import UserError
from harness.records.plain import Plain, check_types
from harness.search.knob import Knob, Value
from harness.search.space import Space, every_architecture
from harness.training.recipe import Recipe
from harness.trials.settings import Settings
from harness.trials.twins import DeploymentTwin
from harness.trials.varied import varied_recipe

REQUIRED = {"steps": 1, "batch_size": 1}
"""Settings without which there is no recipe; which steps and how many images does not matter to types."""
FEW = 500
"""Combinations that are made in about a second."""


def check_types_of_values(space: Space) -> None:
    """Refuse, by name, a knob's value that sets what does not exist, or what has another type: it is wrong in every
    combination, so it is a mistake, and not a candidate that a rule refuses."""
    base = architecture(space.base)
    for name, knob in space.knobs.items():
        for value in _values(knob):
            _check_type(space, base, name, value)


def check_values_possible(space: Space) -> None:
    """Refuse, by name, a knob's value that no combination can have, where there are few enough to make them all."""
    if (count := space.count()) is not None and count <= FEW:
        for _ in every_architecture(space, space.combinations()):
            pass


def _check_type(space: Space, base: ArchitectureConfig, name: str, value: Value) -> None:
    knob = space.knobs[name]
    edits = knob.edits_for(value)
    try:
        check_types(Recipe, {**REQUIRED, **knob.recipe_for(value)}, where="recipe")
        for path in edits:
            check_types(ArchitectureConfig, _with_path(space, base, name, value, path))
        _check_sizes(edits)
    except UserError as error:
        raise UserError(f"knob '{name}', value {value}: {error}") from error


def _check_sizes(edits: Mapping[str, Any]) -> None:
    """The one rule that needs to know nothing but the value."""
    for path, value in edits.items():
        for inner, number in leaves(value, path):
            if isinstance(number, int | float) and not isinstance(number, bool) and not 0 < number <= LARGEST:
                raise UserError(f"{SIZES.sentence}: {inner} is {number}")


def _with_path(space: Space, base: ArchitectureConfig, name: str, value: Value, path: str) -> Plain:
    """The base with the value's edits up to `path`, among the first values of other knobs that make the path exist: of
    those that the knob depends on, else of any."""
    edits, missing = space.knobs[name].edits_for(value), None
    until = {each: edits[each] for each in list(edits)[: list(edits).index(path) + 1]}
    for others in itertools.chain(space.around(name), _one_other(space, name)):
        try:
            return plain_with_edits(base, {**space.edits(others), **until})
        except UserError as error:
            missing = missing or error
    raise missing or UserError("it never exists: a knob that it depends on has no such value")


def _one_other(space: Space, name: str) -> Iterator[dict[str, Value]]:
    """The knobs that this one depends on, and each value of one other knob."""
    around = next(space.around(name), {})
    return ({**around, other: value} for other, knob in space.knobs.items() if other != name for value in _values(knob))


def check_carries_over(space: Space, twin: DeploymentTwin) -> None:
    """Refuse, by name, a knob's value that sets a size and does not say what it is on the twin's base, unless that is
    the space's own, and one that cannot be applied there. Each value is tried on the bases, with the knobs that it
    depends on."""
    small, large = architecture(space.base), twin.read()
    for name, knob in space.knobs.items():
        for value in _values(knob):
            _check(space, twin, small, large, name, value)


def _check(
    space: Space, twin: DeploymentTwin, small: ArchitectureConfig, large: ArchitectureConfig, name: str, value: Value
) -> None:
    knob = space.knobs[name]
    possible = _possible(space, small, name, value)
    if possible is None:
        return  # only together with values of knobs that it does not depend on: seen when a candidate is made
    around, before, after = possible
    edits = knob.edits_for(value)
    if large != small and str(value) not in knob.twin and (sizes := sizes_set(edits, before, after)):
        raise UserError(
            f"knob '{name}', value {value}, sets {', '.join(sizes)}: sizes, which mean nothing on {twin.base}, the "
            f"deployment twin; write what they are there beside the knob's values, {_advice(knob, value, sizes[0])}"
        )
    try:
        with_edits(large, {**space.twin_edits(around), **knob.twin_edits_for(value)})
    except UserError as error:
        raise UserError(
            f"knob '{name}', value {value}, cannot be applied on {twin.base}, the deployment twin: {error}; write what "
            f"it is there beside the knob's values, {_advice(knob, value, next(iter(edits), 'PATH'))}"
        ) from error


def _possible(
    space: Space, small: ArchitectureConfig, name: str, value: Value
) -> tuple[Mapping[str, Value], ArchitectureConfig, ArchitectureConfig] | None:
    """The first values of the knobs without which this one does not exist that allow this value on the space's base;
    the architecture without and with it."""
    edits = space.knobs[name].edits_for(value)
    for around in space.around(name):
        here = space.edits(around)
        try:
            return around, with_edits(small, here), with_edits(small, {**here, **edits})
        except UserError:
            continue
    return None


def _advice(knob: Knob, value: Value, path: str) -> str:
    if knob.values() is None:
        return "which then are choices and no range"
    return f"twin: {{{value}: {{{path}: VALUE}}}}"


def _values(knob: Knob) -> tuple[Any, ...]:
    """All of them; of a continuum, both ends."""
    values = knob.values()
    return values if values is not None else tuple(knob.range or ())


def check_recipes(space: Space, settings: Settings, *, several_budgets: bool) -> None:
    """Refuse, by name, a knob's value that the recipe refuses: each one, of a range both ends, with the knobs that it
    depends on."""
    for name, knob in space.knobs.items():
        if knob.of_recipe and settings.count_only:
            raise UserError(f"knob '{name}' is of the recipe, and count_only trains nothing; leave out one of them")
        for value in (knob.range or knob.values() or ()) if knob.of_recipe else ():
            try:
                recipe = _first_possible(space, settings.recipe, name, value)
            except UserError as error:
                raise UserError(f"knob '{name}', value {value}: {error}") from error
            if several_budgets and not recipe.is_extendable:
                raise UserError(
                    f"knob '{name}', value {value}: {recipe.named_schedule} depends on the last step, so a shorter "
                    "training is no beginning of a longer one; leave out the value, or give one budget"
                )


def _first_possible(space: Space, base: Recipe, name: str, value: Value) -> Recipe:
    """The recipe with this value and the first values of the knobs without which it does not exist that allow it."""
    refusal = None
    for around in space.around(name):
        try:
            return varied_recipe(base, space.recipe({**around, name: value}))
        except UserError as error:
            refusal = refusal or error
    raise refusal or UserError("it never exists: a knob that it depends on has no such value")

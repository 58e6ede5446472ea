"""Settings of the training recipe as knobs: `recipe.learning_rate: {range: [1e-4, 1e-2], log: true}`.

What may vary is what changes a result (the identity of a trial), but for `steps`: how long a candidate is trained is
the sweep's to say, and the same for all at one budget.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from harness.records.errors import UserError, unknown_name
from harness.records.plain import from_plain, to_plain
from harness.training.recipe import Recipe

RECIPE = "recipe."
"""How the path of such a knob begins."""

OF_THE_SWEEP = "steps"


def check_varied(setting: str, who: str) -> None:
    """Refuse what is no setting of the recipe, changes no result, or is the sweep's to say."""
    known = {field.name: field.metadata.get("identity") is not False for field in fields(Recipe)}
    varied = [name for name, matters in known.items() if matters and name != OF_THE_SWEEP]
    if setting == OF_THE_SWEEP:
        raise UserError(
            f"{who} varies recipe.steps, but all candidates of a sweep are trained alike long; leave out the knob, and "
            "give budgets: [STEPS, ...] or recipe.steps=STEPS"
        )
    if setting not in known:
        raise unknown_name(f"setting of the recipe, which {who} varies:", setting, varied)
    if not known[setting]:
        raise UserError(
            f"{who} varies recipe.{setting}, which changes no result; leave out the knob, and set recipe.{setting} for "
            "the whole sweep"
        )


def varied(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """The recipe with other settings, by name; UserError where it refuses one."""
    plain: Any = to_plain(recipe)
    return from_plain(Recipe, {**plain, **settings}, where="recipe")

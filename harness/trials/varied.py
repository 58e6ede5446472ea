"""Settings of training that a study varies beside the architecture: a rung's `{objective.scaling: fixed}`, a knob of a
search space at `recipe.learning_rate`."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, get_type_hints

from harness.architecture.edits import OF_TRAINING
from harness.records.errors import UserError, unknown_name
from harness.records.plain import from_plain, to_plain
from harness.training.objective_config import ObjectiveConfig
from harness.training.recipe import Recipe
from harness.trials.compose import compose_plain
from harness.trials.initial import INITIAL
from harness.trials.settings import Settings, for_few_steps, settings_of


def varied(settings: Settings, edits: Mapping[str, Any], chosen: Mapping[str, Any]) -> Settings:
    """The settings with others at these paths: `recipe.steps`, `objective.features`, or a whole objective by its name,
    `objective: flow_matching`. The name that the study itself has chosen is its own, with all that it sets of it.

    What an edit leaves without a meaning is left out there: a study may set the discriminator's learning rate, and have
    a rung of `objective.adversarial_weight: 0`.

    What follows from the objective follows from the edited one, but for what the study has `chosen` by name: a student
    of `objective.steps: 2` is scored at two steps.

    UserError for a setting that does not exist, is wrong, or changes no result.
    """
    plain: dict[str, Any] = {group: to_plain(getattr(settings, group)) for group in OF_TRAINING}
    for path, value in edits.items():
        group, *below = path.split(".")
        if below and group == INITIAL:
            raise unknown_name("setting", path, (INITIAL,))
        if not below and group == "recipe":
            raise UserError(f"{path}: {value} is a whole recipe; name what differs from the study's: recipe.steps, ...")
        if not below:
            plain[group] = to_plain(value) if group == INITIAL else _objective(settings, value)
        else:
            if group == "recipe":
                check_matters(below[0], f"{path}={value}")
            _set(plain[group], path, below, value)
    _leave_out_unread(plain["objective"], edits)
    hints = get_type_hints(Settings)
    edited = {group: from_plain(hints[group], plain[group], where=group) for group in OF_TRAINING}
    return for_few_steps(replace(settings, **edited), chosen)


def with_names(chosen: Mapping[str, Any], edits: Mapping[str, Any]) -> dict[str, Any]:
    """A study's overrides of config.yaml with what these edits make of theirs and a trial's record does not hold, since
    it has names: the objective, for its teacher's, written out, and whose weights it began with."""
    edited = {path.partition(".")[0] for path in edits} & {"objective", INITIAL}
    settings = varied(settings_of((), chosen), edits, chosen) if edited else None
    kept = {key: value for key, value in chosen.items() if key.partition(".")[0] not in edited}
    return {**kept, **{name: to_plain(getattr(settings, name)) for name in sorted(edited)}}


def varied_recipe(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """The recipe with other settings, by name; UserError where it refuses one."""
    plain: Any = to_plain(recipe)
    return from_plain(Recipe, {**plain, **settings}, where="recipe")


def check_matters(setting: str, who: str, *, but: str | None = None) -> None:
    """Refuse what is no setting of the recipe, or changes no result; `but` is one that is somebody else's to say."""
    matters = {field.name: field.metadata.get("identity") is not False for field in fields(Recipe)}
    if setting not in matters:
        named = [name for name, is_one in matters.items() if is_one and name != but]
        raise unknown_name(f"setting of the recipe, which {who} varies:", setting, named)
    if not matters[setting]:
        raise UserError(
            f"{who} varies recipe.{setting}, which changes no result; leave it out, and set recipe.{setting} for the "
            "whole study"
        )


def _objective(settings: Settings, value: Any) -> Any:
    """The one that the study's is replaced by, by its name or written out."""
    own: Any = to_plain(settings.objective)
    if own["kind"] == value:
        return own
    return dict(value) if isinstance(value, Mapping) else compose_plain((), {"objective": value})["objective"]


def _leave_out_unread(objective: dict[str, Any], edits: Mapping[str, Any]) -> None:
    """Of the study's settings; those of the edits themselves are refused."""
    form = ObjectiveConfig.forms.get(objective.get("kind", ""), ObjectiveConfig)
    for setting, by_value in form.leaves_unread.items():  # type: ignore[attr-defined]
        if f"objective.{setting}" not in edits:
            continue
        edited_to = edits[f"objective.{setting}"]
        for name in next((names for value, names in by_value.items() if value == edited_to), ()):
            if not any(path.startswith(f"objective.{name}") for path in edits):
                objective.pop(name, None)


def _set(plain: dict[str, Any], path: str, below: list[str], value: Any) -> None:
    *holders, last = below
    for name in holders:
        inner = plain.get(name)
        if not isinstance(inner, dict):
            raise unknown_name("setting", path, (f"{path.partition('.')[0]}.{each}" for each in plain))
        plain = inner
    plain[last] = to_plain(value)

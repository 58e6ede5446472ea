"""A file that `harness promote` wrote: what its head says, and how its training goes on where the sweep's ended.

`harness train` trains by the recipe in the head, and what the command line says changes it. If the sweep kept the
candidate's checkpoint, that is copied to where the new trial's attempts look for their own, before the trial is
submitted: the sweep may drop its own at any moment, and no two trainings write into one folder. What begins so is, on
the CPU, bit-identical to a training from step 0; `continued_from` in its record says at which steps it went on.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.launch.attempt import shared_of
from harness.records.errors import UserError
from harness.records.plain import Plain, differences, to_plain
from harness.records.record import TrialRecord
from harness.trials.spec import TrialSpec
from harness.trials.task_config import task_of


@dataclass(frozen=True, slots=True)
class Origin:
    """What the head of a promoted file says."""

    parent: str  # the trial's key
    fingerprint: str
    checkpoints: str | None  # the folder that the sweep kept of it, below out=; None where it kept none


def origin_of(path: Path) -> Origin | None:
    """What the file's head says; None for a file that no promotion wrote."""
    text = path.read_text() if path.is_file() else ""
    parent = re.search(r"^# parent: ([0-9a-f]{16})$", text, re.MULTILINE)
    fingerprint = re.search(r"^# fingerprint: ([0-9a-f]{16})$", text, re.MULTILINE)
    if parent is None or fingerprint is None:
        return None
    checkpoints = re.search(r"^# checkpoints: (.+)$", text, re.MULTILINE)
    return Origin(parent[1], fingerprint[1], checkpoints[1] if checkpoints else None)


def settings_in(path: Path) -> dict[str, Any]:
    """What the file's head says of how it was trained, as defaults of `settings_of`: the recipe's settings, and task
    and objective where they are not the default; empty for a file that no promotion wrote."""
    text = path.read_text() if path.is_file() else ""
    whole = {name: group for name in ("task", "objective") if (group := _group_in(text, name, path))}
    return {**whole, **{f"recipe.{name}": value for name, value in _group_in(text, "recipe", path).items()}}


def _group_in(text: str, name: str, path: Path) -> dict[str, Any]:
    line = re.search(rf"^# {name}: (.*)$", text, re.MULTILINE)
    try:
        group = json.loads(line[1]) if line else {}
    except json.JSONDecodeError as error:
        raise UserError(f"the line '# {name}:' of {path} is no JSON ({error}); mend it, or take it out") from error
    if not isinstance(group, dict):
        raise UserError(f"the line '# {name}:' of {path} must be a mapping of settings, not {group!r}; take it out")
    return group


def go_on(spec: TrialSpec, origin: Origin, attempts: Path) -> str:
    """Lay the kept checkpoint where the trial, submitted to the pool in `attempts`, begins; a sentence about it."""
    from harness.training.checkpoint import copy_newest, has_checkpoints  # loads torch
    from harness.trials.run import CHECKPOINTS

    target = shared_of(attempts / spec.key) / CHECKPOINTS
    if has_checkpoints(target):
        return f"{spec.label}: goes on from its own checkpoints, which an earlier run of this command left"
    obstacle = why_not(spec, spec.store.trial(origin.parent), origin)
    if obstacle is None and origin.checkpoints is not None:
        source = spec.settings.out / origin.checkpoints
        step = copy_newest(source, target, at_most=spec.settings.recipe.steps)
        if step is not None:
            return f"{spec.label}: goes on from step {step} of trial {origin.parent}, from a copy of its checkpoint"
        obstacle = f"{source} has no whole checkpoint (any more)"
    return f"{spec.label}: trains from step 0, not from trial {origin.parent}: {obstacle}"


def why_not(spec: TrialSpec, parent: TrialRecord | None, origin: Origin) -> str | None:
    """Why the trial is no continuation of the one it was promoted from; None where it is one."""
    recipe = spec.settings.recipe
    if origin.checkpoints is None:
        return "no checkpoint of it was kept when it was promoted"
    if parent is None:
        return f"it is not in the store {spec.store.root}"
    if not recipe.is_extendable:
        return f"{recipe.named_schedule} depends on the last step"
    if parent.seed != spec.seed:
        return f"its seed is {parent.seed}"
    changed = differences(_trained_by(parent.protocol), _trained_by(spec.protocol.sections))
    if changed:
        return f"it was trained otherwise, {', '.join(map(str, changed))}"
    return None


def _trained_by(protocol: Mapping[str, Any]) -> Plain:
    """What must be equal: all that a training depends on, but for its length; how it is scored, it does not."""
    scored_by = task_of(protocol).scored_by
    sections = {name: section for name, section in protocol.items() if name not in scored_by}
    return to_plain({**sections, "recipe": {**sections.get("recipe", {}), "steps": None}})

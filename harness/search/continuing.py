"""A longer training of a promoted candidate begins where the sweep's ended, if the sweep kept its checkpoint.

The checkpoint is copied to where the new trial's attempts look for their own, before the trial is submitted: the sweep
may drop its own at any moment, and no two trainings write into one folder. What begins so is, on the CPU, bit-identical
to a training from step 0; `continued_from` in its record says at which steps it went on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.launch.attempt import shared_of
from harness.records.plain import Plain, differences, to_plain
from harness.records.record import TrialRecord
from harness.search.promote import Origin
from harness.training.checkpoint import copy_newest, has_checkpoints
from harness.trials.run import CHECKPOINTS
from harness.trials.spec import TrialSpec

TRAINING = ("data", "text", "recipe")
"""The sections of a protocol that a training depends on: how samples are drawn and scored, it does not."""


def go_on(spec: TrialSpec, origin: Origin, attempts: Path) -> str:
    """Lay the kept checkpoint where the trial, submitted to the pool in `attempts`, begins; a sentence about it."""
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
    if not recipe.begins_longer_ones:
        return f"{recipe.named_schedule} depends on the last step"
    if parent.seed != spec.seed:
        return f"its seed is {parent.seed}"
    changed = differences(_trained_by(parent.protocol), _trained_by(spec.protocol.sections))
    if changed:
        return f"it was trained otherwise, {', '.join(map(str, changed))}"
    return None


def _trained_by(protocol: Mapping[str, Any]) -> Plain:
    """What must be equal: all that a training depends on, but for its length."""
    sections = {name: protocol.get(name, {}) for name in TRAINING}
    return to_plain({**sections, "recipe": {**sections["recipe"], "steps": None}})

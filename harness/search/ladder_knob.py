"""A ladder's rungs as the values of one knob: `rung: {ladder: fig3}`."""

from collections.abc import Mapping
from typing import Any

from harness.records.errors import UserError
from harness.trials.ablation_study import read_ablation

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

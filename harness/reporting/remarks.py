"""What a training said of itself, and what its settings mean that no number shows: for the pages that it stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.records.record import TrialRecord

if TYPE_CHECKING:
    from harness.reporting.frames import Records

MOST = 6
"""Remarks that a page has in full."""


def remarks_of(record: TrialRecord) -> Sequence[str]:
    """As they were logged: a step that was left out, a discriminator that always wins."""
    return tuple(map(str, record.provenance.get("notes") or ()))


def remarks_in(records: Records, titles: Mapping[str, str]) -> list[str]:
    """`Distilled, seed 0: step 400: over the last 100 steps the discriminator ...`; beyond MOST how many more."""
    every = [
        f"{titles[name]}, seed {seed}: {remark}"
        for (name, seed), record in records.items()
        if record is not None
        for remark in remarks_of(record)
    ]
    return every if len(every) <= MOST else [*every[:MOST], f"and {len(every) - MOST} more, in the records"]


def teacher_played(record: TrialRecord) -> str:
    """That a teacher of many steps stands for one of few; empty where none does."""
    objective = record.protocol.get("objective", {})
    steps, of_teacher = objective.get("steps"), objective.get("teacher_steps", 1)
    if objective.get("kind") != "step_distillation" or objective.get("distillation_weight") == 0 or of_teacher == 1:
        return ""
    return (
        f"no teacher of few steps is used, and one of many plays it: where one of the student's {steps} steps leads, "
        f"{of_teacher} of the teacher's own are to lead"
    )


def teachers_played(records: Records, titles: Mapping[str, str]) -> list[str]:
    """`Distilled: no teacher of few steps ...`, each way once."""
    whose: dict[str, list[str]] = {}
    for (name, _), record in records.items():
        if record is not None and (text := teacher_played(record)):
            whose.setdefault(text, []).append(titles[name])
    return [f"{', '.join(dict.fromkeys(named))}: {text}" for text, named in whose.items()]

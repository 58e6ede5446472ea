"""A search's control: another sweep in the same output folder that asks the same of the same space, all at random."""

from pathlib import Path
from typing import Any

from harness.records.errors import UserError
from harness.records.manifest import study_folder
from harness.records.sweep_summary import SweepSummary
from harness.search.status import sweep_summary
from harness.search.study import DEFINITION, SAMPLERS_USED, SWEEP_FILE, StoredTrials, read_trials, studies_in


def random_arm(out: Path, name: str) -> SweepSummary | None:
    """What chance found of what the sweep OUT/NAME searches; None where no such sweep is there, or it is one itself.
    Another sweep that cannot be read is none."""
    mine = read_trials(study_folder(out, name), name, ())
    if mine is None or _is_random(mine):
        return None
    for other in studies_in(out, (SWEEP_FILE,)):
        try:
            stored = read_trials(out / other, other, ())
            if stored is not None and _is_random(stored) and _asked(stored) == _asked(mine):
                return sweep_summary(out / other, other)
        except UserError:
            continue
    return None


def _is_random(stored: StoredTrials) -> bool:
    return stored.attributes.get(SAMPLERS_USED) == ["random"]


def _asked(stored: StoredTrials) -> dict[str, Any]:
    """All that decides what a candidate scores, which are refused and which come first, but the trainings' seed."""
    definition = stored.attributes.get(DEFINITION, {})
    deciding = {
        **stored.attributes.get("began", {}),
        "enqueue": definition.get("enqueue"),
        "twin": definition.get("twin"),
    }
    limits = {name: value for name, value in definition.get("settings", {}).items() if name.startswith("limits")}
    return {name: value for name, value in deciding.items() if name != "seed"} | {"limits": limits}

"""What a sweep came to, for its page: read from its study while a driver may be writing, as `status` reads it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.launch.observe import driver_of
from harness.records.errors import UserError
from harness.records.record import Protocol
from harness.records.sweep_summary import CandidateSummary, SweepSummary
from harness.search.candidates import HOURS, Candidate, rescored_in
from harness.search.conclusions import conclude
from harness.search.pareto import front_of
from harness.search.status import StoredSweep, read_stored, reasons_of
from harness.search.study import DEFINITION, FLOOR, SAMPLERS_USED, stored_study


def sweep_summary(folder: Path, name: str) -> SweepSummary:
    """Of the sweep in this folder. Errors: UserError where it has no study, or a damaged one."""
    stored, study = read_stored(folder, name), stored_study(folder, name)
    if stored is None or study is None or "began" not in stored.attributes:
        raise UserError(f"the sweep in {folder} has no study yet; `harness sweep {name}` begins it")
    began: Mapping[str, Any] = stored.attributes["began"]
    definition: Mapping[str, Any] = stored.attributes.get(DEFINITION, {})
    driver = driver_of(folder / "attempts")
    return SweepSummary(
        name=name,
        place=stored.place,
        command=driver.command or f"harness sweep {name}",
        driver_runs=driver.runs,
        objectives=began["objectives"],
        levels=tuple(began["budgets"]),
        samplers=tuple(stored.attributes.get(SAMPLERS_USED, ())),
        seed=int(began["seed"]),
        trials=definition.get("trials"),
        candidates=tuple(map(_summary, stored.candidates)),
        front=_front(stored, began["objectives"]),
        reasons=reasons_of(stored.candidates),
        conclusions=conclude(study),
        protocol=began["protocol"],
        protocol_fingerprint=Protocol(sections=began["protocol"]).fingerprint,
        twin=definition.get("twin"),
        floor=stored.attributes.get(FLOOR),
        hours=float(stored.attributes.get(HOURS, 0.0)),
        gpu_hours=_gpu_seconds(stored) / 3600,
        report=definition.get("report"),
    )


def _summary(candidate: Candidate) -> CandidateSummary:
    """At the highest level of which the values are known; where none are, at the one where it is trained."""
    known = [level for level in candidate.levels if level.values is not None] or list(candidate.levels)
    last = known[-1] if known else None
    return CandidateSummary(
        name=candidate.name,
        state=candidate.state,
        parameters=candidate.parameters,
        steps=last.steps if last else 0,
        key=last.key if last else "",
        values=last.values if last else None,
        reason=candidate.reason,
        rung=candidate.enqueued,
    )


def _front(stored: StoredSweep, objectives: Mapping[str, Any]) -> tuple[str, ...]:
    complete = [each for each in stored.candidates if each.state == "complete" and each.levels[-1].values is not None]
    best = front_of([each.levels[-1].values or () for each in complete], tuple(objectives.values()))
    return tuple(complete[at].name for at in best)


def _gpu_seconds(stored: StoredSweep) -> float:
    fresh = [score for scores in rescored_in(stored.attributes).values() for score in scores]
    levels = [level for each in stored.candidates for level in each.levels]
    return sum(level.gpu_seconds for level in levels) + sum(score.gpu_seconds for score in fresh)

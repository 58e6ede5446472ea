"""What a sweep's trainings took: hours on accelerators where there were any, else hours of processor cores."""

from harness.records.sweep_summary import CandidateSummary
from harness.reporting.section import Frames

GPU_HOURS, CPU_HOURS = "GPU-hours", "CPU-hours"


def hours_unit(frames: Frames) -> str:
    search = frames.study.search
    return GPU_HOURS if search is not None and search.gpu_hours > 0 else CPU_HOURS


def hours_of(candidate: CandidateSummary, frames: Frames) -> float | None:
    """Of the candidate's trainings: on accelerators as the study counts them, of cores as its record does, from the
    first step on. None where nobody noted them."""
    if hours_unit(frames) == GPU_HOURS:
        return sum(level.gpu_seconds for level in candidate.levels) / 3600
    search = frames.study.search
    record = None if search is None else frames.records.get((candidate.name, search.seed))
    seconds = None if record is None else record.provenance.get("cpu_seconds")
    return None if seconds is None else float(seconds) / 3600


def cpu_hours(frames: Frames) -> float | None:
    """Of all trainings of which a record is there, the finalists' with fresh seeds among them; None where none says."""
    noted = [each.provenance.get("cpu_seconds") for each in frames.records.values() if each is not None]
    seconds = [float(each) for each in noted if each is not None]
    return sum(seconds) / 3600 if seconds else None

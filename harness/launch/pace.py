"""How fast a folder's jobs end, and when the last one may: told from the log of attempts, with what that rests on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.launch.observe import Driver, Finished, Work
from harness.records.eta import duration

WINDOW_S = 3600.0
FEWEST = 10  # so many jobs make a rate, if the driver ran long enough for them
NEWEST = 50  # a mean duration is of so many at most: machines change


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    ended: int
    hours: float  # in which they ended
    per_hour: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    seconds: float  # from now
    rests_on: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """Jobs that take about the same time: the trainings to one budget."""

    name: str  # `100 steps`
    keys: frozenset[str]  # that were ever submitted
    running: frozenset[str]  # of those
    to_come: int  # not submitted yet
    size: float = 1.0  # in proportion to which a kind without a finished job takes longer than another


def pace_of(work: Work, keys: frozenset[str], driver: Driver, now: float) -> Pace | None:
    """Of the last hour, or of the last ten jobs if those took longer; of this driver's life only. None below two."""
    ends = [job.at for job in work.finished if job.key in keys and job.at >= driver.since]
    since = max(driver.since, min([now - WINDOW_S, *ends[-FEWEST:][:1]]))
    ended = sum(at >= since for at in ends)
    hours = (now - since) / 3600
    if not driver.runs or ended < 2 or hours <= 0:
        return None
    return Pace(ended=ended, hours=hours, per_hour=ended / hours)


def estimate(work: Work, kinds: Sequence[Kind], driver: Driver, now: float) -> Estimate | str:
    """When all jobs of these kinds have ended, or why that cannot be told."""
    if not driver.runs:
        return "no driver runs"
    ended = {kind.name: [job for job in work.finished if job.key in kind.keys][-NEWEST:] for kind in kinds}
    known = {name: _mean(jobs) for name, jobs in ended.items() if jobs}
    if sum(map(len, ended.values())) < 2:
        return "fewer than 2 results"
    left: list[float] = []
    scaled = []
    for kind in kinds:
        open_ones = len(kind.running) + kind.to_come
        if open_ones and kind.name not in known:
            scaled.append(kind.name)
        mean = known.get(kind.name) or _scaled(kind, kinds, known)
        began = work.began or {}
        left += [max(0.0, mean - (now - began.get(key, now))) for key in kind.running]
        left += [mean] * kind.to_come
    seconds = max(sum(left) / max(1, driver.at_once), max(left, default=0.0))
    return Estimate(seconds=seconds, rests_on=_grounds(len(left), driver, known, scaled))


def _scaled(kind: Kind, kinds: Iterable[Kind], known: Mapping[str, float]) -> float:
    """From the largest kind that has a mean."""
    other = max((each for each in kinds if each.name in known), key=lambda each: each.size)
    return known[other.name] * kind.size / other.size


def _mean(jobs: Sequence[Finished]) -> float:
    return sum(job.seconds for job in jobs) / len(jobs)


def _grounds(left: int, driver: Driver, known: Mapping[str, float], scaled: Sequence[str]) -> str:
    means = ", ".join(f"{name or 'a job'} {duration(mean)}" for name, mean in known.items())
    more = f"; no result yet for {', '.join(scaled)}, scaled by steps" if scaled else ""
    return f"{left} to end, {driver.at_once} at once; mean so far: {means}{more}"

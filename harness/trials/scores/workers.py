"""Who makes the parts of a score: this process, or jobs of the launcher (`score` has the parts).

    OUT/score-KEY/attempts/    the workers' jobs, until the scores are there

The driver makes each score as soon as all its parts are there, and keeps it: a sweep that is killed loses only the
parts that were being made.
"""

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from harness.launch.config import DebugLauncher, LauncherConfig, SlurmLauncher, jobs_at_once, threads_of
from harness.launch.events import report_progress
from harness.launch.pool import Pool
from harness.measure.quality import say_if_fewer
from harness.processes.locks import DRIVER_LOCK, WAIT_S, DrivenError, holder
from harness.records.errors import UserError
from harness.records.eta import with_eta
from harness.records.manifest import SCORING, study_folder
from harness.records.plain import Plain, fingerprint
from harness.records.quantity import Quantity
from harness.training.device import use_threads
from harness.trials.scores.request import ScoreRequest, check_jobs, check_workers, is_sampled
from harness.trials.scores.score import Inspect, Score, Scoring
from harness.trials.scores.source import Source


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """What a worker calls: the parts that nobody else makes, until all are there."""

    request: ScoreRequest
    number: int
    of: int

    def __call__(self, attempt_folder: Path) -> Plain:
        use_threads(threads_of(self.request.settings.launcher))
        scoring = Scoring(self.request)
        parts = scoring.missing
        for done, _ in enumerate(scoring.made(scoring.scores, self.number, self.of), 1):
            report_progress(attempt_folder, "sample", done, parts)
        return parts


@dataclass(frozen=True, slots=True)
class Scored:
    source: Source
    quantities: Mapping[str, Quantity]


def scores(request: ScoreRequest, workers: int | None = None, inspect: Inspect | None = None) -> list[Scored]:
    """The scores at each point of the request's grid, from the store where it has them; of pictures at hand one.

    Made in this process, or by `workers` jobs of the launcher; by default by jobs on a cluster alone. `inspect` sees
    the scorer of each score, which is made anew for it. A point whose images are no numbers has failed; the others are
    scored.

    UserError for what cannot be scored, where jobs have nothing to do, and for a job that fails.
    """
    launcher = request.settings.launcher
    check_workers(workers)
    check_jobs(request.what, request.settings, workers)
    if workers is None and isinstance(launcher, SlurmLauncher):
        workers = jobs_at_once(launcher)
    scoring = Scoring(request if workers is None else _seen_from_here(request))
    if scoring.data is not None and is_sampled(request.what):
        say_if_fewer(request.settings.quality, scoring.data)
    if inspect is not None:
        scoring.replace_stored()
        request = replace(request, replaced=scoring.request.replaced)
    unfinished = [score for score in scoring.scores if score.stored is None]
    for score in unfinished:
        score.parts.begin()
    if workers is None:
        _make_here(scoring, unfinished, inspect)
    elif unfinished:
        _make_in_jobs(scoring, request, unfinished, workers, inspect)
    return [Scored(score.source, score.finish(inspect)) for score in scoring.scores]


def _seen_from_here(request: ScoreRequest) -> ScoreRequest:
    """As the driver of jobs needs it: where it runs there may be no such device as theirs."""
    recipe = replace(request.settings.recipe, device="auto")
    return replace(request, settings=replace(request.settings, recipe=recipe))


def _make_here(scoring: Scoring, unfinished: list[Score], inspect: Inspect | None) -> None:
    """One point after another."""
    for number, score in enumerate(unfinished, 1):
        place = f"[{number}/{len(unfinished)}] " if len(unfinished) > 1 else ""
        parts = len(score.missing)
        for _ in with_eta(scoring.made([score]), f"{place}{score.source.title}: pictures, in parts", parts):
            pass
        score.finish(inspect)


def _make_in_jobs(
    scoring: Scoring, request: ScoreRequest, unfinished: list[Score], workers: int, inspect: Inspect | None
) -> None:
    """All points at once, since a job may wait for hours until it begins."""
    parts, launcher = scoring.missing, request.settings.launcher
    if workers > max(1, parts):
        enough = max(1, parts)
        _say(f"{enough} of {workers} workers begin, one for each part of the pictures that is missing")
        workers = enough
    folder = jobs_folder(scoring)
    with _pool(folder / "attempts", launcher, workers) as pool:
        for number in range(workers):
            job = ScoreJob(request, number, workers)
            pool.submit(f"worker-{number + 1}", job, holds=lambda _: not scoring.missing)
        what = f"pictures by {launcher.kind} workers ({workers}), in parts"
        for _ in with_eta(_appearing(pool, unfinished, inspect), what, parts):
            pass
        pool.on_close.append(partial(shutil.rmtree, folder, ignore_errors=True))  # while nobody else drives it
        pool.stop(cancel=True)  # those that have not begun, and find nothing to do


def jobs_folder(scoring: Scoring) -> Path:
    """Of a request, whatever of it is there already: the jobs of a driver that was killed are found in it."""
    what = {"scores": [score.key for score in scoring.scores], "replaced": list(scoring.request.replaced)}
    return study_folder(scoring.request.settings.out, f"{SCORING}{fingerprint(what, schema='score-jobs-2')}")


def _pool(folder: Path, launcher: LauncherConfig, workers: int) -> Pool:
    """Once no other command drives these jobs: what it had made is found."""
    at_once, has_waited = None if isinstance(launcher, DebugLauncher) else workers, False
    while True:
        try:
            return Pool(folder, launcher, max_in_flight=at_once)
        except DrivenError:
            other = holder(folder / DRIVER_LOCK)
        if not has_waited:
            _say(f"process {other.get('pid')} on {other.get('host')} has these scores made; waiting for it")
        has_waited = True
        time.sleep(WAIT_S)


def _appearing(pool: Pool, unfinished: list[Score], inspect: Inspect | None) -> Iterator[None]:
    """One item a part that appears, until all scores are made."""
    waiting, before = list(unfinished), sum(len(score.missing) for score in unfinished)
    while waiting:
        runs = pool.in_flight > 0
        for outcome in pool.poll(timeout_s=1.0):
            if outcome.state == "failed":
                raise UserError(f"{outcome.key} failed: {outcome.error}")
            if outcome.state == "lost":
                _say(f"{outcome.key}: {outcome.error}; starting it again")
        for score in [score for score in waiting if not score.missing]:
            score.finish(inspect)
            waiting.remove(score)
        now = sum(len(score.missing) for score in waiting)
        yield from (None for _ in range(before - now))
        before = min(before, now)
        if waiting and not runs:
            raise UserError(f"{now} parts of pictures are gone since they were made; run the same command again")


def _say(text: str) -> None:
    print(text, file=sys.stderr)

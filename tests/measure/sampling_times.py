"""Do the last step and the times of sampling matter? One trained trial, sampled in several ways from the same noise.

`python tests/measure/sampling_times.py OUT KEY [SETTING...]` prints the table of docs/evidence/scores.md.
"""

import sys
from dataclasses import replace
from itertools import pairwise

import harness.diffusion.sampling as sampling
from harness.diffusion.solvers import solve
from harness.measure.quality import Scorer
from harness.measure.statistics import sampling_difference
from harness.trials.scores.request import ScoreRequest
from harness.trials.scores.score import Scoring
from harness.trials.settings import settings_of
from harness.trials.trained import trained_network

WAYS = [
    ("euler", 40, 1.0, False), ("euler", 19, 1.0, False), ("heun", 10, 1.0, False), ("heun", 10, 1.0, True),
    ("euler", 9, 1.0, False), ("heun", 5, 1.0, False), ("heun", 5, 1.0, True),
    ("heun", 10, 0.5, False), ("heun", 10, 2.0, False), ("euler", 10, 0.5, False), ("euler", 10, 1.0, False),
    ("euler", 10, 2.0, False), ("dpmpp_2m", 19, 1.0, False), ("dpmpp_2m", 9, 1.0, False), ("dpmpp_2m", 5, 1.0, False),
]  # fmt: skip


def to_the_end(step, v, noise, times):
    """All steps by the solver: Heun's last one asks for v(x, 0)."""
    for t, t_next in pairwise(times):
        noise = step(v, noise, t, t_next, [])
    return noise


def kid_of(scoring: Scoring):
    """Of its one point; not through the store, which knows no solver that is no setting."""
    (score,) = scoring.scores
    scorer = Scorer(scoring.reference, score.source.labels)
    for part in score.parts.ranges:
        scorer.add(score.source.read(part), part)
    return scorer.quantities()["kid"]


if __name__ == "__main__":
    out, key, *more = sys.argv[1:]
    settings, first = settings_of([f"out={out}", "count_only=false", *more]), None
    trained = trained_network(key, settings.out)
    print("| solver | steps | shift | last step | evaluations | KID | less that of the first (95%) |")
    print("|---|---|---|---|---|---|---|")
    for solver, steps, shift, all_steps in WAYS:
        config = replace(
            settings.sampling, solver=solver, steps=steps, shift=shift,
            times="uniform" if shift == 1 else "shifted", guidance_scale=1.0,
        )  # fmt: skip
        sampling.solve = to_the_end if all_steps else solve
        kid = kid_of(Scoring(ScoreRequest(what=trained, settings=settings, grid=(config,))))
        first = first or kid
        apart = sampling_difference(kid, first)
        print(
            f"| {solver} | {steps} | {shift} | {solver if all_steps else 'euler'} | {config.evaluations + all_steps} "
            f"| {kid.value:.4f} | {apart.value:.4f} ({apart.low:.4f} to {apart.high:.4f}) |",
            flush=True,
        )

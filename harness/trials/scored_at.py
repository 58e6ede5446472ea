"""At which settings of sampling an ablation scores every network that it has trained, beside its trials' own scores:
what `harness evaluate KEY --steps ... --guidance ...` does, of all of them, at several solvers.

Scores lie in the store, so that the same command scores nothing twice.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

from harness.diffusion.config import EVALUATIONS, SamplingConfig
from harness.records.errors import UserError, unknown_name
from harness.records.record import TrialRecord
from harness.trials.spec import TrialSpec
from harness.trials.trained import WEIGHTS, trained_network


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredAt:
    """Every solver with every number of steps and every guidance scale. One step is Euler's whatever the solver, and
    scored as that alone."""

    steps: tuple[int, ...]
    guidance: tuple[float, ...] = (1.0,)
    solvers: tuple[str, ...] = ("euler",)

    def __post_init__(self) -> None:
        for name in ("steps", "guidance", "solvers"):
            values = getattr(self, name)
            if len(set(values)) < max(1, len(values)):
                raise UserError(f"scored_at.{name} are different values, at least one, not {list(values)}")
        for solver in self.solvers:
            if solver not in EVALUATIONS:
                raise unknown_name("scored_at.solvers", solver, EVALUATIONS)
        self.grid(SamplingConfig())

    def grid(self, base: SamplingConfig) -> tuple[SamplingConfig, ...]:
        """UserError for what sampling refuses."""
        every = product(self.steps, self.solvers, self.guidance)
        return tuple(
            replace(base.with_guidance(scale), solver="euler" if steps == 1 else solver, steps=steps)
            for steps, solver, scale in every
            if steps > 1 or solver == self.solvers[0]
        )

    def __str__(self) -> str:
        named = {"steps": self.steps, "guidance": self.guidance, "solvers": self.solvers}
        return "; ".join(f"{name} {', '.join(f'{value}' for value in values)}" for name, values in named.items())


def score_all(at: ScoredAt, trained: Iterable[tuple[TrialSpec, TrialRecord]]) -> list[str]:
    """Of the networks that are complete. A sentence for each that could not be scored."""
    from harness.trials.scores.request import ScoreRequest
    from harness.trials.scores.workers import scores

    failures = []
    for spec, record in trained:
        if record.state != "complete" or WEIGHTS not in record.artifacts:
            continue
        network, settings = trained_network(record.key, spec.settings.out), spec.settings
        try:
            scores(ScoreRequest(what=network, settings=settings, grid=at.grid(settings.sampling)))
        except UserError as error:
            failures.append(f"{spec.label} could not be scored at other settings of sampling: {error}")
    return failures

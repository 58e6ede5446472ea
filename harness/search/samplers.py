"""Who proposes candidates. Optuna's samplers; TPE with one difference."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial


class TPE(TPESampler):
    """TPE (Watanabe, arXiv 2304.11127) to which refused candidates are bad ones, and nothing else.

    Optuna counts a refused trial like any other: among the `n_startup_trials` that are random, and in gamma(n), how
    many of the trained ones are called good. Where a limit refuses half of what is asked, it models after a handful of
    results, and calls twice as many good as it means to. Here they are no trials of the study. They are in the density
    of bad ones alone, l(x) / g(x)'s g, and so steer the sampler away from where they were.
    """

    refused: Sequence[FrozenTrial] = ()
    """With the number that the next trial of the study had when each was refused: the newest weigh most."""

    def _build_parzen_estimator(
        self, study: Any, search_space: dict[str, BaseDistribution], trials: list[FrozenTrial], handle_below: bool
    ) -> Any:
        if not handle_below:
            trials = sorted([*self.refused, *trials], key=lambda trial: trial.number)  # stable: refused, then its trial
        return super()._build_parzen_estimator(study, search_space, trials, handle_below)


SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPE(seed=seed),
    "nsga2": lambda seed: NSGAIISampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "qmc": lambda seed: QMCSampler(seed=seed, scramble=True),
}
"""A sampler that begins again with the same seed would ask for the same again: callers add the number of candidates.

All but TPE learn from nothing but results, so they do not hear of refused candidates either.
"""

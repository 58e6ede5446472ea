"""Who proposes candidates. Optuna's samplers; two of them hear of refused candidates in their own way."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
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


class GP(GPSampler):
    """Optuna's Gaussian processes (expected hypervolume improvement, constrained) that learn limits from refused
    candidates too.

    Optuna fits a limit's process to trained candidates, which all meet it; how far a refused one is beyond a limit is
    known as well, and says where the limit lies. What a rule refused has no such number and is left out. Knobs that
    exist only beside others are drawn at random: a process has one set of inputs.
    """

    refused: Sequence[FrozenTrial] = ()

    def _get_constraints_acqf_args(
        self, constraint_vals: Any, internal_search_space: Any, normalized_params: Any
    ) -> tuple[Any, Any]:
        names, count = internal_search_space._optuna_search_space.keys(), constraint_vals.shape[1]
        known = [each for each in self.refused if names <= each.params.keys() and len(each.constraints) == count]
        if known:
            values = np.array([list(each.constraints.values()) for each in known])
            constraint_vals = np.concatenate([constraint_vals, values])
            inputs = internal_search_space.get_normalized_params(known)
            normalized_params = np.concatenate([normalized_params, inputs])
        return super()._get_constraints_acqf_args(constraint_vals, internal_search_space, normalized_params)


SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPE(seed=seed),
    "gp": lambda seed: GP(seed=seed, warn_independent_sampling=False),
    "nsga2": lambda seed: NSGAIISampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "qmc": lambda seed: QMCSampler(seed=seed, scramble=True),
}
"""A sampler that begins again with the same seed would ask for the same again: callers add the number of candidates.

All but these two learn from nothing but results, so they do not hear of refused candidates either.
"""

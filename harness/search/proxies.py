"""How well a cheap score foretells a dear one: Kendall's tau with a bootstrap interval, and top-k regret.

Pure functions of columns, one number an architecture. The dear score is better where it is lower.

    tau       Kendall's tau-b of the cheap score as it is with the dear one: +1 where both order alike, -1 where a large
              cheap score goes with a small dear one, 0 where it tells nothing
    interval  percentile bootstrap over architectures: what other architectures of the same space might have given. Two
              copies of one architecture are tied in both scores, and tau-b leaves such pairs out
    regret    the dear score of the best among the k architectures that the cheap score ranks first, minus that of the
              best of all: what is lost by training those k alone
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.measure.statistics_ranks import Tau, tau

Vector: TypeAlias = NDArray[np.float64]
First: TypeAlias = Literal["smallest", "largest"]
"""Which architectures a cheap score ranks first: chosen beforehand, never from the dear score."""

TOP = (1, 3, 5)


@dataclass(frozen=True, kw_only=True, slots=True)
class CheapScore:
    """A column of the frame, and how it is to be read."""

    name: str
    first: First
    cost: str  # what must be spent to know it


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    score: CheapScore
    tau: Tau
    regrets: Mapping[int, float]  # k -> regret


def judge(frame: pd.DataFrame, dear: str, scores: Sequence[CheapScore]) -> list[Judged]:
    """Each cheap score against the column `dear`, over the architectures (rows) that have both."""
    judged = []
    for score in scores:
        both = frame[[score.name, dear]].dropna()
        cheap, truth = both[score.name].to_numpy(float), both[dear].to_numpy(float)
        ranks_first = cheap if score.first == "smallest" else -cheap
        regrets = {k: regret(ranks_first, truth, k) for k in TOP}
        judged.append(Judged(score=score, tau=tau(cheap, truth), regrets=regrets))
    return judged


def random_regrets(dear: Vector) -> dict[int, float]:
    """The regret to expect of k architectures chosen at random: a score that calls all equal."""
    return {k: regret(np.zeros(len(dear)), dear, k) for k in TOP}


def regret(cheap: Vector, dear: Vector, k: int) -> float:
    """Of the k smallest `cheap`; where ties leave open which k these are, the mean over all choices."""
    order = np.sort(cheap)
    k = min(k, len(order))
    last = order[k - 1]
    surely = dear[cheap < last]
    tied = np.sort(np.minimum(dear[cheap == last], surely.min(initial=np.inf)))
    drawn, count = k - len(surely), len(tied)
    # the smallest of `drawn` from `count` is the i-th if the others come from the count - 1 - i above it
    chances = [comb(count - 1 - i, drawn - 1) / comb(count, drawn) for i in range(count)]
    return float(np.dot(chances, tied) - dear.min())

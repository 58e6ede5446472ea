"""What a sweep concludes from its finalists: the search's values, the re-scored ones, and their ties."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class RescoredObjective:
    """One objective of one finalist."""

    search: float  # what it was chosen by
    scores: tuple[float, ...]  # one a fresh seed
    mean: float
    standard_error: float | None  # of the mean; None with one score, and where no seed changes the objective
    rank: int | None  # by the means, 1 is best; None of a finalist that is beaten
    p: Mapping[str, float] = field(default_factory=dict)  # of no difference from another finalist, corrected
    ties: tuple[str, ...] = ()  # the finalists that it is not told apart from
    equivalent: tuple[str, ...] = ()  # those of them that are proved to be within `Conclusions.margin`

    @property
    def search_minus_mean(self) -> float:
        """Below 0 where the search's value was too low: of a minimised objective, its luck."""
        return self.search - self.mean


@dataclass(frozen=True, kw_only=True, slots=True)
class Finalist:
    name: str  # `trial-7`
    parameters: Mapping[str, bool | int | float | str]  # knob -> value
    objectives: Mapping[str, RescoredObjective]
    failures: tuple[str, ...]  # why fresh trainings have no score
    trials: Mapping[int, str]  # fresh seed -> the key of its record
    on_front: bool  # no other finalist has better or equal means in all, and it is not beaten
    beaten: bool = False  # the mean of its fresh first scores is no better than the floor


@dataclass(frozen=True, kw_only=True, slots=True)
class Conclusions:
    directions: Mapping[str, Literal["minimize", "maximize"]]
    varying: tuple[str, ...]  # the objectives that a seed changes
    finalists: tuple[Finalist, ...]  # the best in the first varying objective first, those that are beaten last
    without_score: Mapping[str, tuple[str, ...]]  # candidates whose fresh trainings all failed -> why
    level: float  # 1 - the share of tables in which any false statement may stand: told apart, or called equivalent
    margin: float  # of equivalence, relative to the other's mean
    noise: Mapping[str, str]  # varying objective -> what its tests take for the noise

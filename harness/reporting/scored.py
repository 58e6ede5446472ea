"""The score sweeps in the store of what a page is about: one network's scores over guidance and steps, all else alike.

`harness evaluate KEY --guidance ... --steps ...` stores a Measurement a point, whose settings say which network, how it
was sampled, and how and against which data it was scored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.records.better import best_place
from harness.records.plain import canonical_json
from harness.records.record import Measurement
from harness.reporting.score_sweep import ScorePoint

VARIED = ("guidance_scale", "steps")
ONLY_GUIDED = ("guidance_interval", "legacy_guided_channels")
"""Settings of sampling that a scale without guidance does not have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """A trained network, of which scores are stored under its key."""

    name: str  # the subject's, or that of others' weights
    title: str
    seed: int | None  # None for others' weights
    protocol: Mapping[str, Any]  # that it was trained under
    compared: frozenset[str] = frozenset()  # paths of it that the study varies, `recipe.learning_rate`


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreSweep:
    """The stored scores of one trained network that differ in guidance and steps alone."""

    of: Scored
    measurements: tuple[Measurement, ...]  # by steps, then by guidance

    @property
    def points(self) -> list[ScorePoint]:
        return [
            ScorePoint(guidance=sampling["guidance_scale"], steps=sampling["steps"], scores=each.quantities)
            for each in self.measurements
            for sampling in [each.settings["sampling"]]
        ]

    @property
    def places(self) -> list[tuple[int, float]]:
        """(steps, guidance scale) of each point."""
        return [_place(each) for each in self.measurements]

    @property
    def shared(self) -> str:
        """What all of its points have in common, but which network they are of, as a text."""
        settings = {part: self.measurements[-1].settings[part] for part in ("sampling", "quality", "data")}
        return _fixed_of(settings)

    @property
    def conditions(self) -> Mapping[str, Any]:
        """What all of its points have in common."""
        settings = self.measurements[-1].settings
        sampling = {name: value for name, value in settings["sampling"].items() if name not in VARIED}
        return {"samples": settings["samples"], **sampling}

    @property
    def scores(self) -> list[str]:
        """The names of those that every point has, or has failed at."""
        first, *others = (each.quantities for each in self.measurements)
        return [name for name in first if all(name in each for each in others)]

    def best(self, score: str) -> Measurement | None:
        """The point that is best by a score; None where none has a value."""
        if score not in self.scores:
            return None
        place = best_place([each.quantities[score] for each in self.measurements], score)
        return None if place is None else self.measurements[place]


def score_sweeps(networks: Mapping[str, Scored], scores: Sequence[Measurement]) -> list[ScoreSweep]:
    """Those of the networks, by their keys and in their order; scores at a single point are a sweep of one."""
    alike: dict[tuple[str, str], list[Measurement]] = {}
    for each in scores:
        if each.settings["trial"] in networks:
            alike.setdefault((each.settings["trial"], _fixed(each)), []).append(each)
    order = list(networks)
    return [
        ScoreSweep(of=networks[key], measurements=tuple(sorted(group, key=_place)))
        for (key, _), several in sorted(alike.items(), key=lambda item: order.index(item[0][0]))
        for group in _with_unguided(several)
    ]


def protocol_of(sweep: ScoreSweep, measurement: Measurement) -> dict[str, Any]:
    """The protocol that the score was made under: its network's training, and how it was sampled and scored."""
    return {**sweep.of.protocol, **{part: measurement.settings[part] for part in ("data", "sampling", "quality")}}


def _fixed(measurement: Measurement) -> str:
    """What points of one sweep have in common, as a text. `sampled_by` says of a pipeline's own call what the sampling
    says, in words."""
    return _fixed_of({name: value for name, value in measurement.settings.items() if name != "sampled_by"})


def _fixed_of(settings: Mapping[str, Any]) -> str:
    sampling = {
        name: value for name, value in settings["sampling"].items() if name not in (*VARIED, *ONLY_GUIDED)
    }  # fmt: skip
    return canonical_json({**settings, "sampling": sampling})


def _with_unguided(measurements: Sequence[Measurement]) -> list[list[Measurement]]:
    """A sweep for each way of guiding that there is; points without guidance belong to all of them."""
    unguided = [each for each in measurements if each.settings["sampling"]["guidance_scale"] == 1]
    ways: dict[str, list[Measurement]] = {}
    for each in measurements:
        if each not in unguided:
            sampling = each.settings["sampling"]
            ways.setdefault(canonical_json({name: sampling.get(name) for name in ONLY_GUIDED}), []).append(each)
    return [[*unguided, *guided] for guided in ways.values()] or [unguided]


def _place(measurement: Measurement) -> tuple[int, float]:
    sampling = measurement.settings["sampling"]
    return sampling["steps"], sampling["guidance_scale"]

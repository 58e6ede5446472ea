"""A dry run of what a study would train: its networks fitted to the data, counted, held against its limits on counts.

`ablate`, `train` and `sweep` rehearse by this, each in words of its own; what the trainings that are left would take is
`harness.trials.estimates`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

from harness.architecture.config import ArchitectureConfig
from harness.architecture.latents import FULL_LATENT
from harness.records.quantity import Quantity
from harness.training.teacher import TeacherDescription
from harness.trials.computed import precision_there
from harness.trials.costs import counted
from harness.trials.estimates import Training, size_text, training_of
from harness.trials.initial import all_initial_weights
from harness.trials.limits import LatencyLimit, Limits, first_refusal
from harness.trials.prepared import prepare
from harness.trials.protocols import latents_of
from harness.trials.settings import Settings
from harness.trials.study_data import fitted_to_latents, how_to_prepare, latent_of, pictures_of
from harness.trials.teachers import described_teacher
from harness.trials.twins import Twin

Fit: TypeAlias = Callable[[ArchitectureConfig], ArchitectureConfig]
NO_TWINS: Mapping[str, Twin] = MappingProxyType({})
NOTHING_DONE = "dry run: nothing was run or written"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rehearsal:
    """By the networks' names."""

    networks: Mapping[str, ArchitectureConfig]
    """Fitted to the data."""
    side: int
    """Height and width of what they are trained on."""
    teacher: TeacherDescription | None
    """Of the objective, where it has one."""
    trainings: Mapping[str, Training]
    refused: Mapping[str, str]
    """Of those that a limit refuses, its sentence."""
    latent: str
    """What they are trained on, or counted at: `32x32x16`."""
    about_data: list[str]
    """A line where the study's data is not here, and one where a teacher has prompts to read."""
    about_limits: list[str]
    """A line for each limit that is not looked at: latency may be measured yet."""

    @property
    def left(self) -> dict[str, Training]:
        return {name: each for name, each in self.trainings.items() if name not in self.refused}


def rehearse(
    settings: Settings,
    architectures: Mapping[str, ArchitectureConfig],
    *,
    steps: int | None = None,
    twins: Mapping[str, Twin] = NO_TWINS,
) -> Rehearsal:
    """`steps`: if they are not the recipe's. `twins`: of those networks that have one. Loads the data where it is here.
    UserError for a network that cannot take it."""
    fit, side, channels, teacher = _fitting(settings)
    timed = settings if steps is None else replace(settings, recipe=replace(settings.recipe, steps=steps))
    fitted = {name: fit(each) for name, each in architectures.items()}
    latent = settings.latent or side
    reasons = {name: refusal_by_counts(one, latent, settings.limits, twins.get(name)) for name, one in fitted.items()}
    return Rehearsal(
        networks=fitted,
        side=side,
        teacher=teacher,
        trainings={name: training_of(one, side, timed, teacher) for name, one in fitted.items()},
        refused={name: reason for name, reason in reasons.items() if reason is not None},
        latent="x".join(map(str, (side, side, *channels))),
        about_data=[*([how_to_prepare(settings)] if settings.lacks_data else []), *_to_read(teacher)],
        about_limits=[
            f"limits.{name} is held where the study runs, and is not looked at here"
            for name, limit in settings.limits.items()
            if isinstance(limit, LatencyLimit)
        ],
    )


def _to_read(teacher: TeacherDescription | None) -> list[str]:
    if teacher is None or (reading := teacher.unread) is None:
        return []
    return [
        f"the teacher's text encoders read {reading.prompts:,} prompts first, once, on the CPU: about "
        f"{reading.macs / 1e12:.3g} T multiply-adds, {size_text(reading.size)} in the cache"
    ]


def _fitting(settings: Settings) -> "tuple[Fit, int, list[int], TeacherDescription | None]":
    """What fits a network to the data; the height of what it sees, and its channels, where networks see anything; and
    its teacher."""
    if settings.count_only:
        return (lambda config: config), settings.latent or FULL_LATENT, [], None
    if settings.lacks_data:
        all_initial_weights(settings)  # what is named has to be here; prompts, which decide what fits, are not
        channels, side = latent_of(settings, pictures_of(settings))
        latents = latents_of(settings.autoencoder)
        made_by = None if latents["kind"] == "pixels" else latents
        teacher = described_teacher(settings, (channels, side, side), made_by, None)
        return partial(fitted_to_latents, channels=channels), side, [channels], teacher
    recipe = replace(settings.recipe, precision=precision_there(settings)[0])  # which changes no shape
    prepared = prepare(replace(settings, recipe=recipe))
    channels, *_, side = prepared.task.shape
    return prepared.adapt_to_data, side, [channels], prepared.task.teacher


def refusal_by_counts(
    architecture: ArchitectureConfig, latent: int, limits: Limits, twin: Twin | None = None
) -> str | None:
    """The sentence for the first limit on a count that is not met; None where all are. Latency is not looked at: it
    may be measured yet."""
    held = {name: limit for name, limit in limits.items() if not isinstance(limit, LatencyLimit)}
    if not held:
        return None
    quantities: dict[str, Quantity] = {**counted(architecture, latent)}
    if twin is not None:
        quantities |= twin.named(counted(twin.architecture, twin.latent))
    return first_refusal(quantities, held)

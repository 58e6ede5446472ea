"""What all trials of a study share: the task with its data, the protocol that they make, and specs that fit."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.architecture.config import ArchitectureConfig
from harness.architecture.kinds import builder_of
from harness.architecture.latents import FULL_LATENT
from harness.architecture.unet import UNetConfig
from harness.records.errors import UserError
from harness.records.plain import canonical_json, identity
from harness.records.record import Protocol
from harness.tracking.config import check_tracker
from harness.training.device import planned_precision
from harness.training.recipe import Recipe
from harness.trials.checks import check_sizes
from harness.trials.initial import InitialWeights, all_initial_weights, initial_section, initial_weights
from harness.trials.settings import Settings
from harness.trials.spec import TrialSpec
from harness.trials.task import Task
from harness.trials.task_config import check_takes, objective_section, task_section


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    settings: Settings
    loaded: Task | None  # None where trials only count
    protocol: Protocol
    initial: InitialWeights | None = None
    """What trainings begin with, of several seeds the first's; None: random weights."""

    @property
    def task(self) -> Task:
        """With its data; asked for only where trials train."""
        if self.loaded is None:
            raise RuntimeError("a study that only counts has no data")
        return self.loaded

    @property
    def training_pictures(self) -> int:
        """How many an epoch has; 0 for counting only."""
        return 0 if self.loaded is None else self.loaded.pictures

    @property
    def samples(self) -> int:
        """How many a score is computed from; for counting only, would be."""
        return self.settings.task.scoring(self.settings).samples if self.loaded is None else self.loaded.samples

    @property
    def cost_latent(self) -> int:
        """Height and width of the latent that costs, exports and latencies are for: the setting, else the trained."""
        if self.settings.latent is not None:
            return self.settings.latent
        return FULL_LATENT if self.loaded is None else self.loaded.shape[-1]

    def adapt_to_data(self, architecture: ArchitectureConfig) -> ArchitectureConfig:
        """The architecture with what the data decides, as its channels; unchanged for counting only.

        UserError where it cannot take the data's size, the task does not train such ones, or it cannot begin with the
        weights that the settings name.
        """
        if self.loaded is None:
            return architecture
        check_takes(self.settings.task, architecture)
        if self.settings.recipe.gradient_checkpointing and not isinstance(architecture, UNetConfig):
            raise UserError(
                "recipe.gradient_checkpointing recomputes the blocks of a UNet, and "
                f"{type(architecture).__name__} is none; leave it out"
            )
        check_sizes(self.settings, architecture)
        fitted = self.loaded.fitted(architecture)
        for beginning in self._beginnings:
            beginning.check(fitted)
        return fitted

    def with_steps(self, steps: int) -> "Prepared":
        """The same study with another budget: optimiser steps. What it trains is what `recipe.steps=STEPS` trains."""
        return self.with_recipe(replace(self.settings.recipe, steps=steps))

    def with_recipe(self, recipe: Recipe) -> "Prepared":
        """The same study with another recipe."""
        return self.under(replace(self.settings, recipe=recipe))

    def with_scoring_seed(self, seed: int) -> "Prepared":
        """The same study with other draws in its scores, where they draw something: of samples, what
        `sampling.seed=SEED` scores. Training is the same."""
        if self.settings.task.scoring(self.settings).seed is None:
            return self
        return self.under(self.settings.task.with_scoring_seed(self.settings, seed))

    def under(self, settings: Settings) -> "Prepared":
        """The same data under other settings, which do not change it."""
        if self.loaded is None:
            return replace(self, settings=settings)
        task, initial = self.loaded.under(settings), self.initial
        if settings.initial != self.settings.initial:
            initial = initial_weights(settings)
        sections = protocol(settings, task, initial)
        return replace(self, settings=settings, loaded=task, initial=initial, protocol=sections)

    def of_seed(self, seed: int) -> "Prepared":
        """The same study, as the training with that seed has it."""
        if not isinstance(self.settings.initial, tuple):
            return self
        return self.under(replace(self.settings, initial=self.settings.beginning(seed)))

    @property
    def _beginnings(self) -> Sequence[InitialWeights]:
        """Of all seeds."""
        if isinstance(self.settings.initial, tuple):
            return all_initial_weights(self.settings)
        return () if self.initial is None else (self.initial,)

    @property
    def of_seeds(self) -> dict[str, Any]:
        """What a manifest says of a rung whose seeds have protocols of their own; nothing where they have one."""
        if not isinstance(self.settings.initial, tuple) or len(self.settings.initial) == 1:
            return {}
        return {"seed_protocols": tuple(self.of_seed(seed).protocol.fingerprint for seed in self.settings.seeds)}

    def spec(self, name: str, architecture: ArchitectureConfig, seed: int, **more: Any) -> TrialSpec:
        """The trial of `architecture`, fitted, with `seed`; `more` are further fields of TrialSpec."""
        own = self.of_seed(seed)
        return TrialSpec(
            name=name,
            architecture=own.adapt_to_data(architecture),
            settings=own.settings,
            latent=own.cost_latent,
            protocol=own.protocol,
            seed=seed,
            **more,
        )


def prepare(settings: Settings) -> Prepared:
    """Load the task's data, unless trials only count; refuse what would fail after hours of training."""
    check_tracker(settings.tracker)
    if settings.count_only:
        counted = Protocol(sections={"count": {"latent": settings.latent or FULL_LATENT}})
        return Prepared(settings=settings, loaded=None, protocol=counted)
    initial = initial_weights(settings)  # before the data, which takes longer
    task: Task = builder_of(settings.task)(settings)
    return Prepared(settings=settings, loaded=task, protocol=protocol(settings, task, initial), initial=initial)


def protocol(settings: Settings, task: Task, initial: InitialWeights | None = None) -> Protocol:
    """Every setting that can change a trial's result, and nothing else: contents, not paths; no `auto` precision."""
    recipe: Any = identity(settings.recipe)
    return Protocol(
        sections={
            **task_section(settings.task),
            **task.trained_on,
            **objective_section(settings.task, settings.objective),
            **initial_section(initial),
            "recipe": {**recipe, "precision": planned_precision(settings.recipe)},
            **task.scored_by,
        }
    )


def check_unchanged(planned: Protocol, prepared: Prepared) -> None:
    """Refuse to work under another protocol than the driver planned, and file the result under that.

    A worker reads the images and the text encoder anew, and its machine may compute `auto` in another precision.
    """
    now, then = prepared.protocol.sections, planned.sections
    changed = [name for name in then if canonical_json(now.get(name)) != canonical_json(then[name])]
    if not changed:
        return
    if prepared.settings.recipe.precision == "auto" and now["recipe"]["precision"] != then["recipe"]["precision"]:
        raise UserError(
            f"recipe.precision 'auto' was {then['recipe']['precision']} on the machine that began this study and is "
            f"{now['recipe']['precision']} on its worker's, {socket.gethostname()}; set recipe.precision to one of them"
        )
    raise UserError(
        f"{' and '.join(changed)} changed since this study began; run the same command again to begin with what is "
        "there now, or put the old files back"
    )

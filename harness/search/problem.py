"""What a sweep searches: knob values to architectures, architectures to trials at each budget, records to values."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import with_edits
from harness.measure.quality import samples_for
from harness.records.plain import fingerprint, identity
from harness.records.record import TrialRecord
from harness.search.gate import Gated, gate
from harness.search.halving import Losses, losses_of
from harness.search.outcome import Outcome, outcome_of
from harness.search.recipe_knobs import varied
from harness.search.scales import all_scaled
from harness.search.space import Parameters, Space
from harness.search.storage import Direction
from harness.training.recipe import Recipe
from harness.trials.outcomes import queued
from harness.trials.prepared import Prepared
from harness.trials.spec import TrialSpec
from harness.trials.twins import Twin

CHECKPOINTS = "checkpoints"
"""The folder of a sweep that keeps them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A combination of knob values, made."""

    architecture: ArchitectureConfig  # what is trained: fitted to the data
    twin: Twin | None  # what it would be where it is deployed, if the study names that
    recipe: Recipe | None = None  # how, at the lowest budget; None: as all of the sweep

    @property
    def fingerprint(self) -> str:
        """What tells candidates apart: two that train the same network alike are one, whatever their twins."""
        if self.recipe is None:
            return self.architecture.fingerprint
        trained = {"architecture": self.architecture.fingerprint, "recipe": identity(self.recipe)}
        return fingerprint(trained, schema="candidate-1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    name: str
    space: Space
    base: ArchitectureConfig  # the space's, read once
    twin_base: ArchitectureConfig | None = None  # the deployment twin's, read once
    objectives: Mapping[str, Direction]
    levels: tuple[Prepared, ...]  # one a budget, lowest first
    folder: Path  # OUT/NAME

    @property
    def steps(self) -> tuple[int, ...]:
        """Training steps of each level."""
        return tuple(level.settings.recipe.steps for level in self.levels)

    @property
    def top(self) -> int:
        return len(self.levels) - 1

    @property
    def seed(self) -> int:
        return self.levels[0].settings.seeds[0]

    @property
    def checkpoints(self) -> Path:
        """Of candidates that may be trained longer: a folder each, named by the key of its trial at the first level."""
        return self.folder / CHECKPOINTS

    @property
    def keeps_checkpoints(self) -> bool:
        """Whether a longer training, here or after a promotion, can go on from them."""
        settings = self.levels[0].settings
        return self.top > 0 or (settings.recipe.begins_longer_ones and not settings.count_only)

    def drop_checkpoints(self, keys: Iterable[str]) -> None:
        for key in keys:
            shutil.rmtree(self.checkpoints / key, ignore_errors=True)

    def point(self, parameters: Parameters) -> Point:
        """A rule that refuses the combination, its twin or its recipe, raises UserError."""
        settings = self.levels[0].settings
        made = self.levels[0].fit(with_edits(self.base, self.space.edits(parameters)))
        recipe = varied(settings.recipe, self.space.recipe(parameters)) if self.space.turns_recipe else None
        if settings.twin is None or self.twin_base is None:
            return Point(architecture=made, twin=None, recipe=recipe)
        twin = settings.twin.edited(self.twin_base, self.space.twin_edits(parameters))
        return Point(architecture=made, twin=twin, recipe=recipe)

    def prepared(self, point: Point, level: int) -> Prepared:
        """What the level's trials share, under the candidate's own recipe; the level says for how many steps."""
        found = self.levels[level]
        return found if point.recipe is None else found.trained_by(replace(point.recipe, steps=self.steps[level]))

    def gate(self, point: Point) -> Gated:
        return gate(self.levels[0], point.architecture, point.twin)

    def spec(self, name: str, point: Point, level: int) -> TrialSpec:
        """The trial that an ablation with this level's recipe would run, but its checkpoints may outlive it."""
        kept = None
        if self.keeps_checkpoints:
            kept = self.checkpoints / self.prepared(point, 0).spec(name, point.architecture, self.seed).key
        return self.prepared(point, level).spec(
            name, point.architecture, self.seed, group=self.name, checkpoints=kept, twin=point.twin
        )

    def fresh_spec(self, name: str, parameters: Parameters, number: int, *, parent: str) -> TrialSpec:
        """The top budget's trial with another seed and other samples, both of this fresh number; it re-scores the trial
        `parent`."""
        point = self.point(parameters)
        level = self.prepared(point, self.top).scored_on(number)
        return level.spec(
            name, point.architecture, number, group=self.name, parent=parent, fidelity="final", twin=point.twin
        )

    def outcome(self, record: TrialRecord) -> Outcome:
        """What the record says of the objectives."""
        return outcome_of(record, self.objectives, queued(self.levels[0].settings))

    @property
    def samples(self) -> int:
        """How many a candidate is scored on."""
        level = self.levels[-1]
        return level.settings.quality.samples if level.data is None else samples_for(level.settings.quality, level.data)

    def scaled(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """Every objective on the scale on which its distances are judged; the order stays."""
        return all_scaled(dict(zip(self.objectives, values, strict=True)), self.samples)

    def losses(self, values: tuple[float, ...]) -> Losses:
        """Lower is better, for every objective; scaled."""
        return losses_of(self.scaled(values), tuple(self.objectives.values()))

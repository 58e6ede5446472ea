"""A sweep's YAML, with the command line's settings; all that can be refused without data is refused here."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from harness.latency.backend import QueuedBackend
from harness.records.errors import UserError, unknown_name
from harness.records.plain import from_plain
from harness.search.pareto import Direction
from harness.search.searcher import SAMPLERS
from harness.search.space import Space
from harness.search.study import check_storage
from harness.trials.compose import PROTOCOL, merged, parsed
from harness.trials.settings import Settings, settings_of, study_from
from harness.trials.studies import SWEEPS, find_study, read_kind
from harness.trials.twins import DeploymentTwin, with_twin


@dataclass(frozen=True, kw_only=True, slots=True)
class Finalists:
    """Who is trained again when the search has ended, and how often."""

    most: int = 4
    """The front of the top budget; of more than so many, those an epsilon-net spreads over it."""
    each: str | None = None
    """A knob: of each of its values so many, by the front of the candidates with that value. The best learning rate of
    every rung is {each: rung, most: 1}."""
    seeds: int = 3
    """Trainings of each, with fresh seeds and fresh samples."""

    def __post_init__(self) -> None:
        if self.most < 1:
            raise UserError(f"finalists.most is at least 1, not {self.most}; leave out finalists for none")
        if self.seeds < 2:
            raise UserError(f"finalists.seeds is at least 2, not {self.seeds}: one training has no spread")


OWN_SETTINGS = (
    "trials", "sampler", "sampler_seed", "max_rejections", "budgets", "epochs", "reduction", "enqueue", "storage",
    "hours", "gpu_hours", "wait_hours", "finalists", "report",
)  # fmt: skip
"""Settings of the sweep itself that the command line may override; every other is one of config.yaml's."""

LAST_SEED = 2**31 - 1
"""NumPy takes twice as many; the number of candidates is added to it."""

YAML_SETTINGS = ("space", "objectives", "settings")
"""Those that it may not: they say which study it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepStudy:
    """`sweeps/NAME.yaml` of a sweep."""

    space: str  # search_spaces/NAME.yaml
    objectives: Mapping[str, Direction]
    """Quantity of the record -> direction."""
    sampler: str = "tpe"
    """tpe, gp, nsga2, random, qmc, or grid: every combination of the space."""
    sampler_seed: int = 0
    trials: int = 20
    """Candidates trained in total, over all runs of the command."""
    max_rejections: int = 1000
    """Candidates in a row that a rule or a limit refuses, before the sweep gives up."""
    budgets: tuple[int, ...] = ()
    """Training steps, lowest first: every candidate is trained to the lowest, the best 1 / reduction of those to the
    next, and so on. None: `recipe.steps` for all."""
    epochs: tuple[float, ...] = ()
    """Instead of `budgets`, the same in passes over the training pictures (mirrored ones are no more of them), by
    `steps_of` in the data's pictures and the recipe's batch size: `budgets` of so many steps, which trials know."""
    reduction: int = 3
    enqueue: str | None = None
    """The ablation whose rungs are the first candidates: sweeps/NAME.yaml."""
    storage: str = "sqlite"
    """sqlite, journal (for network file systems), or an RDB URL that Optuna takes."""
    hours: float | None = None
    """After so many hours of driving, over all runs, nothing more is submitted; what runs is finished."""
    gpu_hours: float | None = None
    """The same of hours on accelerators, of trainings that ended."""
    wait_hours: float = 1.0
    """Where nothing is left to train and measurements are awaited, the driver ends after so many hours without one."""
    finalists: Finalists | None = None
    """The best are trained again with fresh seeds and re-scored when the search has ended: {most: 4, seeds: 3}."""
    twin: DeploymentTwin | None = None
    """The size that costs are for, at the same point of the space: {base: thin_sdxl, latent: 128}."""
    report: str | None = None
    """reports/NAME.yaml: what `harness report` shows; null: the sweep's own name, else the default page."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of config.yaml; once it is read, the command line's among them."""

    def __post_init__(self) -> None:
        if not self.objectives:
            raise UserError("a sweep has at least one objective, e.g. objectives: {kid: minimize, macs: minimize}")
        if self.sampler not in SAMPLERS:
            raise unknown_name("sampler", self.sampler, SAMPLERS)
        check_storage(self.storage)
        for name, low in (("trials", 1), ("max_rejections", 1), ("reduction", 2)):
            if getattr(self, name) < low:
                raise UserError(f"{name} is at least {low}, not {getattr(self, name)}")
        if not 0 <= self.sampler_seed <= LAST_SEED:
            raise UserError(f"sampler_seed is a whole number from 0 to {LAST_SEED}, not {self.sampler_seed}")
        for name in ("hours", "gpu_hours"):
            if (limit := getattr(self, name)) is not None and limit <= 0:
                raise UserError(f"{name} is above 0, or null for no limit, not {limit:g}")
        if self.wait_hours < 0:
            raise UserError(f"wait_hours is at least 0, not {self.wait_hours:g}")
        if any(low >= high for low, high in zip((0, *self.budgets), self.budgets, strict=False)):
            raise UserError(f"budgets are numbers of training steps, each above the last, not {list(self.budgets)}")
        if any(not low < high < math.inf for low, high in zip((0, *self.epochs), self.epochs, strict=False)):
            raise UserError(f"epochs are numbers above 0, each above the last, not {list(self.epochs)}")
        if self.budgets and self.epochs:
            raise UserError(
                f"budgets {list(self.budgets)} and epochs {list(self.epochs)} both say how long candidates are "
                "trained; leave out one of them, budgets=[] or epochs=[]"
            )

    @property
    def says_how_long(self) -> bool:
        """Whether the sweep does, and not the recipe."""
        return bool(self.budgets or self.epochs)

    def budgets_for(self, pictures: int, batch_size: int) -> tuple[int, ...]:
        """The budgets in steps, for data of so many training pictures; none where the recipe says how long. UserError
        where two numbers of epochs are one number of steps."""
        steps = self.budgets or tuple(steps_of(each, pictures, batch_size) for each in self.epochs)
        if len(set(steps)) < len(steps):
            raise UserError(
                f"epochs {list(self.epochs)} of {pictures:,} pictures in batches of {batch_size:,} are "
                f"{list(steps)} steps, and budgets differ; give fewer, or larger ones"
            )
        return steps


def steps_of(epochs: float, pictures: int, batch_size: int) -> int:
    """The number of steps nearest to so many epochs, half a step up, at least one: 120 epochs of 1,281,167 pictures in
    batches of 1,024 are 150,137."""
    return max(1, math.floor(epochs * pictures / batch_size + 0.5))


def sweep_study(name: str, overrides: Sequence[str]) -> tuple[SweepStudy, Settings]:
    """sweeps/NAME.yaml with its own settings of the command line, and the other settings; both have one twin."""
    typed = parsed(overrides)
    for key in typed:
        _check_key(key, name)
    of_sweep = {key: value for key, value in typed.items() if _is_own(key)}
    content, file = read_kind("sweep", name), find_study(SWEEPS, name)
    definition = study_from(SweepStudy, content, file)
    if of_sweep:
        definition = from_plain(SweepStudy, _overridden(content, of_sweep))
    others = [text for text in overrides if not _is_own(text.split("=")[0].strip(" +"))]
    settings = settings_of(others, with_twin(definition.settings, definition.twin), file=file)
    chosen = merged(dict(definition.settings), parsed(others))
    return replace(definition, twin=settings.twin, settings=chosen), settings


def _check_key(key: str, name: str) -> None:
    """Refuse what belongs to the YAML, and what is neither the sweep's nor one of the settings."""
    outer = key.split(".")[0]
    if outer in YAML_SETTINGS:
        raise UserError(
            f"'{outer}' stands in the YAML of the sweep {name}, since another {outer} is another study; copy the file, "
            "change it there, and run the copy: harness sweep COPY.yaml"
        )
    if outer not in (names := (*OWN_SETTINGS, PROTOCOL, *(each.name for each in fields(Settings)))):
        raise unknown_name("setting", key, names)


def _is_own(key: str) -> bool:
    return key.split(".")[0] in OWN_SETTINGS


def _overridden(content: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """The study's content with `trials`, and with `finalists.seeds` inside its mapping `finalists`."""
    overridden = dict(content)
    for key, value in typed.items():
        outer, _, inner = key.partition(".")
        if inner and not isinstance(overridden.get(outer) or {}, Mapping):
            raise unknown_name("setting", key, OWN_SETTINGS)
        overridden[outer] = {**(overridden.get(outer) or {}), inner: value} if inner else value
    return overridden


def check_objectives(objectives: Iterable[str], measured: Sequence[str]) -> None:
    """Refuse an objective that no trial of these settings will have, before any is trained."""
    for name in objectives:
        if name not in measured:
            raise unknown_name("objective", name, measured)


def check_queues(objectives: Iterable[str], queued: Mapping[str, QueuedBackend]) -> None:
    """Refuse an objective that a queue brings, where there is none to ask."""
    for name in objectives:
        if name in queued and (obstacle := queued[name].obstacle()) is not None:
            raise UserError(f"the objective {name} {obstacle.reason}")


def definition_of(name: str, overrides: Sequence[str]) -> tuple[SweepStudy, Settings]:
    """sweeps/NAME.yaml with the command line's settings; all that can be refused without data is refused here."""
    from harness.trials.outcomes import (  # loads torch, and a mistyped word needs none
        learnt,
        quantity_names,
        queued_backends,
    )

    definition, settings = sweep_study(name, overrides)
    if len(settings.seeds) != 1:
        raise UserError(f"a sweep trains each candidate once; give one seed: seeds=[0], not {list(settings.seeds)}")
    check_objectives(definition.objectives, quantity_names(settings))
    check_queues(definition.objectives, queued_backends(settings))
    if definition.says_how_long:
        _check_budgets(definition, settings, "recipe.steps" in {**definition.settings, **parsed(overrides)})
    of_training = learnt(settings)
    if definition.finalists is not None and not set(definition.objectives) & set(of_training):
        raise UserError(
            f"finalists are trained again for objectives that a seed changes ({', '.join(of_training)}), and this "
            f"sweep has {', '.join(definition.objectives)}; leave out finalists"
        )
    if definition.gpu_hours is not None and settings.recipe.device == "cpu":
        raise UserError("gpu_hours counts hours on accelerators, and recipe.device is cpu; limit hours instead")
    return definition, settings


def check_finalists(definition: SweepStudy, space: Space) -> None:
    each = None if definition.finalists is None else definition.finalists.each
    if each is not None and each not in space.knobs:
        raise unknown_name("knob in finalists.each:", each, space.knobs)


def check_epochs(definition: SweepStudy, space: Space) -> None:
    """Refuse epochs where candidates differ in their batch size: each would have budgets of its own."""
    turning = [name for name, knob in space.knobs.items() if "batch_size" in knob.of_recipe]
    if definition.epochs and turning:
        raise UserError(
            f"epochs {list(definition.epochs)} are steps by the recipe's batch size, and the knob '{turning[0]}' turns "
            "it; give budgets in steps"
        )


def _check_budgets(definition: SweepStudy, settings: Settings, steps_given: bool) -> None:
    name, given = ("budgets", definition.budgets) if definition.budgets else ("epochs", definition.epochs)
    if settings.count_only:
        raise UserError(f"{name} say how long to train, and count_only trains nothing; leave out one of them")
    if steps_given:
        raise UserError(
            f"this sweep's {name} {list(given)} say how long candidates are trained, not the recipe; leave out "
            f"recipe.steps, or give {name}=[NUMBER,...] instead"
        )
    if len(given) > 1 and not settings.recipe.is_extendable:
        raise UserError(
            f"{settings.recipe.named_schedule} depends on the last step, so a shorter training is no "
            "beginning of a longer one; give one budget, or recipe.schedule=constant recipe.cooldown=0"
        )

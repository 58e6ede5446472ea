"""A sweep's YAML, with the command line's settings; all that can be refused without data is refused here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import optuna

from harness.latency.backend import QueuedBackend
from harness.records.errors import UserError, unknown_name
from harness.records.plain import canonical_json, differences, from_plain, to_plain
from harness.search.pareto import Direction
from harness.search.searcher import SAMPLERS
from harness.search.space import Space
from harness.search.study import SAMPLERS_USED, check_storage
from harness.trials.compose import parsed
from harness.trials.settings import Settings, settings_of
from harness.trials.studies import read_kind
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
    "trials", "sampler", "sampler_seed", "max_rejections", "budgets", "reduction", "enqueue", "storage", "hours",
    "gpu_hours", "wait_hours", "finalists", "report",
)  # fmt: skip
"""Settings of the sweep itself that the command line may override; every other is one of config.yaml's."""

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
    """Where nothing is left to train and measurements are awaited, the driver ends after so many hours without news."""
    finalists: Finalists | None = None
    """The best are trained again with fresh seeds and re-scored when the search has ended: {most: 4, seeds: 3}."""
    twin: DeploymentTwin | None = None
    """The size that costs are for, at the same point of the space: {base: thin_sdxl, latent: 128}."""
    report: str | None = None
    """reports/NAME.yaml: what `harness report` shows; null: the sweep's own name, else the default page."""
    settings: Mapping[str, Any] = field(default_factory=dict)  # overrides of config.yaml

    def __post_init__(self) -> None:
        if not self.objectives:
            raise UserError("a sweep has at least one objective, e.g. objectives: {kid: minimize, macs: minimize}")
        if self.sampler not in SAMPLERS:
            raise unknown_name("sampler", self.sampler, SAMPLERS)
        check_storage(self.storage)
        for name, low in (("trials", 1), ("max_rejections", 1), ("reduction", 2)):
            if getattr(self, name) < low:
                raise UserError(f"{name} is at least {low}, not {getattr(self, name)}")
        for name in ("hours", "gpu_hours"):
            if (limit := getattr(self, name)) is not None and limit <= 0:
                raise UserError(f"{name} is above 0, or null for no limit, not {limit:g}")
        if self.wait_hours < 0:
            raise UserError(f"wait_hours is at least 0, not {self.wait_hours:g}")
        if any(low >= high for low, high in zip((0, *self.budgets), self.budgets, strict=False)):
            raise UserError(f"budgets are numbers of training steps, each above the last, not {list(self.budgets)}")


def sweep_study(name: str, overrides: Sequence[str]) -> tuple[SweepStudy, Settings]:
    """sweeps/NAME.yaml with its own settings of the command line, and the other settings."""
    given = parsed(overrides)
    for key in given:
        _check_key(key, name)
    own = {key: value for key, value in given.items() if _is_own(key)}
    definition = from_plain(SweepStudy, _overridden(read_kind("sweep", name), own))
    others = [text for text in overrides if not _is_own(text.split("=")[0].strip())]
    return definition, settings_of(others, with_twin(definition.settings, definition.twin))


def _check_key(key: str, name: str) -> None:
    """Refuse what belongs to the YAML, and what is neither the sweep's nor one of the settings."""
    outer = key.split(".")[0]
    if outer in YAML_SETTINGS:
        raise UserError(
            f"'{outer}' stands in the YAML of the sweep {name}, since another {outer} is another study; copy the file, "
            "change it there, and run the copy: harness sweep COPY.yaml"
        )
    if outer not in (known := (*OWN_SETTINGS, *(each.name for each in fields(Settings)))):
        raise unknown_name("setting", key, known)


def _is_own(key: str) -> bool:
    return key.split(".")[0] in OWN_SETTINGS


def _overridden(content: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The study's content with `trials`, and with `finalists.seeds` inside its mapping `finalists`."""
    found = dict(content)
    for key, value in own.items():
        outer, _, inner = key.partition(".")
        found[outer] = {**(found.get(outer) or {}), inner: value} if inner else value
    return found


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


def check_unchanged(study: optuna.Study, now: Mapping[str, Any]) -> None:
    """Refuse to go on where the space, the objectives or the protocol are not those that the study began with."""
    began, plain = study.user_attrs.get("began"), to_plain(now)
    if began is None:
        study.set_user_attr("began", plain)
        return
    for part, before in began.items():
        after = plain[part] if isinstance(plain, dict) else None
        if canonical_json(before) != canonical_json(after):
            raise UserError(
                f"the {part} changed since this sweep began: {', '.join(map(str, differences(before, after)))}; "
                "put it back, or begin a new sweep under another name or out=FOLDER"
            )


def note_sampler(study: optuna.Study, sampler: str) -> None:
    """Another sampler may take over while a study goes on; how its candidates were chosen stays known."""
    if sampler not in samplers_used(study):
        study.set_user_attr(SAMPLERS_USED, [*samplers_used(study), sampler])


def samplers_used(study: optuna.Study) -> list[str]:
    return list(study.user_attrs.get(SAMPLERS_USED, ()))


def definition_of(name: str, overrides: Sequence[str]) -> tuple[SweepStudy, Settings]:
    """sweeps/NAME.yaml with the command line's settings; all that can be refused without data is refused here."""
    from harness.trials.outcomes import (  # loads torch, and a mistyped word needs none
        LEARNT,
        quantity_names,
        queued_backends,
    )

    definition, settings = sweep_study(name, overrides)
    if len(settings.seeds) != 1:
        raise UserError(f"a sweep trains each candidate once; give one seed: seeds=[0], not {list(settings.seeds)}")
    check_objectives(definition.objectives, quantity_names(settings))
    check_queues(definition.objectives, queued_backends(settings))
    if definition.budgets:
        _check_budgets(definition, settings, "recipe.steps" in {**definition.settings, **parsed(overrides)})
    if definition.finalists is not None and not set(definition.objectives) & set(LEARNT):
        raise UserError(
            f"finalists are trained again for objectives that a seed changes ({', '.join(LEARNT)}), and this sweep has "
            f"{', '.join(definition.objectives)}; leave out finalists"
        )
    if definition.gpu_hours is not None and settings.recipe.device == "cpu":
        raise UserError("gpu_hours counts hours on accelerators, and recipe.device is cpu; limit hours instead")
    return definition, settings


def check_finalists(definition: SweepStudy, space: Space) -> None:
    each = None if definition.finalists is None else definition.finalists.each
    if each is not None and each not in space.knobs:
        raise unknown_name("knob in finalists.each:", each, space.knobs)


def _check_budgets(definition: SweepStudy, settings: Settings, steps_given: bool) -> None:
    if settings.count_only:
        raise UserError("budgets are training steps, and count_only trains nothing; leave out one of them")
    if steps_given:
        raise UserError(
            f"this sweep's budgets {list(definition.budgets)} say how long candidates are trained, not the recipe; "
            "leave out recipe.steps, or give budgets=[STEPS,...] instead"
        )
    if len(definition.budgets) > 1 and not settings.recipe.is_extendable:
        raise UserError(
            f"{settings.recipe.named_schedule} depends on the last step, so a shorter training is no "
            "beginning of a longer one; give one budget, or recipe.schedule=constant recipe.cooldown=0"
        )

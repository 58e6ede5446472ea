"""The sweep's YAML, and the Optuna study it becomes."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna

from harness.records.errors import UserError, unknown_name
from harness.records.plain import Plain, canonical_json, to_plain
from harness.records.store import unwritable

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepStudy:
    """`sweeps/NAME.yaml` of a sweep."""

    space: str  # search_spaces/NAME.yaml
    objectives: Mapping[str, Direction]  # quantity of the record -> direction
    sampler: str = "tpe"
    sampler_seed: int = 0
    trials: int = 20  # candidates trained in total, over all runs of the command
    max_rejections: int = 1000  # candidates in a row that a rule or a limit refuses, before the sweep gives up
    settings: Mapping[str, Any] = field(default_factory=dict)  # overrides of config.yaml

    def __post_init__(self) -> None:
        if not self.objectives:
            raise UserError("a sweep has at least one objective, e.g. objectives: {kid: minimize, macs: minimize}")
        if self.sampler not in SAMPLERS:
            raise unknown_name("sampler", self.sampler, SAMPLERS)
        for name, value in (("trials", self.trials), ("max_rejections", self.max_rejections)):
            if value < 1:
                raise UserError(f"{name} is at least 1, not {value}")


SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
}


def open_study(path: Path, name: str, definition: SweepStudy) -> optuna.Study:
    """The study in the SQLite file `path`, made if it is not there."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # metric names; optuna is pinned
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        study = optuna.create_study(
            storage=optuna.storages.RDBStorage(f"sqlite:///{path.absolute()}"),
            study_name=name,
            directions=list(definition.objectives.values()),
            load_if_exists=True,
        )
    except Exception as error:  # whatever SQLAlchemy raises of a file that it cannot open, read or write
        raise UserError(
            f"cannot open the study {path}: {str(error).splitlines()[0]}; free space, move a damaged file away, or "
            "choose another place with out=FOLDER"
        ) from error
    # a sampler that starts from the same seed again would ask for the same candidates again
    study.sampler = SAMPLERS[definition.sampler](definition.sampler_seed + len(study.trials))
    if study.metric_names is None:  # other names than it began with are `check_unchanged`'s to refuse
        study.set_metric_names(list(definition.objectives))
    return study


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, a study file that cannot be written any more (a full disk) is a UserError."""
    try:
        yield
    except optuna.exceptions.StorageInternalError as error:
        why = str(error.__cause__ or error).splitlines()[0]
        raise UserError(f"cannot write {path}: {why}; free some space and run the same command again") from error


def candidate_name(number: int) -> str:
    """What people call the candidate of Optuna's trial `number`."""
    return f"trial-{number}"


def check_objectives(objectives: Iterable[str], measured: Sequence[str]) -> None:
    """Refuse an objective that no trial of these settings will have, before any is trained."""
    for name in objectives:
        if name not in measured:
            raise unknown_name("objective", name, measured)


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
                f"the {part} changed since this sweep began: {_changes(before, after)}; "
                "put it back, or begin a new sweep under another name or out=FOLDER"
            )


def _changes(before: Plain, after: Plain, path: str = "") -> str:
    """`knobs.ffn.choices: [2, 3] -> [2, 4]`: the places that differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        return ", ".join(_changes(before.get(key), after.get(key), f"{path}.{key}" if path else key) for key in keys)
    return f"{path}: {before} -> {after}"

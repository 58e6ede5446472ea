"""What each stage is trained by, as overrides of config.yaml: the chain's, then what an earlier stage hands on, then
the stage's own, then the command line's.

    search      the chain's
    train       those that the promotion wrote, or the chain's
    teacher     the chain's
    distil      train's, taught by the teacher's network, beginning with train's weights
    decoder     those of the chain's that are of a decoder's training, where it is trained
    few_steps   train's, by the teacher's or its own steps, beginning with distil's weights, or train's; sampled as it
                is trained for

A key that is not known yet stands as `KEY`.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.chain.definition import SWEEP, ChainStudy
from harness.records.errors import UserError
from harness.records.plain import canonical_json
from harness.search.definition import SweepStudy
from harness.trials.compose import merged, parsed
from harness.trials.promoted import LONGER, OF_MACHINE, OF_TRAINING
from harness.trials.settings import OWN_STEPS, study_from
from harness.trials.studies import read_kind
from harness.trials.task_config import DecodeConfig, groups_of_tasks

KEY = "KEY"
GUIDANCE = ("guidance_scale", "guidance_interval")
SAMPLED = tuple(f"sampling.{name}" for name in (*OWN_STEPS, *GUIDANCE))
"""Settings of sampling that a student of step distillation has of its own."""
OF_TWIN = ("twin", "limits.twin.")
Keys = Mapping[str, Mapping[int, str]]
"""Stage -> seed -> the key of its trial, as far as they are known."""


def searched(study: ChainStudy) -> dict[str, Any]:
    """The sweep's YAML: the one that is named, if one is, with what stands beside the name. It trains with one seed."""
    search = dict(study.stages["search"] or {})
    named = search.pop(SWEEP, None)
    content = dict(read_kind("sweep", str(named))) if named is not None else {}
    own, of_sweep = dict(search.pop("settings", None) or {}), dict(content.pop("settings", None) or {})
    content = {**content, **search}
    for shared in (study.settings, own, study.said.get("search", {})):
        of_sweep = merged(of_sweep, shared)
    if content.get("budgets") or content.get("epochs"):  # they say how long, not the recipe
        of_sweep.pop("recipe.steps", None)
    seeds = of_sweep.get("seeds", [0])
    of_sweep["seeds"] = own.get("seeds", list(seeds)[:1] if isinstance(seeds, list | tuple) else seeds)
    return {**content, "report": None, "settings": of_sweep}


def sweep_of(study: ChainStudy, file: Path) -> SweepStudy:
    """The same, read. UserError names the chain's file."""
    return study_from(SweepStudy, searched(study), file)


def expected(study: ChainStudy, file: Path) -> dict[str, Any]:
    """What a promotion would write, before there is one."""
    search = sweep_of(study, file)
    settings = {key: value for key, value in search.settings.items() if _is_of_training(key)}
    steps = search.budgets[-1] if search.budgets else settings.get("recipe.steps")
    return settings if steps is None else {**settings, "recipe.steps": LONGER * steps}


def trained_by(study: ChainStudy, stage: str, promoted: Mapping[str, Any] | None, keys: Keys) -> dict[str, Any]:
    """`promoted`: the settings that the promotion wrote, or would; None for a chain without one."""
    said = study.said.get(stage, {})
    if stage == "teacher":
        settings = _merged(study.settings, study.own(stage), said)
        return {**settings, "seeds": study.own(stage).get("seeds", _first_seed(study))}
    if stage == "decoder":
        return _merged(_of_decoding(study.settings), {"task": "decode"}, study.own(stage), _of_decoding(said))
    here = {key: each for key, each in study.settings.items() if key in OF_MACHINE or not _is_of_training(key)}
    anywhere = {key: each for key, each in (promoted or {}).items() if key not in OF_MACHINE}
    of_train = study.settings if promoted is None else merged(anywhere, here)  # a chain is of one machine
    of_train = _merged(of_train, study.own("train"))
    if stage == "train":
        return _merged(of_train, said)
    before = "distil" if stage == "few_steps" and "distil" in study.stages else "train"
    networks = keys.get(before, {0: KEY})
    taught_by = keys.get("teacher" if "teacher" in study.stages else "train", {0: KEY})
    if stage == "few_steps":
        of_train = {key: value for key, value in of_train.items() if key not in SAMPLED}
    kind = "distillation" if stage == "distil" else "step_distillation"
    handed = {"objective": kind, "objective.teacher.name": _first(taught_by), "initial": _first(networks)}
    settings = _merged(of_train, handed, study.own(stage), said)
    if settings["initial"] == _first(networks) and len(networks) > 1:
        seeds = settings.get("seeds", [0])
        check_seeds(seeds, before, networks)
        settings["initial"] = [networks[seed] for seed in seeds] if len(seeds) > 1 else networks[seeds[0]]
    return settings


def check_seeds(seeds: Sequence[int], before: str, others: Collection[int]) -> None:
    """Each seed goes on from its own network, or all from the only one. UserError for one that has none."""
    if len(others) > 1 and (lacking := [seed for seed in seeds if seed not in others]):
        raise UserError(
            f"seed {lacking[0]} goes on from the network of stage {before} with that seed, which has the seeds "
            f"{', '.join(map(str, others))}; give seeds of these"
        )


def _first(of_seeds: Mapping[int, str]) -> str:
    return next(iter(of_seeds.values()))


def _merged(first: Mapping[str, Any], *others: Mapping[str, Any]) -> dict[str, Any]:
    """The later wins. A deployment twin is of the search alone: a training edits nothing."""
    settings = merged(first, {})
    for other in others:
        settings = merged(settings, other)
    return {key: value for key, value in settings.items() if not key.startswith(OF_TWIN)}


def _of_decoding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is said of networks that are sampled from."""
    others = {*groups_of_tasks(), "objective", "initial"} - set(DecodeConfig.groups)
    return {key: value for key, value in settings.items() if key.split(".")[0] not in others}


def _first_seed(study: ChainStudy) -> list[int]:
    seeds = {**study.settings, **study.said.get("teacher", {})}.get("seeds", [0])
    return list(seeds)[:1] if isinstance(seeds, list | tuple) and seeds else seeds


def _is_of_training(key: str) -> bool:
    return key.split(".")[0] in (*OF_TRAINING, "protocol")


def words_of(settings: Mapping[str, Any], groups: Sequence[str]) -> list[str]:
    """`key=value`, of the settings of these groups, as a command line has them."""
    return [_word(key, value) for key, value in settings.items() if key.split(".")[0] in groups]


def _word(key: str, value: Any) -> str:
    """The plainest form that is read as this value."""
    plain = "null" if value is None else value if isinstance(value, str) else canonical_json(value)
    for text in (plain, canonical_json(value).replace('"', ""), canonical_json(value)):
        try:
            if canonical_json(parsed([f"{key}={text}"])[key]) == canonical_json(value):
                return f"{key}={text}"
        except UserError:
            continue
    raise UserError(f"{key}: {value!r} cannot be written on a command line; choose another value")

"""What `harness promote` writes: an architecture, where it comes from, and how it is to be trained. And how its
training goes on where the sweep's ended.

    origin:         {study, name, trial, seed, fingerprint, commit, latent, checkpoints, trained_on,
                     promotion}
    settings:       overrides of config.yaml, as a study's are: data, recipe, or a protocol
    architecture:   whole

`harness train FILE` trains by these settings, and what the command line says changes them. They are the study's own,
with the candidate's recipe and `LONGER` times its steps; or, of a trial under a protocol for searching, those of the
protocol that this one stands in for (`FULL_TRAINING`). What the trial was trained on is in `trained_on`, and a training
on other data that nobody asked for is refused: settings are words and paths, and a study may not have written its own.

If the sweep kept the candidate's checkpoint, that is copied to where the new trial's attempts look for their own,
before the trial is submitted: the sweep may drop its own at any moment, and no two trainings write into one folder.
What begins so is, on the CPU, bit-identical to a training from step 0; `continued_from` in its record says at which
steps it went on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from harness.launch.attempt import shared_of
from harness.records.errors import UserError, of_file
from harness.records.manifest import Promotion
from harness.records.plain import Plain, differences, fingerprint, from_plain, identity, to_plain
from harness.records.record import KEY, TrialRecord
from harness.records.yaml_text import read_yaml, write_yaml
from harness.trials.compose import PROTOCOL, merged, parsed, protocol_lines
from harness.trials.initial import INITIAL
from harness.trials.protocols import differing_settings, protocol_name_of
from harness.trials.settings import settings_of
from harness.trials.spec import TrialSpec
from harness.trials.task_config import task_of

FULL_TRAINING = {"quick": "fig3"}
"""A protocol for searching -> the one that full training has. What was searched under another is trained by its own."""
LONGER = 8
"""Times the steps of the search, unless a protocol says how many: as `fig3_long` is to `fig3`."""
OF_TRAINING = (
    "task", "objective", "initial", "data", "autoencoder", "text", "recipe", "sampling", "quality", "latency", "coreml",
    "parallel",
)  # fmt: skip
"""The groups of a study's settings that a promotion takes along; the others say where and how its jobs run."""

GROUP_OF = {"data": "data", "text": "text", "teacher": "objective", "initial": "initial"}
"""Section of a protocol that says on what was trained -> the group of settings that chooses it."""
OF_MACHINE = ("recipe.device", "recipe.data_workers", "recipe.micro_batch")
"""Settings that are none of the training: where it is computed, and how that is cut."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    trial: str = ""
    """Its key; empty in a file that is of no trial, and says how a network is trained."""
    fingerprint: str
    """Of the architecture: another one than the file's says that the file was edited since."""
    study: str = ""
    name: str = ""
    seed: int | None = None
    commit: str = ""
    """Of the code that trained it."""
    latent: int | None = None
    """Height and width of what it was trained on."""
    checkpoints: str | None = None
    """The folder that the sweep kept of it, below `out`; null where it kept none."""
    trained_on: Mapping[str, str] = field(default_factory=dict)
    """Of its protocol's sections that `GROUP_OF` has, the fingerprints (`trained_on`); without one for which whoever
    promoted it asked otherwise."""

    promotion: Promotion = field(default_factory=Promotion)
    """By what it was chosen, which its page says."""

    def __post_init__(self) -> None:
        """A file may be anybody's, and a name in it no way out of the study's folder."""
        if self.trial and not KEY.fullmatch(self.trial):
            raise UserError(f"origin.trial is the key of a trial, 16 digits from 0 to f, not {self.trial!r}")
        place = PurePosixPath(self.checkpoints or "none")
        if place.is_absolute() or ".." in place.parts:
            raise UserError(f"origin.checkpoints is a folder below that of out=, not {self.checkpoints!r}")

    def under(self, overrides: Sequence[str]) -> "Origin":
        """Where the command line chooses other data or prompts: of those nothing is asked."""
        groups = {key.split(".")[0] for key in parsed(overrides)}
        dropped = {section for section, group in GROUP_OF.items() if group in groups}
        dropped |= {"text"} if "data" in groups else set()
        return replace(self, trained_on={name: it for name, it in self.trained_on.items() if name not in dropped})

    def check_trained_on(self, sections: Mapping[str, Any]) -> None:
        """UserError for a training on what the trial was not trained on."""
        now = trained_on(sections)
        if other := [name for name, fingerprint in self.trained_on.items() if now.get(name) != fingerprint]:
            raise UserError(
                f"by these settings {' and '.join(other)} would not be what trial {self.trial} was trained on; give "
                f"{GROUP_OF[other[0]]}=NAME with its settings as that trial's study had them, or as they are to be "
                "instead"
            )


def trained_on(sections: Mapping[str, Any]) -> dict[str, str]:
    return {name: fingerprint(sections[name], schema="trained-on-1") for name in GROUP_OF if name in sections}


@dataclass(frozen=True, kw_only=True, slots=True)
class Promoted:
    """The file."""

    origin: Origin | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    architecture: Any = None


def promoted_in(path: Path) -> Promoted:
    """What the file says; of one that no promotion wrote, nothing. UserError for one that was edited and is none."""
    content = read_yaml(path) if path.suffix in (".yaml", ".yml") and path.is_file() else None
    if not isinstance(content, Mapping) or "origin" not in content:
        return Promoted()
    with of_file(path):
        return from_plain(Promoted, content)


def written(origin: Origin, settings: Mapping[str, Any], architecture: Any, head: Sequence[str]) -> str:
    """The file's text, under these lines; `promoted_in` reads it."""
    fields = {name: value for name, value in _mapping(origin).items() if value not in (None, "", {}, [])}
    lines = "".join(f"# {line}\n" for line in head)
    return (
        lines
        + write_yaml({"origin": fields, "settings": dict(settings)})
        + write_yaml({"architecture": architecture}, flow=None)
    )


def _mapping(origin: Origin) -> dict[str, Any]:
    plain: Any = to_plain(origin)
    return dict(plain)


def training_settings(record: TrialRecord, chosen: Mapping[str, Any], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """By which a promoted trial is trained. `chosen`: its study's own settings, where they are known; `overrides`: the
    command line's, which the last word is. UserError for settings that there are not."""
    _check_data_is_known(record, chosen, overrides)
    own = _chosen(record, chosen)
    full = FULL_TRAINING.get(protocol_name_of(record.protocol).split(",")[0])
    settings = _longer(trial_settings(record, chosen)) if full is None else _under(full, record, own)
    settings, said = {"parallel": "ddp", **settings}, parsed(overrides)
    if said:
        settings = merged(settings, said)
    settings = on_any_machine(settings) | {key: said[key] for key in OF_MACHINE if key in said}
    settings_of((), settings)
    groups = (PROTOCOL, *OF_TRAINING)
    return {key: settings[key] for key in sorted(settings, key=lambda each: groups.index(each.split(".")[0]))}


def on_any_machine(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without what suited the machine of the search; on a device that the one that trains has."""
    return {key: value for key, value in settings.items() if key not in OF_MACHINE} | {"recipe.device": "auto"}


def _check_data_is_known(record: TrialRecord, chosen: Mapping[str, Any], overrides: Sequence[str]) -> None:
    said = {key.split(".")[0] for key in parsed(overrides)}
    if not chosen and "data" in record.protocol and "data" not in said:
        raise UserError(
            f"the study of {record.name} did not write down its settings, so its data is not known here; give "
            "data=NAME with its settings, or run the study's command again, which trains nothing twice and writes them"
        )
    if not chosen and INITIAL in record.protocol and INITIAL not in said:
        raise UserError(
            f"the study of {record.name} did not write down its settings, and it began with another's weights, whose "
            f"name is not known here; give {INITIAL}=NAME, or {INITIAL}=none for random ones"
        )


def not_as_scored(record: TrialRecord, settings: Mapping[str, Any]) -> str:
    """In what these settings, by which the trial was trained, score otherwise than it was: its study did not write all
    down. Empty where they do not."""
    composed = settings_of((), settings)
    named = {name: identity(getattr(composed, name)) for name in composed.task.scored_by if name in record.protocol}
    return ", ".join(differing_settings(named, record.protocol))


def trial_settings(record: TrialRecord, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """By which the trial itself was trained, as far as its record and its study's `chosen` settings tell."""
    own = _chosen(record, chosen)
    recipe = {f"recipe.{name}": value for name, value in record.protocol.get("recipe", {}).items()}
    if own.get("recipe.precision") == "auto":
        recipe.pop("recipe.precision", None)  # what it came to there
    return {**own, **recipe}


def _chosen(record: TrialRecord, chosen: Mapping[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in chosen.items() if key.split(".")[0] in OF_TRAINING}
    if isinstance(own.get(INITIAL), list):
        own[INITIAL] = settings_of((), chosen).beginning(record.seed)
    recorded = {name: record.protocol[name] for name in ("task", "objective") if name in record.protocol}
    return {**recorded, **own}


def _longer(settings: Mapping[str, Any]) -> dict[str, Any]:
    steps = settings.get("recipe.steps")
    return dict(settings) if steps is None else {**settings, "recipe.steps": LONGER * steps}


def _under(full: str, record: TrialRecord, own: Mapping[str, Any]) -> dict[str, Any]:
    """By another protocol, with those settings of the candidate's recipe that its study varied."""
    replaced = {key.split(".")[0] for key in protocol_lines(full)}
    recipe = settings_of((), own).recipe
    turned = {
        f"recipe.{name}": value
        for name, value in record.protocol["recipe"].items()
        if name not in ("steps", "precision") and to_plain(getattr(recipe, name)) != value
    }
    kept = {key: value for key, value in own.items() if key.split(".")[0] not in replaced}
    return {PROTOCOL: full, **kept, **turned}


def go_on(spec: TrialSpec, origin: Origin, attempts: Path) -> str:
    """Lay the kept checkpoint where the trial, submitted to the pool in `attempts`, begins; a sentence about it."""
    from harness.training.checkpoint import copy_newest, has_checkpoints  # loads torch
    from harness.trials.run import CHECKPOINTS

    target = shared_of(attempts / spec.key) / CHECKPOINTS
    if has_checkpoints(target):
        return f"{spec.label}: goes on from its own checkpoints, which an earlier run of this command left"
    obstacle = why_not(spec, spec.store.trial(origin.trial), origin)
    if obstacle is None and origin.checkpoints is not None:
        source = spec.settings.out / origin.checkpoints
        step = copy_newest(source, target, at_most=spec.settings.recipe.steps)
        if step is not None:
            return f"{spec.label}: goes on from step {step} of trial {origin.trial}, from a copy of its checkpoint"
        obstacle = f"{source} has no whole checkpoint (any more)"
    return f"{spec.label}: trains from step 0, not from trial {origin.trial}: {obstacle}"


def why_not(spec: TrialSpec, parent: TrialRecord | None, origin: Origin) -> str | None:
    """Why the trial is no continuation of the one it was promoted from; None where it is one."""
    recipe = spec.settings.recipe
    if origin.checkpoints is None:
        return "no checkpoint of it was kept when it was promoted"
    if parent is None:
        return f"it is not in the store {spec.store.root}"
    kept = spec.store.trial(PurePosixPath(origin.checkpoints).name)  # a sweep's folder has a trial's key
    if kept is not None and (kept.architecture_fingerprint, kept.seed) != (
        parent.architecture_fingerprint,
        parent.seed,
    ):
        return f"{origin.checkpoints} is of trial {kept.key}, another network or seed"
    if not recipe.is_extendable:
        return f"{recipe.named_schedule} depends on the last step"
    if parent.seed != spec.seed:
        return f"its seed is {parent.seed}"
    changed = differences(_trained_by(parent.protocol), _trained_by(spec.protocol.sections))
    if changed:
        return f"it was trained otherwise, {', '.join(map(str, changed))}"
    return None


def _trained_by(protocol: Mapping[str, Any]) -> Plain:
    """What must be equal: all that a training depends on, but for its length; how it is scored, it does not."""
    scored_by = task_of(protocol).scored_by
    sections = {name: section for name, section in protocol.items() if name not in scored_by}
    return to_plain({**sections, "recipe": {**sections.get("recipe", {}), "steps": None}})

"""All settings of a study, one field a Hydra group, and the few that belong to no group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from harness.architecture.latents import LARGEST_LATENT
from harness.coreml.config import CoremlConfig
from harness.data.config import DataConfig, HuggingFaceText, MiniLmText, PreparedConfig, SeveralText, TextConfig
from harness.diffusion.config import SamplingConfig
from harness.latency.config import LatencyConfig
from harness.launch.config import (
    DebugLauncher,
    LauncherConfig,
    SlurmLauncher,
    processes_of,
    torchrun_size,
    who_shares,
)
from harness.measure.quality_config import QualityConfig
from harness.models.autoencoder_config import (
    AutoencoderConfig,
    EncodingAutoencoder,
    PixelsAutoencoder,
    TrainedAutoencoder,
)
from harness.records.errors import UserError, of_file
from harness.records.plain import check_types, from_plain, tag_of, to_plain
from harness.records.terminal import count_text
from harness.tracking.config import TrackerConfig
from harness.training.objective_config import FlowMatchingConfig, ObjectiveConfig, StepDistillationConfig
from harness.training.parallel_config import FsdpParallel, NoParallel, ParallelConfig
from harness.training.recipe import Recipe, check_recordable
from harness.trials.compose import CONF, PROTOCOL, compose_plain, default_of, groups, merged, parsed
from harness.trials.limits import Limits, check_limits, flattened
from harness.trials.task_config import DenoiseConfig, TaskConfig, check_objective, groups_of_tasks
from harness.trials.twins import DeploymentTwin
from harness.trials.watch_config import WatchConfig

T = TypeVar("T")
MISSING = "missing setting"
"""How a sentence begins about what a file leaves to whoever chooses it: no mistake of the file's."""
SEEDS = 2**63
MOST_SEEDS = 20  # that a sentence writes out
ENCODED_BY = "encoded_by"
"""Of a decoder's record, in its provenance: where the files of the autoencoder were that it was trained against."""
OWN_STEPS = ("solver", "steps", "times", "shift")
"""Of sampling, those that a student of step distillation is trained for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    data: DataConfig
    text: TextConfig
    recipe: Recipe
    sampling: SamplingConfig
    quality: QualityConfig
    latency: LatencyConfig
    coreml: CoremlConfig
    launcher: LauncherConfig
    tracker: TrackerConfig
    autoencoder: AutoencoderConfig = field(default_factory=PixelsAutoencoder)
    task: TaskConfig = field(default_factory=DenoiseConfig)
    objective: ObjectiveConfig = field(default_factory=FlowMatchingConfig)
    """The task's own unless another is chosen."""
    initial: str | tuple[str, ...] | None = None
    """Whose averaged weights a training begins with, by whatever names a trained network: its trial's key, YAML, file
    of weights, published folder; or a list of these, one for each of `seeds`. null: random ones. `none` says that these
    are meant, to an objective that asks."""
    parallel: ParallelConfig = field(default_factory=NoParallel)
    watch: WatchConfig = field(default_factory=WatchConfig)
    out: Path = Path("runs")
    """Everything a study writes lies under it: OUT/store, OUT/cache, OUT/NAME."""
    seeds: tuple[int, ...] = (0, 1)
    """One training each."""
    limits: Limits = field(default_factory=dict)
    """Quantity known before training -> the most a network may have of it, or it is rejected."""
    latent: int | None = None
    """Height and width of the latent that is counted at; null is the trained one."""
    count_only: bool = False
    """Count the architectures and stop: no data, no training."""
    twin: DeploymentTwin | None = None
    """The deployment size that a study's costs are for: {base: thin_sdxl, latent: 128}."""

    @property
    def lacks_data(self) -> bool:
        """Whether the study trains on prepared data and names no folder: it is for another machine, and a dry run
        counts ImageNet's pictures (`harness.trials.study_data`)."""
        return isinstance(self.data, PreparedConfig) and self.data.path is None and not self.count_only

    def beginning(self, seed: int) -> str | None:
        """`initial` of the training with that seed; a list of one is of whatever seed."""
        if not isinstance(self.initial, tuple):
            return self.initial
        return self.initial[self.seeds.index(seed) if len(self.initial) > 1 else 0]

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < max(1, len(self.seeds)) or any(not 0 <= seed < SEEDS for seed in self.seeds):
            raise UserError(f"seeds are different whole numbers, at least one, 0 to 2^63 - 1, not {list(self.seeds)}")
        if self.latent is not None and not 1 <= self.latent <= LARGEST_LATENT:
            raise UserError(f"latent is 1 to {LARGEST_LATENT}, or null for the trained one, not {self.latent}")
        check_limits(self.limits, has_twin=self.twin is not None)
        check_objective(self.task, self.objective)
        _check_initial(self)
        _check_torchrun(self.launcher)
        if self.count_only:
            return
        _check_processes(self.launcher, self.parallel, self.recipe)
        check_recordable(self.recipe, self.recipe.device, processes=1)  # of several, `_check_processes` says it
        if self.watch.is_on:
            self.watch.check(self.quality, self.recipe.batch_size, self.sampling.evaluations)
        if isinstance(self.launcher, SlurmLauncher):
            _check_gpus(self.launcher, self.recipe)


def _check_initial(settings: Settings) -> None:
    """Step distillation teaches a trained network to take fewer steps."""
    if isinstance(settings.initial, tuple) and len(settings.initial) != len(settings.seeds):
        raise UserError(
            f"initial names {count_text(len(settings.initial), 'network')}, and there are "
            f"{count_text(len(settings.seeds), 'seed')}; name one for each seed, or one alone for all"
        )
    if isinstance(settings.objective, StepDistillationConfig) and settings.initial is None and not settings.count_only:
        raise UserError(
            "objective=step_distillation begins with a trained network, and none is named; give initial=KEY, a trial "
            "of the same architecture, or initial=none, if random weights are meant"
        )


def _check_processes(launcher: LauncherConfig, parallel: ParallelConfig, recipe: Recipe) -> None:
    count, said = processes_of(launcher), who_shares(launcher)
    if count == 1:
        return
    if isinstance(parallel, NoParallel):
        several = (
            f", or set launcher.gpus=1 and train several at once with launcher.max_in_flight={count}"
            if isinstance(launcher, SlurmLauncher) and launcher.gpus > 1
            else ""
        )
        raise UserError(f"{said} makes {count} processes of one training; say how they share it: parallel=ddp{several}")
    if count > recipe.batch_size:
        raise UserError(
            f"{said} makes {count} processes that share a batch of recipe.batch_size={recipe.batch_size} images, which "
            f"leaves some without any; use at most {recipe.batch_size}"
        )
    if recipe.cuda_graph:
        raise UserError(f"recipe.cuda_graph records what one process computes, and {said} makes {count}; leave it out")
    if recipe.channels_last and isinstance(parallel, FsdpParallel):
        raise UserError(
            "recipe.channels_last orders kernels as parallel=fsdp cannot share them; leave it out, or take parallel=ddp"
        )
    if recipe.micro_batch == "auto":
        raise UserError(
            f"recipe.micro_batch=auto is found by a training of one process, since several wait for each other, and "
            f"{said} makes {count}; give a number"
        )


def _check_torchrun(launcher: LauncherConfig) -> None:
    if torchrun_size() > 1 and not isinstance(launcher, DebugLauncher):
        raise UserError(
            f"torchrun started {torchrun_size()} processes of one training, and launcher={launcher.kind} starts its "
            "own; add launcher=debug, or leave out torchrun"
        )


def _check_gpus(launcher: SlurmLauncher, recipe: Recipe) -> None:
    """Refuse jobs that would wait hours in the queue to find no GPU."""
    if launcher.gpus or set(launcher.additional) & {"gres", "gpus"}:
        return
    if recipe.device == "cuda" or recipe.cuda_graph:
        setting = "recipe.device=cuda" if recipe.device == "cuda" else "recipe.cuda_graph"
        raise UserError(f"{setting} needs a GPU and launcher.gpus=0 asks Slurm for none; set launcher.gpus=1")


def settings_of(
    overrides: Sequence[str] = (), defaults: Mapping[str, Any] | None = None, *, file: Path | None = None
) -> Settings:
    """Settings from config.yaml, a study's `defaults`, `overrides` (key=value); UserError names what is wrong, and the
    `file` of the defaults where they are it."""
    try:
        return _settings(overrides, defaults)
    except UserError as error:
        if file is None or str(error).startswith(MISSING) or str(error) != _refusal(defaults):
            raise
        raise UserError(f"{file}: {error}") from error


def _refusal(defaults: Mapping[str, Any] | None) -> str:
    """What is wrong with the defaults, whatever the command line says; "" where nothing is."""
    try:
        _settings((), defaults)
    except UserError as error:
        return str(error)
    return ""


def _settings(overrides: Sequence[str], defaults: Mapping[str, Any] | None) -> Settings:
    plain, chosen = compose_plain(overrides, defaults), merged(dict(defaults or {}), parsed(overrides))
    plain["limits"] = flattened(plain.get("limits"))
    _check_seeds(plain.get("seeds"))
    try:
        task = from_plain(TaskConfig, plain["task"], where="task")
        own = {"kind": tag_of(task.objectives[0])}
        settings = from_plain(Settings, {**plain, "objective": {**own, **(plain.get("objective") or {})}})
        settings = for_captions(settings, chosen) if settings.data.captions else settings
        settings = for_few_steps(settings, chosen)
        settings = with_trained_autoencoder(settings)
    except UserError as error:
        raise _of_another_option(str(error), chosen) or _of_a_group(str(error), chosen) or error from None
    _check_groups(task, chosen)
    return settings


def _check_seeds(seeds: Any) -> None:
    """A number alone may be meant as the seed or as how many of them."""
    if isinstance(seeds, int) and not isinstance(seeds, bool) and 1 < seeds <= MOST_SEEDS:
        listed = ",".join(map(str, range(seeds)))
        raise UserError(
            f"'seeds' must be a list, not {seeds}; write [{seeds}] for that seed, or [{listed}] for {seeds} of them"
        )


def for_captions(settings: Settings, chosen: Mapping[str, Any]) -> Settings:
    """What is not chosen, as captions have it: a prompt is the caption alone, samples are asked for what held-out
    pictures show, and are read by retrieval."""
    text, sampling = settings.text, settings.sampling
    if isinstance(text, MiniLmText | HuggingFaceText | SeveralText) and not _is_chosen("text", "template", chosen):
        text = replace(text, template="{}")
    if not _is_chosen("sampling", "labels", chosen):
        sampling = replace(sampling, labels="heldout")
    quality = settings.quality if _is_chosen("quality", "metrics", chosen) else settings.quality.of_captions
    return replace(settings, text=text, sampling=sampling, quality=quality)


def for_few_steps(settings: Settings, chosen: Mapping[str, Any]) -> Settings:
    """What is not chosen by name, as a student of step distillation samples: in its own steps, which are Euler's, and
    without guidance."""
    if not isinstance(settings.objective, StepDistillationConfig):
        return settings
    sampling, own = settings.sampling, settings.objective.sampling
    if not any(_is_chosen("sampling", name, chosen) for name in ("guidance_scale", "guidance_interval")):
        sampling = sampling.with_guidance(1)
    as_trained = {name: getattr(own, name) for name in OWN_STEPS if not _is_chosen("sampling", name, chosen)}
    return replace(settings, sampling=replace(sampling, **as_trained))


def with_trained_autoencoder(settings: Settings) -> Settings:
    """With the file that `autoencoder.record` names, and those of what a decoder was trained against. UserError where
    there is no such network."""
    if not isinstance(settings.autoencoder, TrainedAutoencoder) or settings.count_only:
        return settings
    return replace(settings, autoencoder=_found(settings.autoencoder, settings.out))


def _found(autoencoder: TrainedAutoencoder, out: Path) -> TrainedAutoencoder:
    from harness.trials.trained import input_network  # which reads settings

    encoded_by = autoencoder.encoded_by
    if autoencoder.record is not None:
        try:
            trained = input_network(autoencoder.record, out, "the folder that it was published as")
        except UserError as error:
            raise UserError(f"autoencoder.record: {error}") from error
        autoencoder = replace(autoencoder, file=trained.weights)
        recorded = None if trained.record is None else trained.record.provenance.get(ENCODED_BY)
        if encoded_by is None and recorded is not None:
            encoder: Any = from_plain(EncodingAutoencoder, recorded, where=ENCODED_BY)  # type: ignore[arg-type]
            return replace(autoencoder, encoded_by=encoder)
    if isinstance(encoded_by, TrainedAutoencoder):
        return replace(autoencoder, encoded_by=_found(encoded_by, out))
    return autoencoder


def encoded_by(settings: Settings) -> dict[str, Any]:
    """Of a trial's provenance: where the files of its autoencoder are, as whole paths. Nothing of pixels."""
    autoencoder = settings.autoencoder
    if isinstance(autoencoder, PixelsAutoencoder) or settings.count_only:
        return {}
    return {ENCODED_BY: to_plain(_from_anywhere(autoencoder))}


def _from_anywhere(autoencoder: EncodingAutoencoder) -> EncodingAutoencoder:
    whole: dict[str, Any] = {}
    for each in fields(autoencoder):
        value = getattr(autoencoder, each.name)
        if isinstance(value, Path) or (each.name == "name" and value is not None and Path(value).expanduser().is_dir()):
            whole[each.name] = type(value)(Path(value).expanduser().resolve())
        elif isinstance(value, EncodingAutoencoder):
            whole[each.name] = _from_anywhere(value)
    return replace(autoencoder, **whole)


def _is_chosen(group: str, name: str, chosen: Mapping[str, Any]) -> bool:
    """By a setting's path, or in a mapping that is the whole group."""
    whole = chosen.get(group)
    return f"{group}.{name}" in chosen or (isinstance(whole, Mapping) and name in whole)


def _check_groups(task: TaskConfig, chosen: Mapping[str, Any]) -> None:
    """Refuse settings that nothing of the task would read."""
    for key in chosen:
        if (group := key.partition(".")[0]) in groups_of_tasks() and group not in task.groups:
            raise UserError(f"{key} says something of a task's {group}, and task={task.name} has none; leave it out")


def _of_another_option(said: str, chosen: Mapping[str, Any]) -> UserError | None:
    """For a setting that does not exist where another option of its group has it: `launcher.partition` is one of
    launcher=slurm, and the launcher is local."""
    for key in chosen:
        group, *below = key.split(".")
        above = (".".join([group, *below[: depth + 1]]) for depth in range(len(below)))
        if group not in groups() or not any(said.startswith(f"unknown setting '{path}'") for path in above):
            continue
        having = [f"{group}={option}" for option in groups()[group] if _exists(group, option, key)]
        if having:
            return UserError(
                f"{key} is a setting of {' or '.join(having)}, and {group} is {chosen.get(group, default_of(group))}; "
                f"choose {'that' if len(having) == 1 else 'one of those'}, or leave out {key}"
            )
    return None


def _of_a_group(said: str, chosen: Mapping[str, Any]) -> UserError | None:
    """For a line that the file of a group's option has, as somebody edited it: the file beside what was said."""
    if said.startswith(MISSING):
        return None
    for group in groups():
        option = chosen.get(group, default_of(group))
        if isinstance(option, str) and _refused(group, {group: option}) == said:
            return UserError(f"{CONF / group / option}.yaml: {said}")
    return None


def _exists(group: str, option: str, key: str) -> bool:
    """Whether this option has the setting, whatever its value."""
    return not _refused(group, {group: option, key: None}).startswith("unknown setting")


def _refused(group: str, chosen: Mapping[str, Any]) -> str:
    """What is wrong with the names and types of the group's settings; "" where nothing is."""
    try:
        check_types(get_type_hints(Settings)[group], compose_plain((), chosen)[group], where=group)
    except UserError as error:
        return str(error)
    return ""


def study_from(cls: type[T], content: Mapping[str, Any], file: Path) -> T:
    """A study from the content of its YAML. UserError names the file, and of a line that stands at the wrong place, at
    its top or under `settings`, the right one."""
    own, of_trainings = {each.name for each in fields(cls)}, {PROTOCOL, *(each.name for each in fields(Settings))}  # type: ignore[arg-type]
    settings = content.get("settings")
    with of_file(file):
        for key in content:
            if (name := key.split(".")[0]) not in own and name in of_trainings:
                raise UserError(f"'{key}' is one of the settings; write it under them, settings: {{{key}: ...}}")
        for key in settings if isinstance(settings, Mapping) else ():
            if (name := str(key).split(".")[0]) in own and name not in of_trainings:
                raise UserError(f"'{key}' is the study's own, and none of its settings; write it at the file's top")
        return from_plain(cls, content)

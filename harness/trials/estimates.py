"""What a study would take, before it runs: compute, hours, disk, jobs. Estimates; a dry run says what they rest on.

A forward pass of one picture takes M multiply-adds, counted at the trained latent (`training/speed.py` has the FLOP):

    training   6 M B S    B pictures a step, S steps; 8 M B S with recipe.gradient_checkpointing, a second forward; and
                          2 T B S for a teacher's forward pass of T, both passes where it is guided; as many of each
                          as the objective makes (`ObjectiveConfig.passes`), and a pass back through a teacher 2 T;
                          what a discriminator's heads take (`harness.trials.heads`); and what encodes and judges a
                          picture that is made again (`harness.trials.judges`)
    scores     2 M E N    N samples of E forward passes each (`SamplingConfig.evaluations`, guidance among them); and
                          the same at each of a study's `scored_at`, once its trainings are done, in one process
    hours      (training + P scores) / throughput of a process, P of which share a training as if it were P times as
               fast, and wait while the first makes the scores

Not counted, as the lines say too (`NOT_COUNTED`): validation, the autoencoder's encoder and decoder where scores are
made, the feature extractor's work on samples and reference and whatever else scores, and scores over guidance and
steps, which are a command of their own with a grid that no study knows; nor reading data, nor waiting in queues.

    checkpoint      16 bytes a parameter: weights, their average, AdamW's two moments, float32 (`training/loop.py`), and
                    4 for each span of `recipe.ema_spans`; of a discriminator 12, of which there is no average;
                    those that the recipe keeps of a training, and one more while it is written
    store           4 bytes a parameter and trial, its averaged weights, and each snapshot of `recipe.ema_spans`; and
                    the samples that are kept, uncompressed
    prepared data   rows and pictures as `harness data prepare` stores them
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from harness.architecture.config import ArchitectureConfig
from harness.diffusion.config import SamplingConfig
from harness.launch.config import SlurmLauncher, jobs_at_once, processes_of
from harness.records.eta import duration
from harness.records.quantity import value_of
from harness.records.record import TrialRecord
from harness.records.terminal import count_text
from harness.training.device import resolve_device
from harness.training.recipe import Recipe
from harness.training.speed import FORWARD, RECOMPUTED, WITH_BACKWARD
from harness.training.teacher import TeacherDescription
from harness.trials.computed import (
    CHECKPOINTING,
    HEADS_MACS,
    JUDGES_MACS,
    STUDENT_PASSES,
    TEACHER_MACS,
    computed_by,
    passes_beside,
    precision_there,
    was_computed_by,
)
from harness.trials.costs import cost_of
from harness.trials.heads import heads_of
from harness.trials.judges import judges_of
from harness.trials.settings import Settings
from harness.trials.study_data import Pictures, data_bytes, pictures_of

CHECKPOINT_BYTES, WEIGHT_BYTES = 16, 4
"""A parameter of a network; of a module beside it, which has no average, the one without the other."""
ASSUMED_TFLOPS = 100.0
"""Where nobody says and nothing was measured. An H100's dense bfloat16 peak is 989, an A100's 312 (NVIDIA's data
sheets): a tenth and a third."""
NOT_COUNTED = (
    "not counted: validation, encoding and decoding for scores, features of samples and of the reference, and scores "
    "over guidance and steps (`harness evaluate KEY --guidance ... --steps ...`)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """One training to come, of a network that is counted at the trained latent."""

    params: int
    macs: int
    steps: int
    """Of its recipe."""
    begins_at: int = 0
    """The step of the checkpoint that it goes on from."""
    fingerprint: str = ""
    """Of the network; empty where it is not told."""
    teacher_macs: int = 0
    """Of its teacher's calls for one sample of a step."""
    student_passes: int = 0
    """Forward passes over a sample of a step, beside one forward and back."""
    heads_macs: int = 0
    """Of a discriminator's heads for one sample of a step, forward and back."""
    judges_macs: int = 0
    """Of what encodes and judges one picture of a step, where pictures are made again."""
    heads_params: int = 0
    """Of a discriminator, whatever it judges."""
    batch_size: int | None = None
    """Where it is not the recipe's that the estimate is for."""
    score_passes: int | None = None
    """Forward passes that its own scores take, where they are not those of the settings that the estimate is for."""

    def step_flops(self, recipe: Recipe) -> float:
        own = (_of_training(recipe.gradient_checkpointing) + FORWARD * self.student_passes) * self.macs
        a_picture = float(own + FORWARD * (self.teacher_macs + self.heads_macs + self.judges_macs))
        return a_picture * (self.batch_size or recipe.batch_size)

    def flops(self, recipe: Recipe) -> float:
        return self.step_flops(recipe) * (self.steps - self.begins_at)


@dataclass(frozen=True, slots=True)
class Throughput:
    flops: float | None
    """A second; None: not known."""
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    step_flops: float
    """Of one process in a step of the largest network."""
    networks: int
    trainings: int
    training_flops: float
    taught_flops: float = 0.0
    """Of it, teachers'."""
    judged_flops: float = 0.0
    """Of it, of what encodes and judges pictures that are made again."""
    scoring_flops: float
    after_flops: float = 0.0
    """Of scores at other settings of sampling, once all are trained."""
    longest_flops: float
    """Of the first process of the largest single job: its share of a training, and the scores."""
    throughput: Throughput
    """Of a process."""
    processes: int
    """Of one training."""
    checkpoint_bytes: int
    store_bytes: int
    data_bytes: int | None
    """None: the study's data is not prepared data."""
    at_once: int

    @property
    def hours(self) -> float | None:
        """Of devices, over all jobs: of each process's from its job's beginning to its end."""
        return self._hours(self.training_flops + self.processes * self.scoring_flops + self.after_flops)

    @property
    def longest_hours(self) -> float | None:
        return self._hours(self.longest_flops)

    @property
    def step_seconds(self) -> float | None:
        return None if self.throughput.flops is None else self.step_flops / self.throughput.flops

    def _hours(self, flops: float) -> float | None:
        return None if self.throughput.flops is None else flops / self.throughput.flops / 3600


def estimate(
    trainings: Sequence[Training],
    settings: Settings,
    pictures: Pictures,
    records: Iterable[TrialRecord],
    *,
    kept: int = 0,
    grid: Sequence[SamplingConfig] = (),
) -> Estimate:
    """Of these trainings, each scored at its end, and at the points of `grid` once all are trained. `kept`: checkpoints
    that outlive their trainings, at most. `records`: of trainings that tell what is reached a second."""
    scoring = [scoring_flops(each, settings) for each in trainings]
    training = [each.flops(settings.recipe) for each in trainings]
    processes = processes_of(settings.launcher)
    at_once = min(len(trainings), jobs_at_once(settings.launcher))
    a_checkpoint = max((_checkpoint_bytes(each, settings.recipe) for each in trainings), default=0)
    of_each = settings.recipe.most_checkpoints
    checkpoints = at_once * (of_each + 1) + kept * of_each
    kept_pictures = settings.task.scoring(settings).pictures_kept
    macs = {each.macs for each in trainings}
    return Estimate(
        step_flops=max((each.step_flops(settings.recipe) for each in trainings), default=0.0) / processes,
        networks=len(macs),
        trainings=len(trainings),
        training_flops=math.fsum(training),
        taught_flops=math.fsum(
            each.flops(settings.recipe) - replace(each, teacher_macs=0).flops(settings.recipe) for each in trainings
        ),
        judged_flops=math.fsum(
            each.flops(settings.recipe) - replace(each, judges_macs=0).flops(settings.recipe) for each in trainings
        ),
        scoring_flops=math.fsum(scoring),
        after_flops=math.fsum(
            scoring_flops(replace(each, score_passes=None), replace(settings, sampling=point))
            for each in trainings
            for point in grid
        ),
        longest_flops=max(
            (own / processes + scores for own, scores in zip(training, scoring, strict=True)), default=0.0
        ),
        throughput=throughput_of(settings, records, trainings),
        processes=processes,
        checkpoint_bytes=a_checkpoint * checkpoints,
        store_bytes=sum(
            WEIGHT_BYTES * each.params * (1 + snapshots_of(settings.recipe, each.steps))
            + kept_pictures * 3 * pictures.size**2
            for each in trainings
        ),
        data_bytes=data_bytes(settings, pictures),
        at_once=at_once,
    )


def snapshots_of(recipe: Recipe, steps: int) -> int:
    """Those that stay of the averages of `recipe.ema_spans`: the last step has one, too."""
    return len(recipe.ema_spans) * math.ceil(steps / recipe.ema_snapshot_every)


def _checkpoint_bytes(training: Training, recipe: Recipe) -> int:
    own = (CHECKPOINT_BYTES + WEIGHT_BYTES * len(recipe.ema_spans)) * training.params
    return own + (CHECKPOINT_BYTES - WEIGHT_BYTES) * training.heads_params


def scoring_flops(training: Training, settings: Settings) -> float:
    scoring = settings.task.scoring(settings)
    passes = scoring.passes if training.score_passes is None else training.score_passes
    return float(FORWARD * training.macs) * passes * scoring.samples


def training_of(
    architecture: ArchitectureConfig, latent: int, settings: Settings, teacher: TeacherDescription | None = None
) -> Training:
    """Of a network that is fitted to the data, counted on the meta device."""
    cost, recipe, objective = cost_of(architecture, latent), settings.recipe, settings.objective
    heads, judges = heads_of(objective, teacher), judges_of(architecture, latent, settings)
    return Training(
        params=cost.params,
        macs=cost.macs,
        steps=recipe.steps,
        fingerprint=architecture.fingerprint,
        teacher_macs=0 if teacher is None else objective.passes.of_teacher * teacher.macs,
        student_passes=passes_beside(objective, recipe),
        heads_macs=0 if heads is None else heads.step_macs(objective),
        judges_macs=0 if judges is None else judges.step_macs,
        heads_params=heads.params if heads is not None else 0 if judges is None else judges.trained_params,
        batch_size=recipe.batch_size,
        score_passes=settings.task.scoring(settings).passes,
    )


def throughput_of(settings: Settings, records: Iterable[TrialRecord], trainings: Sequence[Training] = ()) -> Throughput:
    """A second and process: the launcher's own; else what a store's trainings reached, those of the one network of
    `trainings` computed in the same way before others, from which it is scaled; else, for GPUs, an assumption."""
    if settings.launcher.tflops is not None:
        return Throughput(settings.launcher.tflops * 1e12, "launcher.tflops")
    records, on_cpu, (precision, _) = list(records), settings.recipe.device == "cpu", precision_there(settings)
    networks = {each.fingerprint for each in trainings}
    how = computed_by(settings, processes_of(settings.launcher))
    names = (TEACHER_MACS, STUDENT_PASSES, HEADS_MACS, JUDGES_MACS)
    each_beside = {(each.teacher_macs, each.student_passes, each.heads_macs, each.judges_macs) for each in trainings}
    besides = [dict(zip(names, each, strict=True)) for each in each_beside]
    computed = [
        (settings.recipe.batch_size, precision, {name: value for name, value in {**how, **each}.items() if value != 0})
        for each in besides
    ]
    alike = [
        each for each in records if {each.architecture_fingerprint} == networks and _was_computed(each) in computed
    ]
    for measured, source in (
        (
            alike,
            f"measured: the median of {{count}} of this very network, batch and cut in {precision} in the store on",
        ),
        (records, "scaled from other networks, batches or cuts: the median of {count} in the store on"),
    ):
        if reached := _reached(measured, on_cpu=on_cpu):
            device, rates = max(reached.items(), key=lambda each: len(each[1]))
            return Throughput(median(rates), f"{source.format(count=count_text(len(rates), 'training'))} {device}")
    if on_cpu:
        return Throughput(None, "no training in the store tells what this processor reaches; launcher.tflops=T says so")
    source = "assumed, a tenth of an H100's dense bfloat16 peak; launcher.tflops=T sets it"
    return Throughput(ASSUMED_TFLOPS * 1e12, source)


def _was_computed(record: TrialRecord) -> tuple[Any, Any, Mapping[str, Any]]:
    """Its batch, its precision and how it was cut: what a step takes, beside the network."""
    recipe = record.protocol.get("recipe", {})
    return recipe.get("batch_size"), recipe.get("precision"), was_computed_by(record.quantities.get("train_seconds"))


def _reached(records: Iterable[TrialRecord], *, on_cpu: bool) -> Mapping[str, list[float]]:
    """Device -> FLOP a second and process of each training on it, where the record counts at the latent that it trained
    on."""
    rates: dict[str, list[float]] = {}
    for record in records:
        seconds = record.quantities.get("train_seconds")
        if record.state != "complete" or not (taken := value_of(seconds)):
            continue
        under = getattr(seconds, "conditions", {})
        device = str(under.get("device", ""))
        if device and (device == "cpu") == on_cpu and (work := flops_of(record)) is not None:
            taken -= record.provenance.get("stage_seconds", {}).get("watch", 0.0)  # sampling and scores in between
            rates.setdefault(device, []).append(work / taken / int(under.get("processes", 1)))
    return rates


def flops_of(record: TrialRecord) -> float | None:
    """Of a training, from its step 0; None where there is none, or it was not counted at the latent that it trained
    on."""
    macs, recipe = record.quantities.get("macs"), record.protocol.get("recipe")
    forward, at = value_of(macs), getattr(macs, "conditions", {}).get("latent")
    if recipe is None or not forward or at != record.trained_latent:
        return None
    under = getattr(record.quantities.get("train_seconds"), "conditions", {})
    a_mac = _of_training(bool(under.get(CHECKPOINTING))) + FORWARD * under.get(STUDENT_PASSES, 0)
    beside = sum(under.get(name, 0) for name in (TEACHER_MACS, HEADS_MACS, JUDGES_MACS))
    a_picture = a_mac * forward + FORWARD * beside
    return float(a_picture * recipe["batch_size"] * recipe["steps"])


def _of_training(recomputes: bool) -> int:
    """FLOP a multiply-add."""
    return RECOMPUTED if recomputes else WITH_BACKWARD


def estimate_lines(estimated: Estimate, settings: Settings, *, with_controls: bool = True) -> list[str]:
    """The estimate, with how it was made, for a terminal. `with_controls`: a study has a job that scores them."""
    rate = estimated.throughput
    flops = f"{_flop(estimated.training_flops)} of training, {_flop(estimated.scoring_flops)} of sampling for scores"
    if estimated.after_flops:
        flops += f", {_flop(estimated.after_flops)} for those at scored_at"
    lines = [f"compute: {flops} ({_of_training(settings.recipe.gradient_checkpointing)} and 2 FLOP a multiply-add)"]
    if estimated.taught_flops:
        lines.append(f"  of it {_flop(estimated.taught_flops)} of teachers' forward passes, 2 FLOP a multiply-add")
    if estimated.judged_flops:
        lines.append(f"  of it {_flop(estimated.judged_flops)} of what encodes and judges the pictures that are made")
    device = "hours of one processor" if settings.recipe.device == "cpu" else "GPU-hours"
    if rate.flops is None or estimated.hours is None or estimated.longest_hours is None:
        lines.append(f"{device}: not known, {rate.source}")
    else:
        longest = duration(3600 * estimated.longest_hours)
        lines.append(
            f"{device}, an estimate: {_three(estimated.hours)}, the longest job {longest}, at "
            f"{rate.flops / 1e12:.3g} TFLOP/s a process ({rate.source})"
        )
        which = "a step of the largest network" if estimated.networks > 1 else "a step"
        lines.append(f"{which}: {estimated.step_seconds:.3g} s at that rate, {rate.source}")
        if estimated.processes > 1:
            lines.append(
                f"{estimated.processes} processes share each training, reckoned as so many times as fast; their hours "
                "count while they wait for the first, which makes the scores"
            )
        lines += _time_limit(estimated.longest_hours, settings)
        if not isinstance(settings.launcher, SlurmLauncher) and settings.recipe.device == "auto" and not has_gpu():
            lines.append("this machine has no GPU: begun here, it would compute on the processor, for far longer")
    disk = [
        f"{size_text(estimated.checkpoint_bytes)} of checkpoints at most",
        f"{size_text(estimated.store_bytes)} of weights and samples in the store",
    ]
    if estimated.data_bytes is not None:
        disk.append(f"{size_text(estimated.data_bytes)} of prepared data")
    lines.append(f"disk: {', '.join(disk)}")
    trainings = count_text(estimated.trainings, "training")
    lines.append(f"jobs: {trainings}{', and one of controls' * with_controls}, {estimated.at_once} at once")
    return [*lines, NOT_COUNTED + _watched(settings)]


def lines_of(
    trainings: Sequence[Training],
    settings: Settings,
    records: Iterable[TrialRecord],
    *,
    kept: int = 0,
    with_controls: bool = True,
    grid: Sequence[SamplingConfig] = (),
) -> list[str]:
    """The estimate of these trainings, for a terminal; nothing where there are none. Else as `estimate` has it."""
    if not trainings:
        return []
    estimated = estimate(trainings, settings, pictures_of(settings), records, kept=kept, grid=grid)
    return estimate_lines(estimated, settings, with_controls=with_controls)


def _watched(settings: Settings) -> str:
    """What is not counted either, where it is asked for."""
    if not settings.watch.is_on:
        return ""
    share = settings.watch.share(settings.recipe.batch_size, settings.sampling.evaluations)
    return f"; grids and scores while trainings run, whose sampling adds {share:.2g} of their passes at most"


def has_gpu() -> bool:
    return resolve_device("auto").type != "cpu"


def _time_limit(hours: float, settings: Settings) -> list[str]:
    """Of Slurm's: how often the longest job goes on after it, and whether the launcher lets it."""
    launcher = settings.launcher
    if not isinstance(launcher, SlurmLauncher) or hours * 60 <= launcher.timeout_min:
        return []
    needed = math.ceil(hours * 60 / launcher.timeout_min) - 1
    said = f"a time limit of {duration(60 * launcher.timeout_min)} has it go on {needed} times"
    if needed <= launcher.max_requeues:
        return [said]
    return [f"{said}, and launcher.max_requeues={launcher.max_requeues} allows fewer: raise it to {needed} or more"]


def _flop(flops: float) -> str:
    """`3.21 EFLOP`."""
    size, unit = next(((s, u) for s, u in ((1e18, "E"), (1e15, "P"), (1e12, "T")) if flops >= s), (1e9, "G"))
    return f"{_three(flops / size)} {unit}FLOP"


def _three(number: float) -> str:
    """Three digits, and never an exponent for thousands: `1,230`, `96.1`."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def size_text(count: int) -> str:
    """`42.0 GB`."""
    size, unit = next(((s, u) for s, u in ((1e12, "T"), (1e9, "G"), (1e6, "M")) if count >= s), (1e3, "k"))
    return f"{_three(count / size)} {unit}B"

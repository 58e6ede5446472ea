"""The arms of the recipe's benchmark: real trials of the ladder's rungs through the trial queue, and their tables. What
they are for, and what was fixed beforehand, stands in `test_bench_recipe`.

    WORK/store/           every trial's record; an architecture that two arms share is trained once
    WORK/ARM/attempts/    the arm's jobs, with their checkpoints: killed, the same command goes on
    RECORDS               the records of all that was trained so far, on any machine: begun elsewhere, nothing of it is
                          trained again that has an equal key, so equal data, architecture, recipe, scores and seed
"""

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from scipy import stats

from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import with_edits
from harness.launch.pool import Pool
from harness.measure.statistics import noise_of
from harness.records.plain import canonical_json, from_plain, to_plain
from harness.records.quantity import value_of
from harness.records.record import TrialRecord
from harness.records.store import Store
from harness.trials.ablation_study import ablation_study
from harness.trials.prepared import prepare
from harness.trials.progress import Show
from harness.trials.queue import TrialQueue, run_all
from harness.trials.settings import settings_of
from harness.trials.spec import TrialSpec

COMMON: dict[str, Any] = {
    "data": "digits",
    "recipe": "laptop",
    "recipe.validate_every": 250,
    "recipe.checkpoint_every": 250,
    "sampling": "laptop",
    "quality": "laptop",
    "latency": "none",
    "coreml": "none",
    "tracker": "none",
}
RECORDS = Path(__file__).parents[2] / "docs" / "evidence" / "records" / "recipe.jsonl.gz"
FRESH = RECORDS.with_name("fig3_long.jsonl.gz")
"""The same of `harness ablate fig3_long`: a training of each rung with each of five seeds that chose nothing."""
STANDING = {
    "learning_rate": 0.004,
    "warmup_steps": 20,
    "schedule": "constant",
    "cooldown": 0.0,
    "ema_decay": 0.999,
    "ema_warmup": 9.0,
    "depthwise_gain": 1.0,
}
"""The recipe when the benchmark was designed; written out, so that a later `laptop` does not change an arm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    name: str
    kernels: tuple[int, ...]  # of the rungs' separable convolutions; a rung without them is trained once
    rungs: tuple[str, ...] | None  # None: all of the ladder
    steps: int
    seeds: tuple[int, ...]
    recipe: Mapping[str, Any] = field(default_factory=dict)  # what differs from STANDING
    settings: Mapping[str, Any] = field(default_factory=dict)

    def overrides(self, work: Path, launcher: Mapping[str, Any]) -> dict[str, Any]:
        recipe = {f"recipe.{name}": value for name, value in {**STANDING, **self.recipe}.items()}
        own = {"recipe.steps": self.steps, "out": str(work), **launcher}
        return {**COMMON, **recipe, **self.settings, **own}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One training."""

    rung: str
    kernel: int | None  # None: the rung has no separable convolutions
    seed: int
    record: TrialRecord

    @property
    def losses(self) -> dict[int, float]:
        """Step -> validation loss, along the training."""
        return {point.step: point.value for point in self.record.curve if point.name == "validation_loss"}

    @property
    def kid(self) -> float | None:
        return value_of(self.record.quantities["kid"])


def run_arm(arm: Arm, work: Path, launcher: Mapping[str, Any]) -> list[Row]:
    """Train what the store does not have; every training of the arm, in the ladder's order."""
    prepared = prepare(settings_of((), arm.overrides(work, launcher)))
    restore(Store(work / "store"))
    planned: list[tuple[str, int | None, TrialSpec]] = []
    for seed in arm.seeds:
        for rung, kernel, config in architectures(arm):
            planned.append((rung, kernel, prepared.spec(f"{rung}-{kernel or 'regular'}", config, seed, group=arm.name)))
    with Pool(work / arm.name / "attempts", prepared.settings.launcher) as pool:
        records = run_all(TrialQueue(pool, on_loss=Show().lost), [spec for *_, spec in planned], Show())
    return [Row(rung=rung, kernel=kernel, seed=spec.seed, record=records[spec.key]) for rung, kernel, spec in planned]


def restore(store: Store, path: Path = RECORDS) -> None:
    """Put the kept records into a store that lacks them. Their weights and pictures are not kept."""
    there = set(store.keys(TrialRecord))
    for record in kept(path):
        if record.key not in there:
            store.put(record)


def kept(path: Path) -> list[TrialRecord]:
    lines = gzip.decompress(path.read_bytes()).splitlines() if path.exists() else []
    return [replace(from_plain(TrialRecord, json.loads(line)), artifacts={}) for line in lines]


def keep(records: Iterable[TrialRecord], path: Path) -> int:
    """Keep those that are complete, without what names the machine; how many there are. None: what was kept stays."""
    complete = [record for record in records if record.state == "complete"]
    lines = [
        canonical_json(to_plain(replace(each, provenance=_of_any_machine(each), artifacts={}))) for each in complete
    ]
    if complete:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    return len(complete)


def fresh_rows(out: Path) -> list[Row]:
    """Every training of `harness ablate fig3_long out=OUT`, from its store, else from those that are kept; empty until
    all are there."""
    study, settings = ablation_study("fig3_long", [f"out={out}"])
    prepared, elsewhere = prepare(settings), {record.key: record for record in kept(FRESH)}
    rows = []
    for seed in settings.seeds:
        for rung, config in study.architecture.architectures():
            spec = prepared.spec(rung.name, config, seed)
            record = spec.store.trial(spec.key) or elsewhere.get(spec.key)
            if record is None or record.state != "complete":
                return []
            kernel = config.convolution.kernel_size if config.convolution.kind == "separable" else None
            rows.append(Row(rung=rung.name, kernel=kernel, seed=seed, record=record))
    return rows


def changes(rows: Sequence[Row]) -> list[str]:
    """A line a rung of a ladder: mean and standard deviation of loss and KID over the seeds, and the change of KID from
    the rung that it edits, with its 95% interval for itself."""
    parents = {rung.name: rung.against for rung, _ in ablation_study("fig3", [])[0].architecture.architectures()}
    kids: dict[str, dict[int, float]] = {}
    losses: dict[str, list[float]] = {}
    for row in rows:
        assert row.kid is not None
        kids.setdefault(row.rung, {})[row.seed] = row.kid
        losses.setdefault(row.rung, []).append(row.losses[max(row.losses)])
    noise = noise_of(kids)
    assert noise is not None, "one seed has no spread"
    lines = ["| rung | loss | KID | against | change of KID, 95% interval |", "|---|---|---|---|---|"]
    for rung, of_seed in kids.items():
        scores = list(of_seed.values())
        parent, told = parents[rung], ""
        if parent is not None and (change := noise.relative(rung, parent)) is not None:
            told = f"{change.value:+.1%} ({change.low:+.1%} to {change.high:+.1%})"
        lines.append(
            f"| {rung} | {fmean(losses[rung]):.4f} ± {stdev(losses[rung]):.4f} | {fmean(scores):.4f} ± "
            f"{stdev(scores):.4f} | {parent or ''} | {told} |"
        )
    return [*lines, "", noise.sentence]


def _of_any_machine(record: TrialRecord) -> dict[str, Any]:
    return {name: value for name, value in record.provenance.items() if name not in ("command", "host")}


def architectures(arm: Arm) -> list[tuple[str, int | None, ArchitectureConfig]]:
    """(rung, kernel, architecture) of the ladder `fig3`, with each of the arm's kernels in separable convolutions."""
    study, _ = ablation_study("fig3", [])
    rows: list[tuple[str, int | None, ArchitectureConfig]] = []
    for rung, config in study.architecture.architectures():
        if arm.rungs is not None and rung.name not in arm.rungs:
            continue
        if config.convolution.kind == "separable":
            edited = [(kernel, with_edits(config, {"convolution.kernel_size": kernel})) for kernel in arm.kernels]
            rows += [(rung.name, kernel, config) for kernel, config in edited]
        else:
            rows.append((rung.name, None, config))
    return rows


def of_kernel(rows: Sequence[Row], kernel: int) -> list[Row]:
    """The ladder with that kernel."""
    return [row for row in rows if row.kernel in (None, kernel)]


def median_loss(rows: Sequence[Row], step: int) -> float:
    return median(row.losses[step] for row in rows)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """How well two scores rank the rungs of one arm and kernel, each trained with the same seeds."""

    loss_f: float  # of the rungs' variance to the seeds': the larger, the fewer seeds tell two rungs apart
    kid_f: float
    agreement: float  # Spearman's correlation of the rungs' means


def ranking(rows: Sequence[Row]) -> Ranking | None:
    """By validation loss after the last step, and by KID; None where there is one seed, or a KID is missing."""
    by_rung: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.kid is None:
            return None
        by_rung.setdefault(row.rung, []).append((row.losses[max(row.losses)], row.kid))
    groups = list(by_rung.values())
    if len(groups) < 3 or any(len(group) < 2 for group in groups):
        return None
    losses, kids = ([[pair[at] for pair in group] for group in groups] for at in (0, 1))
    agreement = stats.spearmanr([fmean(each) for each in losses], [fmean(each) for each in kids]).statistic
    f_of = lambda score: float(stats.f_oneway(*score).statistic)  # noqa: E731
    return Ranking(loss_f=f_of(losses), kid_f=f_of(kids), agreement=float(agreement))


def table(arm: Arm, rows: Sequence[Row]) -> list[str]:
    """A line a training, then the median over the rungs and seeds for each kernel."""
    steps = sorted(set.intersection(*(set(row.losses) for row in rows)))
    lines = [
        f"{arm.name}: {dict(arm.recipe) or 'the standing recipe'}, {arm.steps} steps",
        "",
        "| rung | kernel | seed | " + " | ".join(f"loss at {step}" for step in steps) + " | KID |",
        "|---|---|---|" + "---|" * (len(steps) + 1),
    ]
    for row in rows:
        losses = " | ".join(f"{row.losses[step]:.4f}" for step in steps)
        kid = "-" if row.kid is None else f"{row.kid:.3f}"
        lines.append(f"| {row.rung} | {row.kernel or 'regular 3'} | {row.seed} | {losses} | {kid} |")
    for kernel in arm.kernels:
        medians = " | ".join(f"{median_loss(of_kernel(rows, kernel), step):.4f}" for step in steps)
        lines.append(f"| median | {kernel} | all | {medians} | |")
    rankings = [(kernel, ranking(of_kernel(rows, kernel))) for kernel in arm.kernels]
    return lines + [
        f"\nkernel {kernel}: rungs against seeds, F = {ranks.loss_f:.3g} by validation loss, {ranks.kid_f:.3g} by KID; "
        f"the two rank the rungs with Spearman's {ranks.agreement:+.2f}"
        for kernel, ranks in rankings
        if ranks is not None
    ]

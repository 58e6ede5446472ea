"""The arms of the search benchmark: real sweeps and ablations through the command line, at equal training steps, their
fronts trained again with fresh seeds, and the hypervolume of those. What the numbers mean is in `test_bench_search`.

    WORK/sweeps/, WORK/search_spaces/, WORK/base.yaml    what the commands read
    WORK/ARM-SEED/                                       out= of one arm's commands: its own store
    WORK/cache/                                          shared

Everything is in those folders, so a killed benchmark goes on where it was.
"""

import contextlib
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import yaml

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import with_edits
from harness.launch.events import read_steps
from harness.launch.pool import Pool
from harness.records.better import front_of
from harness.records.errors import UserError
from harness.records.plain import from_plain
from harness.records.quantity import value_of
from harness.records.record import TrialRecord
from harness.search.driver import sweep
from harness.search.promote import candidates
from harness.search.space import space
from harness.trials.ablation import ablation, run_ablation
from harness.trials.controls import control_key, submit_controls
from harness.trials.costs import cost_of
from harness.trials.prepared import Prepared, prepare
from harness.trials.progress import Show
from harness.trials.queue import POLL_S, TrialQueue, run_all
from harness.trials.settings import settings_of
from harness.trials.spec import TrialSpec, store_of
from harness.trials.studies import read_study

Point = tuple[float, float]  # (KID, multiply-adds)

BASE: dict[str, Any] = {
    "latent_channels": 1,
    "context_width": 384,
    "context_length": 16,
    "stages": [
        {"channels": 16, "down_blocks": 1, "up_blocks": 1, "block": "residual"},
        {
            "channels": 32,
            "down_blocks": 1,
            "up_blocks": 1,
            "block": {"kind": "residual_transformer", "depth": 1, "self_attention": True},
        },
    ],
    "middle": {"kind": "residual_transformer", "depth": 1, "self_attention": True},
    "convolution": "regular",
    "norm": {"kind": "group", "groups": 8},
    "token_norm": "layer",
    "head_dim": 8,
    "self_attention": "mhsa",
    "cross_attention": "mhsa",
    "qk_norm": None,
    "position": None,
    "feed_forward": {"kind": "geglu", "ratio": 4},
    "time_features": 32,
    "time_width": 96,
}
"""laptop/thin_sdxl with two stages instead of three, one block each: 0.27 M parameters."""
WIDTHS = {
    "narrow": {"stages.0.channels": 16, "stages.1.channels": 24},
    "base": {},
    "wide": {"stages.0.channels": 24, "stages.1.channels": 40},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """What all arms share."""

    trials: int  # candidates of an arm that searches
    budgets: tuple[int, int]  # training steps
    reduction: int
    fresh: int  # trainings of each architecture of a front, to score it again
    settings: Mapping[str, Any]
    base: Mapping[str, Any]

    @property
    def steps(self) -> int:
        """Training steps of an arm: all candidates to the first budget, the promoted on from there to the second."""
        low, high = self.budgets
        return self.trials * low + -(-self.trials // self.reduction) * (high - low)

    @property
    def full_trainings(self) -> int:
        """To the second budget, of as many steps. Design error if that is no whole number."""
        assert self.steps % self.budgets[1] == 0, "the arms cannot have equal steps"
        return self.steps // self.budgets[1]

    def fresh_seed(self, seed: int, number: int) -> int:
        """Of a training that scores a front again, and of its samples' noise: in no arm, the same for all arms."""
        return 1000 + 100 * seed + number


HALVING: dict[str, list[str]] = {
    "tpe": ["sampler=tpe"],
    "tpe_ladder": ["sampler=tpe", "enqueue=ladder0"],
    "tpe_counts": ["sampler=tpe", "enqueue=counts", "limits.macs={macs}"],
    "gp": ["sampler=gp"],
    "gp_ladder": ["sampler=gp", "enqueue=ladder0"],
    "gp_counts": ["sampler=gp", "enqueue=counts", "limits.macs={macs}"],
    "random": ["sampler=random"],
}
"""Arms that are sweeps with halving -> their settings."""
METHODS = tuple(name for name in HALVING if name != "random")
WHOLE, LADDER = "random_whole", "ladder"
LADDER_ROUND = 200  # between the seeds of the ladder's rounds


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    name: str
    seed: int  # of the sampler and of the trainings; the ladder's further rounds have LADDER_ROUND more each
    work: Path
    design: Design

    @property
    def out(self) -> Path:
        return self.work / f"{self.name}-{self.seed}"

    def run(self) -> None:
        """Run it, or go on with it, to the end."""
        self.out.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (self.out / "cache").symlink_to("../cache", target_is_directory=True)
        if self.name == LADDER:
            for number in range(len(_rounds(self.design))):
                settings = [f"seeds=[{self.seed + LADDER_ROUND * number}]", self._out]
                _, failures = run_ablation(ablation(f"ladder{number}", settings, ""), Show())
                assert not failures, failures
            return
        settings = [f"sampler_seed={self.seed}", f"seeds=[{self.seed}]", self._out]
        if self.name == WHOLE:
            sweep("whole", settings, Show())
        else:
            macs = REACH * cost_of(from_plain(ArchitectureConfig, self.design.base), LATENT).macs
            sweep("search", [*(each.format(macs=macs) for each in HALVING[self.name]), *settings], Show())

    @property
    def _out(self) -> str:
        return f"out={self.out.absolute()}"

    def trained(self) -> list[TrialRecord]:
        """Its architectures at the second budget; of one trained with several seeds, one record each."""
        names = {LADDER: [f"ladder{n}" for n in range(len(_rounds(self.design)))], WHOLE: ["whole"]}.get(
            self.name, ["search"]
        )
        return [record for name in names for record in candidates(self.out, name)]

    def steps(self) -> int:
        """That were trained, by the logs of the trainings: no step counts twice."""
        logs = [folder for folder in self.out.glob("*/attempts/*") if folder.is_dir()]
        return sum(len(_trained_steps(folder)) for folder in logs if folder.parent.parent.name != RESCORED)

    def front(self) -> list[ArchitectureConfig]:
        """The architectures that no other of the arm's beats in both, by the means of what it has measured."""
        points = mean_points(self.trained())
        fingerprints = [list(points)[place] for place in front_of(list(points.values()), ("minimize", "minimize"))]
        architectures = {record.architecture_fingerprint: record.architecture for record in self.trained()}
        return [from_plain(ArchitectureConfig, architectures[fingerprint]) for fingerprint in fingerprints]

    def again(self) -> list[ArchitectureConfig]:
        """What is trained again: the front; of the ladder, all rungs, since fronts are held against each of them."""
        if self.name != LADDER:
            return self.front()
        architectures = {record.architecture_fingerprint: record.architecture for record in self.trained()}
        return [from_plain(ArchitectureConfig, each) for each in architectures.values()]

    def rescore(self) -> list[TrialRecord]:
        """Train them again, with fresh seeds and fresh samples; the records."""
        specs = [spec for number in range(self.design.fresh) for spec in self._fresh_specs(number)]
        with Pool(self.out / RESCORED / "attempts", specs[0].settings.launcher) as pool:
            records = run_all(TrialQueue(pool, on_loss=lambda *_: None), specs, Show())
        return [records[spec.key] for spec in specs]

    def _fresh_specs(self, number: int) -> list[TrialSpec]:
        seed = self.design.fresh_seed(self.seed, number)
        prepared = self.prepared().with_scoring_seed(seed)
        return [prepared.spec(f"front-{at}", config, seed) for at, config in enumerate(self.again())]

    def prepared(self) -> Prepared:
        """Under the protocol of the second budget."""
        steps = f"recipe.steps={self.design.budgets[1]}"
        return prepare(settings_of([steps, self._out], self.design.settings))


RESCORED = "rescored"
LATENT = 8  # digits
REACH = 2
"""Times the multiply-adds of the ladder's first rung: what has more counts for nothing."""
SPREAD = 8
"""Architectures that `counts` begins with: as many as the ladder has rungs."""
COUNTED = 100
"""Of those drawn at random, of which they are the ones; counting one takes a second on a busy core."""


def lay_out(work: Path, design: Design) -> None:
    """Write what the commands read."""
    knobs = {**read_study("search_spaces", "laptop")["knobs"], "width": {"edits": WIDTHS}}
    ladder = dict(read_study("sweeps", "fig3")["architecture"])
    searched = {
        "space": "bench",
        "objectives": {"kid": "minimize", "macs": "minimize"},
        "trials": design.trials,
        "budgets": list(design.budgets),
        "reduction": design.reduction,
        "settings": dict(design.settings),
    }
    whole = {name: value for name, value in searched.items() if name not in ("budgets", "reduction")}
    whole |= {"sampler": "random", "trials": design.full_trainings}
    whole["settings"] = {**design.settings, "recipe.steps": design.budgets[1]}
    (work / "cache").mkdir(parents=True, exist_ok=True)
    _write(work / "base.yaml", dict(design.base))
    _write(work / "search_spaces" / "bench.yaml", {"base": "base.yaml", "knobs": knobs})
    _write(work / "sweeps" / "search.yaml", searched)
    _write(work / "sweeps" / "whole.yaml", whole)
    if not (work / "sweeps" / "counts.yaml").exists():
        _write(work / "sweeps" / "counts.yaml", spread_by_counts(work, knobs))
    for number, rungs in enumerate(_rounds(design)):
        rows = {**ladder, "base": "base.yaml", "rungs": ladder["rungs"][:rungs]}
        settings = {**design.settings, "recipe.steps": design.budgets[1]}
        content = {"architecture": rows, "report": "fig3", "settings": settings}
        _write(work / "sweeps" / f"ladder{number}.yaml", content)


def spread_by_counts(work: Path, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """An ablation of the base, and of `SPREAD` of `COUNTED` architectures of the space whose multiply-adds lie about
    evenly in their logarithm: from the fewest to the most that count for something."""
    with working_in(work):
        counted_space = space({"base": "base.yaml", "knobs": knobs})
        base = architecture("base.yaml")
        counted: list[tuple[float, dict[str, Any]]] = []
        for parameters in random.Random(0).sample(list(counted_space.combinations()), COUNTED):
            edits = counted_space.edits(parameters)
            with contextlib.suppress(UserError):
                counted.append((log(cost_of(with_edits(base, edits), LATENT).macs), edits))
        most = log(REACH * cost_of(base, LATENT).macs)
    counted = sorted((each for each in counted if each[0] <= most), key=lambda each: each[0])
    low, high = counted[0][0], counted[-1][0]
    targets = [low + (high - low) * number / (SPREAD - 1) for number in range(SPREAD)]
    chosen = [min(counted, key=lambda each: abs(each[0] - target))[1] for target in targets]
    rungs = [
        {"name": f"counts{at}", "title": f"Spread by counts, {at}", "edits": edits} for at, edits in enumerate(chosen)
    ]
    return {"architecture": {"base": "base.yaml", "mode": "one_at_a_time", "rungs": [FIRST, *rungs]}}


FIRST = {"name": "base", "title": "The space's base"}


def _rounds(design: Design) -> list[int]:
    """How many rungs, from the first one on, are trained with each further seed until the steps are spent."""
    rungs = len(read_study("sweeps", "fig3")["architecture"]["rungs"])
    whole, rest = divmod(design.full_trainings, rungs)
    return [rungs] * whole + ([rest] if rest else [])


def reference_of(arm: Arm) -> Point:
    """The worst that counts: the KID of a Gaussian fitted to the pixels, and REACH times the base's multiply-adds."""
    prepared, base = arm.prepared(), from_plain(ArchitectureConfig, arm.design.base)
    key, store = control_key("pixel_gaussian", prepared, prepared.adapt_to_data(base)), store_of(arm.out)
    if store.measurement(key) is None:  # an arm without halving needs no floor
        with Pool(arm.out / "controls" / "attempts", prepared.settings.launcher) as pool:
            queue = TrialQueue(pool, on_loss=lambda *_: None)
            submit_controls(queue, prepared, prepared.adapt_to_data(base))
            while queue.in_flight:
                queue.poll(POLL_S)
    measurement = store.measurement(key)
    assert measurement is not None
    kid = value_of(measurement.quantities["kid"])
    assert kid is not None
    return kid, REACH * float(cost_of(prepared.adapt_to_data(base), LATENT).macs)


def dominated(rungs: Mapping[str, Point], front: Sequence[Point]) -> int:
    """How many of the rungs some point of the front is no worse than in both, and better in one."""
    return sum(
        any(kid <= rung[0] and macs <= rung[1] and (kid, macs) != rung for kid, macs in front)
        for rung in rungs.values()
    )


def mean_points(records: Sequence[TrialRecord]) -> dict[str, Point]:
    """Architecture's fingerprint -> its (KID, multiply-adds), the mean over its records."""
    points: dict[str, list[Point]] = {}
    for record in records:
        kid, macs = (value_of(record.quantities[name]) for name in ("kid", "macs"))
        if kid is not None and macs is not None:
            points.setdefault(record.architecture_fingerprint, []).append((kid, macs))
    return {each: (sum(kid for kid, _ in ps) / len(ps), ps[0][1]) for each, ps in points.items()}


def hypervolume(points: Sequence[Point], reference: Point, least_kid: float) -> float:
    """Of the region that `points` dominate, in log KID and log multiply-adds, above `reference`: an area of 1 is a
    factor of e in both."""
    inside = [(log(max(kid, least_kid) / reference[0]), log(macs / reference[1])) for kid, macs in points]
    return dominated_area(inside)


def dominated_area(points: Sequence[Point]) -> float:
    """The area between (0, 0) and what lies below it and to its left and is dominated: strips, from left to right."""
    area, lowest = 0.0, 0.0
    for x, y in sorted(points):
        if x < 0 and y < lowest:
            area += -x * (lowest - y)
            lowest = y
    return area


def _trained_steps(key_folder: Path) -> set[int]:
    stretches = (range(line["after"] + 1, line["to"] + 1) for line in read_steps(key_folder))
    return {step for stretch in stretches for step in stretch}


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)

"""A made-up sweep of any number of candidates: two budgets, a conditional knob, a constant one, refusals, failures.

KID falls with the width alone, and with the steps; the multiply-adds are the width's, times the ratio's.
"""

import json
import random
from typing import Any

from harness.records.better import front_of
from harness.records.plain import to_plain
from harness.records.quantity import Counted, Measured
from harness.records.record import Protocol, TrialRecord
from harness.records.store import Store, write_atomic
from harness.records.sweep_summary import CandidateSummary, KnobSummary, LevelSummary, ReasonCount, SweepSummary

PROTOCOL = Protocol(sections={"data": {"kind": "digits"}, "recipe": {"batch_size": 64}})
LEVELS = (100, 300)
WIDTHS = {"narrow": 16, "base": 24, "wide": 32}
KNOBS = {
    "width": KnobSummary(choices=tuple(WIDTHS)),
    "convolution": KnobSummary(choices=("regular", "separable")),
    "resampling": KnobSummary(choices=("none", "both"), when={"convolution": ("separable",)}),
    "ratio": KnobSummary(low=1.0, high=4.0, step=1.0, whole=True),
    "recipe.learning_rate": KnobSummary(low=1e-4, high=1e-2, log=True),
    "norm": KnobSummary(choices=("group",)),
}
TOO_LARGE, DIVERGED, SURPASSED = (
    "macs is ..., above the limit of 9", "train: training diverged", "more candidates are better in everything"
)  # fmt: skip


def made_sweep(count: int, store: Store | None = None, *, seed: int = 0) -> SweepSummary:
    """Of `count` candidates; where there is a store, with a record of each that was trained."""
    generator = random.Random(seed)
    candidates = [_candidate(number, generator, store) for number in range(count)]
    complete = [each for each in candidates if each.state == "complete"]
    front = front_of([each.values or () for each in complete], ("minimize", "minimize"))
    states = [each.state for each in candidates]
    return SweepSummary(
        name="made", place="runs/made/study.db", command="harness sweep made", driver_runs=False,
        objectives={"kid": "minimize", "macs": "minimize"}, levels=LEVELS, samplers=("tpe",), seed=0,
        trials=count - states.count("refused"), candidates=tuple(candidates),
        front=tuple(complete[at].name for at in front), conclusions=None,
        reasons={"refused": (ReasonCount(text=TOO_LARGE, times=states.count("refused")),),
                 "stopped": (ReasonCount(text=SURPASSED, times=states.count("stopped")),),
                 "failed": (ReasonCount(text=DIVERGED, times=states.count("failed")),)},
        protocol=PROTOCOL.sections, protocol_fingerprint=PROTOCOL.fingerprint, knobs=KNOBS, reduction=3,
        hours=2.5, gpu_hours=1.25,
    )  # fmt: skip


def _candidate(number: int, generator: random.Random, store: Store | None) -> CandidateSummary:
    name, parameters = f"trial-{number}", _parameters(generator)
    fate = "refused" if number % 19 == 7 else "failed" if number % 31 == 11 else "complete" if number % 3 == 0 else ""
    if fate == "refused":
        return CandidateSummary(name=name, state="refused", parameters=parameters, reason=f"macs is {number}, above 9")
    if fate == "failed":
        key = "0" * 16
        levels = (LevelSummary(steps=LEVELS[0], values=None),)
        return CandidateSummary(name=name, state="failed", parameters=parameters, steps=100, key=key, reason=DIVERGED,
                                levels=levels)  # fmt: skip
    width = WIDTHS[str(parameters["width"])]
    macs = float(width * width * int(parameters["ratio"]))
    kid = 0.01 * (40 - width) + generator.gauss(0, 0.005)
    levels = (LevelSummary(steps=100, values=(kid + 0.1, macs), gpu_seconds=10.0),)
    if fate == "complete":
        levels += (LevelSummary(steps=300, values=(kid, macs), gpu_seconds=20.0),)
    last, values = levels[-1], levels[-1].values
    return CandidateSummary(
        name=name, state="complete" if fate else "stopped", parameters=parameters, steps=last.steps,
        key=_key(store, name, values or ()), values=values, levels=levels, reason="" if fate else SURPASSED,
    )  # fmt: skip


def _parameters(generator: random.Random) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "width": generator.choice(list(WIDTHS)),
        "convolution": generator.choice(["regular", "separable"]),
    }
    if parameters["convolution"] == "separable":
        parameters["resampling"] = generator.choice(["none", "both"])
    return {
        **parameters,
        "ratio": generator.randint(1, 4),
        "recipe.learning_rate": 10 ** generator.uniform(-4, -2),
        "norm": "group",
    }


def _key(store: Store | None, name: str, values: tuple[float, ...]) -> str:
    record = TrialRecord(
        name=name, architecture={}, architecture_fingerprint=f"arch-{name}", protocol=PROTOCOL.sections,
        protocol_fingerprint=PROTOCOL.fingerprint, seed=0, state="complete",
        quantities={"kid": Measured(value=values[0], unit="1", low=values[0] - 0.01, high=values[0] + 0.01),
                    "macs": Counted(value=int(values[1]), unit="multiply-adds"),
                    "params": Counted(value=1_000_000 + int(values[1]), unit="parameters")},
        provenance={"cpu_seconds": 12.0, "gpu_seconds": 30.0, "device": "cuda"},
    )  # fmt: skip
    if store is not None:  # as `Store.put` writes, without waiting for the disk ten thousand times
        path = store.root / "trials" / f"{record.key}.json"
        write_atomic(path, json.dumps({"key": record.key, **to_plain(record)}).encode(), synced=False)
    return record.key

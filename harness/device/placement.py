"""Where Core ML plans to run a package's operators, and whether a time may be called the Neural Engine's.

`MLComputePlan` names the preferred unit of each operator and the share that it estimates of the whole cost
(coremltools, `models/compute_plan.py`). It is a plan and no trace: Core ML does not tell what ran where. A package that
is allowed the engine may still leave it, in part or whole, and its time is then another unit's. So a time is called the
engine's only where the plan gives it at least a stated share of the cost; otherwise it stands, with why it is not.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.records.plain import to_plain

ENGINE = "NeuralEngine"
WITH_ENGINE = ("CPU_AND_NE", "ALL")
"""Compute units that allow it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    operators: Mapping[str, Mapping[str, int]]
    """Preferred unit (NeuralEngine, GPU, CPU) -> operator -> how many; constants have no unit."""
    cost: Mapping[str, float]
    """Unit -> its share of the cost of all operators; sums to 1, or empty where no cost is estimated."""
    without_cost: int = 0
    """Operators that have a unit and no estimated cost; in the shares each counts as the mean of the others, so that
    what has left the engine cannot be overlooked for want of an estimate."""


async def placement_of(wrapper: Any) -> Placement | str:
    """Of the package that coremltools' wrapper has loaded; a sentence where there is no plan."""
    try:
        return _read(await wrapper.retrieve_compute_plan())
    except Exception as error:  # the plan is a remark beside the time, and its interface is experimental
        return f"no compute plan: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def engine_conditions(placements: Mapping[str, Placement | str], compute_unit: str, least: float) -> dict[str, Any]:
    """What a measurement says of the engine, plain: the plan of each part, whether the time is called the engine's
    (`on_engine`), and if not, why (`engine_doubt`). `least`: the share of each part's cost that must be there."""
    doubts = [
        f"{name}: {doubt}".removeprefix(": ") for name, each in placements.items() if (doubt := _doubt(each, least))
    ]
    if compute_unit not in WITH_ENGINE:
        doubts = [f"compute_unit={compute_unit} leaves it out"]
    plans = {name: to_plain(each) for name, each in placements.items()}
    conditions: dict[str, Any] = {"placement": plans.get("", plans), "on_engine": not doubts}
    return conditions | ({"engine_doubt": "; ".join(doubts)} if doubts else {})


def _doubt(placement: Placement | str, least: float) -> str:
    """Empty where the engine bears its share."""
    if isinstance(placement, str):
        return placement
    if not placement.cost:
        return "the compute plan estimates no cost"
    share = placement.cost.get(ENGINE, 0.0)
    if share >= least:
        return ""
    others = ", ".join(
        f"{cost:.0%} on the {unit} ({_named(placement.operators[unit])})"
        for unit, cost in sorted(placement.cost.items(), key=lambda each: -each[1])
        if unit != ENGINE
    )
    return f"{share:.0%} of the planned cost is on it and {least:.0%} are asked; {others}"


def _named(operators: Mapping[str, int], most: int = 3) -> str:
    """The most frequent ones."""
    listed = [f"{name} {times}" for name, times in list(operators.items())[:most]]
    return ", ".join(listed + ["..."] * (len(operators) > most))


def _read(plan: Any) -> Placement:
    operators: dict[str, Counter[str]] = {}
    costs: list[tuple[str, float | None]] = []
    for operation in _operations(plan.model_structure.program.functions["main"].block):
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
        if usage is None:  # a constant has none
            continue
        unit = type(usage.preferred_compute_device).__name__.removeprefix("ML").removesuffix("ComputeDevice")
        operators.setdefault(unit, Counter())[operation.operator_name.rpartition(".")[2]] += 1  # "ios17.conv"
        cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
        costs.append((unit, None if cost is None else cost.weight))
    return Placement(
        operators={unit: dict(several.most_common()) for unit, several in operators.items()},
        cost=_shares(costs),
        without_cost=sum(cost is None for _, cost in costs),
    )


def _shares(costs: Sequence[tuple[str, float | None]]) -> dict[str, float]:
    """Of each unit, from (unit, cost or None) of every operator."""
    known = [cost for _, cost in costs if cost is not None]
    if not sum(known) > 0:
        return {}
    mean = sum(known) / len(known)
    of_units: dict[str, float] = {}
    for unit, cost in costs:
        of_units[unit] = of_units.get(unit, 0.0) + (mean if cost is None else cost)
    return {unit: round(cost / sum(of_units.values()), 4) for unit, cost in of_units.items()}


def _operations(block: Any) -> Iterator[Any]:
    """Those inside of loops and branches too."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)

"""From times in ms to a quantity: are the runs stable, do they drift, what is their median."""

from collections.abc import Mapping, Sequence
from statistics import median, quantiles
from typing import Any

from harness.device.protocol import BenchmarkProtocol
from harness.records.quantity import Failed, Measured

STAGE = "latency"


def stable(times: Sequence[float], protocol: BenchmarkProtocol) -> bool:
    """Whether the medians of the last two windows of runs agree."""
    window = protocol.warm_up_window
    if len(times) < 2 * window:
        return False
    before, last = median(times[-2 * window : -window]), median(times[-window:])
    return abs(last - before) <= protocol.warm_up_tolerance * before


def drift(times: Sequence[float]) -> float:
    """By which part the last third's median differs from the first third's; above 0 is slower."""
    third = len(times) // 3
    first, last = median(times[:third]), median(times[-third:])
    return (last - first) / first


def measured(times: Sequence[float], protocol: BenchmarkProtocol, conditions: Mapping[str, Any]) -> Measured | Failed:
    """The median of the timed runs with their quartiles; Failed where they drift beyond the limit."""
    if len(times) != protocol.iterations or min(times) <= 0:
        return Failed(stage=STAGE, message=f"{len(times)} usable times came back for {protocol.iterations} runs")
    drifted = drift(times)
    if abs(drifted) > protocol.drift_limit:
        return Failed(
            stage=STAGE,
            message=f"the runs drifted by {drifted:+.0%} from the first third to the last, beyond the limit of "
            f"{protocol.drift_limit:.0%}; let the device cool, and raise protocol.cool_down_s",
        )
    low, middle, high = quantiles(times, n=4, method="inclusive")
    return Measured(
        value=middle,
        unit="ms",
        low=low,
        high=high,
        spread=f"interquartile range of {len(times)} runs",
        conditions={**conditions, "iterations": len(times), "minimum_ms": min(times), "drift": round(drifted, 4)},
    )

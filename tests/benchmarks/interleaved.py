"""Ratios of two measurements made in turn, so that what disturbs the machine disturbs both."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

PAIRS = 10
LINES: list[str] = []  # the table that ends the run


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """ours / peer, pair by pair."""

    ours: float
    peer: float
    median: float
    low: float
    high: float
    pairs: int


def ratio_of_times(
    benchmark: Any, ours: Callable[[], Any], peer: Callable[[], Any], *, name: str, pairs: int = PAIRS
) -> Ratio:
    """Seconds of `ours` and `peer`, run in turn `pairs` times after two warm-up rounds."""
    peers: list[float] = []
    benchmark.pedantic(ours, setup=lambda: peers.append(seconds(peer)), rounds=pairs, warmup_rounds=2)
    return report(benchmark, benchmark.stats.stats.data, peers[-pairs:], name=name, unit="s")


def report(benchmark: Any, ours: Sequence[float], peer: Sequence[float], *, name: str, unit: str) -> Ratio:
    """The ratios of pairs already measured; they go into the benchmark's file and the table at the end."""
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    ratio = Ratio(ours=median(ours), peer=median(peer), median=median(ratios), low=low, high=high, pairs=len(ratios))
    benchmark.extra_info[name] = vars(ratio)
    LINES.append(
        f"{name:58} {ratio.ours:9.4g} {unit} / {ratio.peer:9.4g} {unit} = "
        f"{ratio.median:8.4g} [{low:.4g}, {high:.4g}], {len(ratios)} pairs"
    )
    return ratio


def seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started

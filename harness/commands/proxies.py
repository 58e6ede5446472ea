"""`harness proxies NAME`: how well proxy metrics predict the target one, on architectures all trained to the end."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

from harness.commands.verb import Verb
from harness.records.quantity import value_of
from harness.records.terminal import table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from harness.measure.statistics_ranks import Tau
    from harness.search.proxies import Judged, TrainedAlike
    from harness.trials.progress import Show


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxies:
    name: str
    alike: TrainedAlike
    target: str
    frame: pd.DataFrame
    judged: Sequence[Judged]
    ceiling: Mapping[str, Tau]  # what was compared -> tau of the target metric with itself

    @property
    def truth(self) -> np.ndarray:
        return self.frame[self.target].to_numpy(float)


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--against", choices=("kid", "fd"), default="kid", help="the target metric; default kid")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def check(arguments: argparse.Namespace) -> None:
    from harness.search.definition import sweep_study
    from harness.trials.ablation_study import ablation_study
    from harness.trials.checks import check_device
    from harness.trials.studies import KINDS, read_study

    read = ablation_study if KINDS["ablation"] in read_study("sweeps", arguments.name) else sweep_study
    _, settings = read(arguments.name, arguments.overrides)
    check_device(settings)


def run(arguments: argparse.Namespace) -> int:
    from harness.trials.progress import Show

    judged = proxies(arguments.name, arguments.overrides, arguments.against, Show())
    print(json.dumps(_plain(judged), indent=1) if arguments.json else _text(judged))
    return 0


VERB = Verb(
    summary="tell how well proxy metrics predict quality: Kendall's tau and regret",
    name="a sweep or ablation whose architectures were all trained to the end",
    example="harness proxies unselected",
    lists="studies",
    flags=flags,
    check=check,
    run=run,
)


def proxies(name: str, overrides: Sequence[str], target: str, show: Show) -> Proxies:
    """Judge every proxy metric that the study's records and samples have."""
    import numpy as np

    from harness.measure.statistics_ranks import tau
    from harness.search.proxies import Part, cheap_scores, judge, part_columns, part_scores, small_parts, trained_alike

    alike = trained_alike(name, overrides, target)
    samples = int(alike.records[0].quantities[target].conditions["samples"])  # type: ignore[union-attr]
    halves = (Part(0, samples // 2), Part(samples // 2, samples))
    small = small_parts(samples)
    rest = {n: Part(n, samples) for n in small}
    parts = list(dict.fromkeys([*small.values(), *rest.values(), *halves]))
    scored = part_scores(alike.records, alike.prepared, target, parts, show)
    frame, scores = cheap_scores(alike, target)
    of = {part: np.array([scored[key][part.name] for key in frame.index]) for part in parts}
    frame = frame.assign(**{f"{target}@{n}": of[part] for n, part in small.items()})
    ceiling = {f"{target} of the first half of the samples with the second half's": tau(of[halves[0]], of[halves[1]])}
    for n in small:
        if (small[n], rest[n]) != halves:
            what = f"{target} of the first {n} samples with that of the other {samples - n}"
            ceiling[what] = tau(of[small[n]], of[rest[n]])
    ceiling |= _between_seeds(alike, target)
    judged = judge(frame, target, [*scores, *part_columns(target, samples)])
    return Proxies(name=name, alike=alike, target=target, frame=frame, judged=judged, ceiling=ceiling)


def _between_seeds(alike: TrainedAlike, target: str) -> dict[str, Tau]:
    """For each other seed that enough of the architectures were trained with."""
    import numpy as np

    from harness.measure.statistics_ranks import tau
    from harness.search.proxies import other_seeds

    ceiling = {}
    for seed, records in sorted(other_seeds(alike).items()):
        pairs = [
            (value_of(record.quantities[target]), value_of(other.quantities.get(target)))
            for record in alike.records
            if (other := records.get(record.architecture_fingerprint)) is not None
        ]
        values = np.array([pair for pair in pairs if None not in pair], dtype=float)
        if len(values) >= 3:
            ceiling[f"{target} of seed {alike.seed} with that of seed {seed}"] = tau(values[:, 0], values[:, 1])
    return ceiling


def _text(shown: Proxies) -> str:
    from harness.measure.statistics import LEVEL
    from harness.search.proxies import TOP, random_regrets

    alike = shown.alike
    head = f"{len(alike.records)} architectures of {shown.name}, {alike.steps} steps each, seed {alike.seed}"
    columns = ("proxy metric", "costs", f"tau with {shown.target}", f"{LEVEL:.0%} interval", "ranks first")
    rows = [
        (
            each.score.name,
            each.score.cost,
            *_tau_cells(each.tau, len(shown.frame)),
            f"the {each.score.first}",
            *(f"{each.regrets[k]:.3g}" for k in TOP),
        )
        for each in shown.judged
    ]
    by_chance = [f"{regret:.3g}" for regret in random_regrets(shown.truth).values()]
    chance = ("(a random choice)", "no training", "", "", "", *by_chance)
    judged = table((*columns, *(f"regret of top {k}" for k in TOP)), [*rows, chance], head)
    ceiling = table(
        ("the target metric with itself", "tau", f"{LEVEL:.0%} interval"),
        [(what, *_tau_cells(each, len(shown.frame))) for what, each in shown.ceiling.items()],
        "how well the target metric itself is known: disjoint samples, each fewer than its own, or another seed",
    )
    return "\n".join([judged, "", ceiling, "", *_legend(shown)])


def _tau_cells(tau: Tau, of: int) -> tuple[str, str]:
    if isnan(tau.value):
        return "none: all are equal", ""
    fewer = f" ({tau.count} of {of})" if tau.count < of else ""
    interval = "unknown: too many are equal" if isnan(tau.low) else f"{tau.low:+.2f} to {tau.high:+.2f}"
    return f"{tau.value:+.2f}{fewer}", interval


def _legend(shown: Proxies) -> list[str]:
    import numpy as np

    from harness.measure.statistics_ranks import RESAMPLES

    target, truth = shown.target, shown.truth
    return [
        *shown.alike.notes,
        f"{target}: lower is better; {truth.min():.3g} to {truth.max():.3g}, median {np.median(truth):.3g}",
        f"tau: Kendall's tau-b of the score as it is with {target}: below 0 where more of it goes with less {target}",
        f"interval: percentiles of {RESAMPLES:,} bootstrap samples of the architectures",
        f"regret: the best {target} among the k that the score ranks first, minus the best of all",
        f"{target}@n: of the first n samples, which {target} itself is of too; its agreement with the others is above",
        "one seed: another one would move every number, and so would another space or training",
    ]


def _plain(shown: Proxies) -> dict[str, Any]:
    from harness.search.proxies import random_regrets

    return {
        "study": shown.name,
        "architectures": len(shown.alike.records),
        "steps": shown.alike.steps,
        "seed": shown.alike.seed,
        "against": shown.target,
        "scores": [
            {
                "score": each.score.name,
                "cost": each.score.cost,
                **_plain_tau(each.tau),
                "ranks_first": each.score.first,
                "regret": {str(k): regret for k, regret in each.regrets.items()},
            }
            for each in shown.judged
        ],
        "random_choice": {"regret": {str(k): regret for k, regret in random_regrets(shown.truth).items()}},
        "ceiling": [{"compared": what, **_plain_tau(each)} for what, each in shown.ceiling.items()],
        "notes": list(shown.alike.notes),
    }


def _plain_tau(tau: Tau) -> dict[str, Any]:
    numbers = {"tau": tau.value, "low": tau.low, "high": tau.high}
    return {**{name: None if isnan(value) else value for name, value in numbers.items()}, "n": tau.count}

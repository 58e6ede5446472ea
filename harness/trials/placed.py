"""What an architecture costs place by place: the counter's rows and the predictor's operators, summed by the places of
its outline, which are those of its drawing."""

from collections.abc import Iterable, Mapping

import numpy as np

from harness.architecture.config import ArchitectureConfig
from harness.architecture.outlines import outline
from harness.latency.predicted import PredictedLatency
from harness.measure.cost import Cost
from harness.predictor import calibration
from harness.predictor.chips import chip_named
from harness.predictor.operators import Operators, each_operator
from harness.predictor.predict import predict_operators
from harness.predictor.roofline import operators_ms, scale_of
from harness.records.placed_cost import PlacedCost, Share
from harness.records.quantity import Predicted
from harness.trials.costs import cost_of


def placed_cost(config: ArchitectureConfig, latent: int, backend: PredictedLatency | None = None) -> PlacedCost:
    """Of one forward pass on one latent of that height and width; the prediction as `backend` makes it, or the default
    chip's. UserError where the architecture takes no such latent."""
    backend = backend or PredictedLatency()
    cost = cost_of(config, latent)
    rows, operators = each_operator(cost.rows)
    latency = predict_operators(
        operators, chip=backend.chip, compute_unit=backend.compute_unit, weight_bits=backend.weight_bits
    )
    predicted = isinstance(latency, Predicted)
    milliseconds = _milliseconds(operators, backend) if predicted else np.zeros(len(rows))
    times = [(row.place, row.operator, float(ms)) for row, ms in zip(rows, milliseconds, strict=True)]
    drawn = list(outline(config).nodes())
    by_operator = _by_operator(cost, times, predicted=predicted)
    return PlacedCost(
        latent=latent,
        chip=backend.chip,
        places=_by_place(cost, times, drawn, predicted=predicted),
        operators=dict(sorted(by_operator.items(), key=lambda item: (-(item[1].ms or 0), -item[1].macs))),
        latency=latency,
        fixed_ms=calibration.read().fitted.physics.fixed_ms if predicted else 0.0,
    )


def _milliseconds(operators: Operators, backend: PredictedLatency) -> Operators:
    fitted, chip = calibration.read().fitted, chip_named(backend.chip)
    return operators_ms(operators, fitted.physics, chip, scale_of(fitted.scales, chip), backend.weight_bits)


Times = Iterable[tuple[str, str, float]]
"""(place, operator, milliseconds)."""


def _by_place(cost: Cost, times: Times, drawn: Iterable[str], *, predicted: bool) -> dict[str, Share]:
    """A place inside a drawn one counts there; others by their first name, as `time_embedding`."""
    drawn = list(drawn)
    params, macs, calls = (dict.fromkeys(drawn, 0) for _ in range(3))
    ms: dict[str, float] = {}
    names: dict[str, str] = {}

    def of(place: str) -> str:
        if place not in names:
            names[place] = next((one for one in drawn if is_inside(place, one)), place.partition(".")[0])
        return names[place]

    for place, count in cost.params_by_place.items():
        params[of(place)] = params.get(of(place), 0) + count
    for row in cost.rows:
        macs[of(row.place)] = macs.get(of(row.place), 0) + row.cost.macs
        calls[of(row.place)] = calls.get(of(row.place), 0) + 1
    for place, _, taken in times:
        ms[of(place)] = ms.get(of(place), 0.0) + taken
    return {
        place or "(itself)": Share(
            params=params.get(place, 0), macs=macs.get(place, 0), calls=calls.get(place, 0),
            ms=ms.get(place, 0.0) if predicted else None,
        )
        for place in dict.fromkeys((*drawn, *params, *macs))
    }  # fmt: skip


def is_inside(place: str, outer: str) -> bool:
    """Whether the place is that one or a module in it: `down.0.block.1.norm1` in `down.0.block.1`, not in `down.0`'s
    `block.10`."""
    return place == outer or place.startswith(f"{outer}.")


def _by_operator(cost: Cost, times: Times, *, predicted: bool) -> Mapping[str, Share]:
    ms: dict[str, float] = {}
    for _, operator, taken in times:
        ms[operator] = ms.get(operator, 0.0) + taken
    calls: dict[str, int] = {}
    for row in cost.rows:
        calls[row.operator] = calls.get(row.operator, 0) + 1
    return {
        name: Share(macs=tally.macs, calls=calls[name], ms=ms.get(name, 0.0) if predicted else None)
        for name, tally in cost.by_operator().items()
    }

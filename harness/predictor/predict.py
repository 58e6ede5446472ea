"""The predicted latency of a module on a named chip: a number with its interval, or a sentence why there is none."""

from collections.abc import Sequence
from dataclasses import replace
from math import exp
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from harness.device.request import ComputeUnit
from harness.measure.cost import count
from harness.predictor.calibration import Calibration, network_key, read, total_macs
from harness.predictor.chips import Chip, chip_named
from harness.predictor.memory import HALF, chunks, doubts, weights_mb, why_too_big
from harness.predictor.operators import Operators, operators_of
from harness.records.errors import UserError
from harness.records.quantity import Predicted, Unavailable

NEURAL_ENGINE_UNITS: tuple[ComputeUnit, ...] = ("CPU_AND_NE", "ALL")
"""Under these Core ML runs convolutional networks on the Neural Engine; the published data are of both."""


def predict_latency(
    module: nn.Module,
    inputs: Sequence[Any],
    *,
    chip: str,
    compute_unit: ComputeUnit = "CPU_AND_NE",
    weight_bits: float = 16,
    calibration: Calibration | None = None,
) -> Predicted | Unavailable:
    """Milliseconds of `module(*inputs)` in fp16 under Core ML, on an iPhone's chip ("A17 Pro").

    The module and the inputs may be on the meta device: shapes are all that is used. weight_bits: of palettised
    weights, which shrink traffic and nothing else. calibration: the package's by default. Unavailable where the
    network is predicted not to fit, and on compute units of which there are no measurements. An unknown chip and an
    unknown operator are UserErrors.
    """
    chip_named(chip)  # before the count, which takes longer
    operators = operators_of(count(module, inputs).rows)
    prediction = predict_operators(
        operators, chip=chip, compute_unit=compute_unit, weight_bits=weight_bits, calibration=calibration
    )
    if isinstance(prediction, Unavailable):
        return prediction
    shapes = [list(x.shape) for x in tree_leaves(tuple(inputs)) if isinstance(x, Tensor)]
    sizes = {"latent": shapes[0][-1], "batch": shapes[0][0], "inputs": shapes} if shapes else {}
    return replace(prediction, conditions={**prediction.conditions, **sizes})


def predict_operators(
    operators: Operators,
    *,
    chip: str,
    compute_unit: ComputeUnit = "CPU_AND_NE",
    weight_bits: float = 16,
    calibration: Calibration | None = None,
) -> Predicted | Unavailable:
    """`predict_latency` from an operator list."""
    named, calibration = chip_named(chip), calibration or read()
    if not 0 < weight_bits <= 16:
        raise UserError(f"weights have more than 0 and at most 16 bits, not {weight_bits:g}")
    if compute_unit not in NEURAL_ENGINE_UNITS:
        return Unavailable(
            reason=f"no latencies under {compute_unit} to predict from; measure on a phone, or choose one of: "
            f"{', '.join(NEURAL_ENGINE_UNITS)}"
        )
    remedies = _remedies(operators, weight_bits, named, calibration)
    if (why := why_too_big(operators, weight_bits, named)) is not None:
        return Unavailable(reason="; ".join((why, *remedies)))
    value = calibration.fitted.predict(operators, named.name, weight_bits)
    reasons = [*_extrapolations(operators, named, weight_bits, calibration), *remedies]
    reach = exp(calibration.half_width_extrapolated if reasons else calibration.half_width)
    return Predicted(
        value=value,
        unit="ms",
        low=value / reach,
        high=value * reach,
        extrapolated=bool(reasons),
        conditions={
            "chip": named.name,
            "compute_unit": compute_unit,
            "weight_bits": weight_bits,
            "nominal": calibration.nominal,
            "extrapolated_because": reasons,
            "calibration": calibration.fingerprint,
            "fitted_on": calibration.fitted_on,
            "fitted_to": calibration.networks.get(network_key(operators), ""),  # '' where it tests the physics
        },
    )


def _extrapolations(operators: Operators, chip: Chip, weight_bits: float, calibration: Calibration) -> list[str]:
    """Why nothing like this is among the data; none where something is."""
    reasons = []
    points, (least, most), macs = calibration.points.get(chip.name, 0), calibration.macs, total_macs(operators)
    if points < calibration.few_points:
        reasons.append(f"{points} latencies of the {chip.name} are in the data, fewer than {calibration.few_points}")
    if not least <= macs <= most:
        reasons.append(f"{macs / 1e9:.3g} G multiply-adds, and the data have {least / 1e9:.3g} to {most / 1e9:.3g} G")
    return reasons + doubts(operators, weight_bits, chip)


def _remedies(operators: Operators, weight_bits: float, chip: Chip, calibration: Calibration) -> list[str]:
    """What chunks or 8 bits would change for a network whose fp16 weights are beyond the edge; else nothing. A chunk's
    own cost is a start."""
    if (parts := chunks(operators, weight_bits, chip)) == 1:
        return []
    whole, eight = (weights_mb(operators, bits) for bits in (HALF, 8))
    at_eight, at_half = (calibration.fitted.predict(operators, chip.name, bits) for bits in (8, HALF))
    more = (parts - 1) * calibration.physics.fixed_ms
    return [
        f"on the engine it would take about {at_half + more:.4g} ms as {parts} chunks of {whole / parts:,.0f} MB, or "
        f"about {at_eight:.4g} ms at 8 bits with {eight:,.0f} MB"
    ]

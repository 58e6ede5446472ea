"""Milliseconds from an operator list: its arithmetic or its memory traffic, whichever takes longer, and launches.

    time = fixed + sum over operators of max(arithmetic, traffic) + scores * bytes a score / bandwidth + launch
                 + an attention's own cost, where it is one
    arithmetic = sum over kinds of multiply-adds / (efficiency of the kind * peak), and elements / rate of the kind
    traffic = (weights * bits / 8 + what of the activations does not fit on the chip) / bandwidth

Scores are attention's, heads x queries x keys. They are written, normalised and read again between its two matmuls,
which wait for them: on an M5 Pro Whisper takes half as long where they stay on the engine (published_ratios.csv).

The roofline is Williams, Waterman and Patterson's (2009); the on-chip memory is what Apple's Neural Engine has under
its DRAM. An operator that reads and writes s bytes sends s * s / (s + S) of them through DRAM: few where s is far below
S, nearly all far above, gradually, as measured (https://maderix.substack.com/p/inside-the-m4-apple-neural-engine-615).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from harness.predictor.chips import Chip
from harness.predictor.operators import COLUMNS, Operators
from harness.records.errors import UserError

ACTIVATION_BYTES = 2  # fp16
REFERENCE_TERA_MACS = 7.9  # the A15's: the rates of elements are given for it and scale with a chip's throughput
INDEX = {name: 1 + index for index, name in enumerate(COLUMNS)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Physics:
    """Shared by all chips; all positive."""

    dense: float  # share of the peak that regular convolutions and linear layers reach
    depthwise: float
    attention: float  # matmuls between activations
    vector: float  # 10^9 elements a second on an A15, as the next one
    norm: float
    score_bytes: float  # that a score moves through memory
    bandwidth: float  # share of DRAM's; above 1 where caches serve
    on_chip_mb: float  # S above, in 10^6 bytes
    launch_ms: float  # an operator's
    attention_ms: float  # an attention's, beyond its matmuls and scores, however few its tokens
    fixed_ms: float  # a prediction's

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise UserError(f"the predictor's {field.name} is above 0, not {getattr(self, field.name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ChipScale:
    """By how much a chip's throughput and bandwidth differ from the public numbers."""

    throughput: float = 1.0
    bandwidth: float = 1.0


def milliseconds(operators: Operators, physics: Physics, chip: Chip, scale: ChipScale, weight_bits: float) -> float:
    """The predicted time of one forward pass in ms; of no operators 0."""
    if not len(operators):
        return 0.0
    return float(operators_ms(operators, physics, chip, scale, weight_bits).sum()) + physics.fixed_ms


def operators_ms(
    operators: Operators, physics: Physics, chip: Chip, scale: ChipScale, weight_bits: float | Operators
) -> Operators:
    """Of each operator as often as the network has it, in ms; `weight_bits` may be one number for each."""
    arithmetic = arithmetic_ms(operators, physics, chip, scale)
    traffic = traffic_ms(operators, physics, chip, scale, weight_bits)
    scores = operators[:, INDEX["scores"]]
    between = scores * physics.score_bytes / bytes_in_a_ms(physics, chip, scale) + (scores > 0) * physics.attention_ms
    each = np.maximum(arithmetic, traffic) + between + operators[:, INDEX["launches"]] * physics.launch_ms
    return np.asarray(operators[:, 0] * each)


def arithmetic_ms(operators: Operators, physics: Physics, chip: Chip, scale: ChipScale) -> Operators:
    """Of each operator, in ms."""
    peak = chip.tera_macs * scale.throughput * 1e9  # multiply-adds in a ms
    rate = chip.tera_macs / REFERENCE_TERA_MACS * scale.throughput * 1e6  # of an A15's elements in a ms, per 10^9 / s
    macs = sum(operators[:, INDEX[kind]] / getattr(physics, kind) for kind in ("dense", "depthwise", "attention"))
    elements = sum(operators[:, INDEX[kind]] / getattr(physics, kind) for kind in ("norm", "vector"))
    return np.asarray(macs / peak + elements / rate)


def traffic_ms(
    operators: Operators, physics: Physics, chip: Chip, scale: ChipScale, weight_bits: float | Operators
) -> Operators:
    """Of each operator, in ms. Weights come from DRAM in their stored width."""
    weights = operators[:, INDEX["weights"]] * weight_bits / 8
    touched = operators[:, INDEX["activations"]] * ACTIVATION_BYTES
    spilled = touched * touched / (touched + physics.on_chip_mb * 1e6)
    return np.asarray((weights + spilled) / bytes_in_a_ms(physics, chip, scale))


def bytes_in_a_ms(physics: Physics, chip: Chip, scale: ChipScale) -> float:
    return chip.bandwidth_gb_s * physics.bandwidth * scale.bandwidth * 1e6


def scale_of(scales: Mapping[str, ChipScale], chip: Chip) -> ChipScale:
    """A chip without measurements of its own is taken at its public numbers."""
    return scales.get(chip.name, ChipScale())

"""Whether a model fits the Neural Engine at all: what has run on a phone, and what has failed there.

Between the largest that ran and the smallest that failed nobody knows: there a prediction is made, and marked as
extrapolated.
"""

from collections.abc import Callable
from dataclasses import dataclass

from harness.predictor.operators import Operators
from harness.predictor.roofline import ACTIVATION_BYTES, INDEX


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    what: str
    size_mb: Callable[[Operators, float], float]  # of a network at its weight bits
    runs_mb: float
    fails_mb: float
    source: str


def weights_mb(operators: Operators, weight_bits: float) -> float:
    return float(operators[:, 0] @ operators[:, INDEX["weights"]]) * weight_bits / 8 / 1e6 if len(operators) else 0.0


def largest_operator_mb(operators: Operators, weight_bits: float) -> float:  # noqa: ARG001
    """What one operator reads and writes, at most: none of it can be given back while it runs."""
    return float(operators[:, INDEX["activations"]].max()) * ACTIVATION_BYTES / 1e6 if len(operators) else 0.0


LIMITS = (
    Limit(
        what="its weights take",
        size_mb=weights_mb,
        runs_mb=1297,  # SDXL's UNet at 4.04 bits, 2567 M parameters, on an iPhone 12 Pro (published.csv)
        fails_mb=1731,  # 866 M parameters in fp16
        source="Stable Diffusion 2.1's UNet with 1,731 MB has to be split in two for an iPhone's Neural Engine "
        "(github.com/apple/ml-stable-diffusion, --chunk-unet)",
    ),
    Limit(
        what="one of its operators reads and writes",
        size_mb=largest_operator_mb,
        runs_mb=806,  # the paper's tiny decoder at 1024 px, in our reconstruction: 192 channels in and out
        fails_mb=1073,  # 256 channels in and out at 1024 x 1024
        source="SDXL's decoder with 1,074 MB runs out of memory on the Neural Engine of an iPhone 15 Pro "
        "(SnapGen, arXiv 2412.09619, Tab. 2)",
    ),
)


def why_too_big(operators: Operators, weight_bits: float) -> str | None:
    """The sentence for a network that is as large as one that failed; None where none is known to."""
    for limit in LIMITS:
        size = limit.size_mb(operators, weight_bits)
        if size >= limit.fails_mb:
            return f"predicted not to fit the Neural Engine: {limit.what} {size:,.0f} MB, and {limit.source}"
    return None


def is_proven(operators: Operators, weight_bits: float) -> bool:
    """Whether a network as large has run."""
    return all(limit.size_mb(operators, weight_bits) <= limit.runs_mb for limit in LIMITS)

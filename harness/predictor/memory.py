"""Whether a model fits the Neural Engine at all: what has run on a device, what is documented, and what has failed.

Between the largest that ran and the smallest that failed nobody knows: there a prediction is made, and marked as
extrapolated. Weights of 16 bits have a limit of their own on a phone, about 1 GiB, beyond which a network may leave the
engine: that a 4-bit one of 1,297 MB runs there proves nothing for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf

from harness.predictor.chips import Chip
from harness.predictor.operators import Operators
from harness.predictor.roofline import ACTIVATION_BYTES, INDEX

EDGE_MB = 2**30 / 1e6  # 1 GiB; Apple says "less than 1GB"
CHUNK_MB = 1000.0
HALF = 16.0  # bits of weights that are not palettized


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    what: str
    size_mb: Callable[[Operators, float], float]  # of a network at its weight bits
    holds: Callable[[Chip, float], bool]  # for that chip at those bits
    runs_mb: float  # known to run, or documented to
    fails_mb: float = inf
    source: str
    beyond: str = "nothing as large is known to have run on the Neural Engine"


def weights_mb(operators: Operators, weight_bits: float) -> float:
    return float(operators[:, 0] @ operators[:, INDEX["weights"]]) * weight_bits / 8 / 1e6 if len(operators) else 0.0


def largest_operator_mb(operators: Operators, weight_bits: float) -> float:  # noqa: ARG001
    """What one operator reads and writes, at most: none of it can be given back while it runs."""
    return float(operators[:, INDEX["activations"]].max()) * ACTIVATION_BYTES / 1e6 if len(operators) else 0.0


LIMITS = (
    Limit(
        what="its fp16 weights take",
        size_mb=weights_mb,
        holds=lambda chip, bits: chip.is_phones and bits >= HALF,
        runs_mb=EDGE_MB,
        fails_mb=1731,  # 866 M parameters
        source="Stable Diffusion 2.1's UNet with 1,731 MB has to be split in two, each below 1 GB, for an iPhone's "
        "Neural Engine (github.com/apple/ml-stable-diffusion, --chunk-unet)",
        beyond="it may leave the Neural Engine: Apple asks for chunks below 1 GB of fp16 weights on an iPhone "
        "(github.com/apple/ml-stable-diffusion, --chunk-unet; 1 GiB is 1,074 MB)",
    ),
    Limit(
        what="its fp16 weights take",
        size_mb=weights_mb,
        holds=lambda chip, bits: not chip.is_phones and bits >= HALF,
        runs_mb=1719,
        source="Stable Diffusion 1's UNet on an M1 and an M2 (published.csv)",
    ),
    Limit(
        what="its palettized weights take",
        size_mb=weights_mb,
        holds=lambda _, bits: bits < HALF,
        runs_mb=1297,
        source="SDXL's UNet at 4.04 bits, 2567 M parameters, on an iPhone 12 Pro (published.csv)",
    ),
    Limit(
        what="one of its operators reads and writes",
        size_mb=largest_operator_mb,
        holds=lambda *_: True,
        runs_mb=806,  # the paper's tiny decoder at 1024 px, in our reconstruction: 192 channels in and out
        fails_mb=1073,  # 256 channels in and out at 1024 x 1024
        source="SDXL's decoder with 1,074 MB runs out of memory on the Neural Engine of an iPhone 15 Pro "
        "(SnapGen, arXiv 2412.09619, Tab. 2)",
    ),
)


def why_too_big(operators: Operators, weight_bits: float, chip: Chip) -> str | None:
    """The sentence for a network that is as large as one that failed; None where none is known to."""
    for limit in LIMITS:
        size = limit.size_mb(operators, weight_bits)
        if limit.holds(chip, weight_bits) and size >= limit.fails_mb:
            return f"predicted not to fit the Neural Engine: {limit.what} {size:,.0f} MB, and {limit.source}"
    return None


def doubts(operators: Operators, weight_bits: float, chip: Chip) -> list[str]:
    """A sentence for each limit that no network as large is known to have run at; none where all is proven."""
    return [
        f"{limit.what} {size:,.0f} MB, and {limit.beyond}"
        for limit in LIMITS
        if limit.holds(chip, weight_bits) and (size := limit.size_mb(operators, weight_bits)) > limit.runs_mb
    ]


def chunks(operators: Operators, weight_bits: float, chip: Chip) -> int:
    """Into how many parts of equal weights a network is cut so that each is below Apple's limit; 1: it stays whole."""
    size = weights_mb(operators, weight_bits)
    return ceil(size / CHUNK_MB) if chip.is_phones and weight_bits >= HALF and size > EDGE_MB else 1

"""The scale on which distances between objectives are judged: 0.1 against 0.2 is as much as 1 against 2.

    glog(v, s) = asinh(v / 2s)          about ln(v / s) far above s; linear about 0, and odd

A logarithm that goes on through 0 (the generalised log of Durbin et al., Bioinformatics 18, 2002): what is smaller than
the noise s is no ratio. An unbiased KID may be 0 or below, and there it keeps its order and its differences in units of
s. The map rises strictly, so no front changes; an epsilon-net and a hypervolume do, and they are why it is there.

It is for distances alone: what is stored, shown and concluded from are the plain values.
"""

from collections.abc import Mapping
from math import asinh

from harness.records.errors import UserError

KID_KERNEL = 10.0
"""Times 1 / N: about what the KID of N real pictures differs from 0 (-0.02 at N = 512 for the digits). Chosen."""

FRACTIONS = ("class_agreement",)
"""Of N samples; judged by what is missing to 1: 1% of errors against 2% is as much as 10% against 20%."""

COUNTS_FROM_0 = ("twin.preflight",)
"""Where 0 against 1 is no more than a few apart: linear up to about 1, a logarithm beyond."""

ABOVE_ZERO = 1e-6
"""The s of what is above 0 by its nature (counts, times, losses, Fréchet distances): a plain logarithm."""


def noise_of(objective: str, samples: int) -> float:
    """The s of an objective that is scored on so many samples."""
    if samples < 1:
        raise UserError(f"a score is of at least 1 sample, not {samples}")
    if objective == "kid":
        return KID_KERNEL / samples
    if objective in COUNTS_FROM_0:
        return 0.5
    return 1 / samples if objective in FRACTIONS else ABOVE_ZERO


def scaled(objective: str, value: float, samples: int) -> float:
    """The value on its scale; rises strictly with the value."""
    noise = noise_of(objective, samples)
    return -glog(1 - value, noise) if objective in FRACTIONS else glog(value, noise)


def all_scaled(values: Mapping[str, float], samples: int) -> tuple[float, ...]:
    """Objective -> value, each on its own scale, in their order."""
    return tuple(scaled(name, value, samples) for name, value in values.items())


def glog(value: float, noise: float) -> float:
    return asinh(value / (2 * noise))

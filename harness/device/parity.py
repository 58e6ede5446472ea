"""Whether a device computes what the module computes: PSNR of its outputs against reference outputs."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

Arrays = Mapping[str, "numpy.ndarray[Any, Any]"]
"""Name of an input or output -> its values."""


def psnr_db(found: "numpy.ndarray[Any, Any]", reference: "numpy.ndarray[Any, Any]") -> float:
    """20 log10(max|reference| / root mean square error), as Apple's conversions are gated; inf where equal."""
    import numpy

    wanted = numpy.asarray(reference, dtype=numpy.float64)
    error = math.sqrt(float(numpy.mean((numpy.asarray(found, dtype=numpy.float64) - wanted) ** 2)))
    peak = float(numpy.abs(wanted).max())
    return math.inf if error == 0 else 20 * math.log10(peak / error) if peak > 0 else -math.inf


def disagreement(found: Arrays, reference: Arrays, least_db: float) -> tuple[float, str]:
    """The lowest PSNR of all outputs, and a sentence where it is too low; "" where the outputs agree.

    A reference of nothing but zeros proves nothing, so it does not pass; neither do NaN or another shape.
    """
    import numpy

    worst, problem = math.inf, ""
    for name, wanted in reference.items():
        if name not in found:
            return -math.inf, f"the device gave no output '{name}', only {', '.join(sorted(found)) or 'none'}"
        given = found[name]
        if given.size != wanted.size:
            return -math.inf, f"the device's '{name}' has the shape {given.shape}, not {wanted.shape}"
        if not numpy.isfinite(given).all():
            return -math.inf, f"the device's '{name}' holds values that are not finite"
        if not numpy.abs(wanted).max() > 0:
            return -math.inf, f"the reference of '{name}' is all zeros, so parity cannot be judged"
        decibels = psnr_db(given.reshape(wanted.shape), wanted)
        if decibels < worst:
            worst = decibels
            problem = f"the device's '{name}' reaches {decibels:.1f} dB of the module's outputs, below {least_db:g} dB"
    return worst, problem if worst < least_db else ""

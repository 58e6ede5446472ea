"""Palettized weights: every weight an index of 8, 6, 4 or 2 bits into a table of its tensor's own values.

coremltools.optimize does it on the converted program, on Linux too, with one table a tensor (`per_tensor`, what iOS 16
and later load); tensors of up to 2,048 weights stay fp16. Measured on 2 million normal weights, one thread, error as a
share of their deviation:

    8 bits   evenly spaced 0.1 s, 1.1%    k-means 2.4 s, 0.6%
    6 bits                                k-means 0.9 s, 2.5%
    4 bits   evenly spaced 0.1 s, 18%     k-means 0.6 s, 9.7%

So tables are evenly spaced at 8 bits and fitted by k-means below: at these rates 372 M weights take 0.3 to 3 minutes.
In one dimension, from 10,000 weights on, k-means has an exact solution; smaller tensors start from a fixed seed. The
same weights give the same package.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from harness.records.errors import UserError

PaletteBits: TypeAlias = Literal[8, 6, 4, 2]
Palettes: TypeAlias = Mapping[str, PaletteBits]
"""Tensor, as the fp16 program calls it -> bits; what is not named stays fp16 (`harness.coreml.palette_plan`)."""

MODES: dict[PaletteBits, str] = {8: "uniform", 6: "kmeans", 4: "kmeans", 2: "kmeans"}
"""2 bits are for some tensors of a plan; a whole network of them draws nothing."""


def palettized(model: Any, bits: PaletteBits | Palettes) -> Any:
    """The converted model (coremltools' MLModel) with tables of 2^bits values; its own weights stay as they were.

    UserError for a plan that names a tensor which the model does not have, or is too small for a table.
    """
    from coremltools.optimize import coreml

    if isinstance(bits, Mapping):
        known = coreml.get_weights_metadata(model)
        if unknown := [name for name in bits if name not in known]:
            raise UserError(
                f"the palette plan names {unknown[0]}, and the network has no such tensor of more than 2,048 weights; "
                "a plan is of one architecture: write it anew with --at-most-mb"
            )
        configuration = coreml.OptimizationConfig(op_name_configs={name: _table(each) for name, each in bits.items()})
    else:
        configuration = coreml.OptimizationConfig(global_config=_table(bits))
    return coreml.palettize_weights(model, configuration)


def _table(bits: PaletteBits) -> Any:
    from coremltools.optimize import coreml

    return coreml.OpPalettizerConfig(nbits=bits, mode=MODES[bits], granularity="per_tensor")

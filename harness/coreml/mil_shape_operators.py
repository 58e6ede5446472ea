"""MIL's operators that only move numbers: shapes, axes, parts. Their registry is `harness.coreml.mil_operators`."""

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.coreml.mil_operators import Values, ints, operator
from harness.records.errors import UserError


@operator
def reshape(x: Tensor, shape: Tensor) -> Tensor:
    """-1 is what is left; 0 keeps the size that x has there, if the ranks are equal."""
    sizes = ints(shape)
    if 0 in sizes and len(sizes) == x.dim():
        sizes = tuple(size or old for size, old in zip(sizes, x.shape, strict=True))
    return x.reshape(sizes)


@operator
def transpose(x: Tensor, perm: Tensor) -> Tensor:
    return x.permute(ints(perm))


@operator
def squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Axes of another size than 1 stay."""
    return x.squeeze() if axes is None else x.squeeze(ints(axes))


@operator
def expand_dims(x: Tensor, axes: Tensor) -> Tensor:
    """`axes` are places in the result."""
    rank = x.dim() + len(ints(axes))
    for axis in sorted(axis % rank for axis in ints(axes)):
        x = x.unsqueeze(axis)
    return x


@operator
def concat(values: Values, axis: Tensor, interleave: Tensor | bool = False) -> Tensor:
    """A list of one value is written like the value."""
    if interleave:
        raise UserError("concat is read without interleave; no export of this harness interleaves")
    return torch.cat(values if isinstance(values, tuple) else (values,), dim=int(axis))


@operator
def split(
    x: Tensor, axis: Tensor, num_splits: Tensor | None = None, split_sizes: Tensor | None = None
) -> tuple[Tensor, ...]:
    if split_sizes is not None:
        return torch.split(x, list(ints(split_sizes)), dim=int(axis))
    if num_splits is None:
        raise UserError("split needs num_splits or split_sizes; the package has neither")
    return torch.tensor_split(x, int(num_splits), dim=int(axis))


@operator
def slice_by_index(
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    """x[begin:end:stride] per axis; a mask's True: from the first, to the last, or the one element at `begin`."""
    first, last, whole = ints(begin), ints(end), (0,) * x.dim()
    steps = ints(stride) if stride is not None else (1,) * x.dim()
    from_first, to_last, pick = (
        ints(mask) if mask is not None else whole for mask in (begin_mask, end_mask, squeeze_mask)
    )
    if min(steps) < 1:
        raise UserError(f"slice_by_index is read with positive strides, not {steps}")
    return x[
        tuple(
            first[i] if pick[i] else slice(None if from_first[i] else first[i], None if to_last[i] else last[i], step)
            for i, step in enumerate(steps)
        )
    ]


@operator
def pixel_shuffle(x: Tensor, upscale_factor: Tensor) -> Tensor:
    """(B, C r^2, H, W) -> (B, C, r H, r W)"""
    return F.pixel_shuffle(x, int(upscale_factor))


@operator
def pixel_unshuffle(x: Tensor, downscale_factor: Tensor) -> Tensor:
    """(B, C, r H, r W) -> (B, C r^2, H, W)"""
    return F.pixel_unshuffle(x, int(downscale_factor))


@operator
def upsample_nearest_neighbor(
    x: Tensor, scale_factor_height: Tensor | float = 1, scale_factor_width: Tensor | float = 1
) -> Tensor:
    """By whole numbers: every pixel becomes a block of its like. (..., H, W) -> (..., a H, b W)"""
    factors = float(scale_factor_height), float(scale_factor_width)
    if not all(factor.is_integer() for factor in factors):
        raise UserError(f"upsample_nearest_neighbor is read with whole factors, not {factors}")
    return x.repeat_interleave(int(factors[0]), -2).repeat_interleave(int(factors[1]), -1)

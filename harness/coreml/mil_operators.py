"""MIL's operators in torch: those that this harness's exports emit, and no others; here those that compute.

Meaning and defaults are those of coremltools' definitions (`coremltools/converters/mil/mil/ops/defs/iOS15` to `iOS18`,
https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html). Arguments have MIL's names;
numbers come as tensors, of shape () where MIL has a scalar, texts as str, several values as a tuple.
An operator more is one function here: `@operator` registers it under its name.
"""

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.records.errors import UserError, unknown_name

Values: TypeAlias = Tensor | tuple[Tensor, ...]
Operator: TypeAlias = Callable[..., Values]
AnyOperator = TypeVar("AnyOperator", bound=Operator)
OPERATORS: dict[str, Operator] = {}


def operator(function: AnyOperator) -> AnyOperator:
    OPERATORS[function.__name__] = function
    return function


def ints(values: Tensor) -> tuple[int, ...]:
    return tuple(int(value) for value in values.reshape(-1).tolist())


# Element by element


@operator
def add(x: Tensor, y: Tensor) -> Tensor:
    return x + y


@operator
def sub(x: Tensor, y: Tensor) -> Tensor:
    return x - y


@operator
def mul(x: Tensor, y: Tensor) -> Tensor:
    return x * y


@operator
def real_div(x: Tensor, y: Tensor) -> Tensor:
    return x / y


@operator
def maximum(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x, y)


@operator
def clip(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return x.clamp(alpha.item(), beta.item())


@operator
def abs(x: Tensor) -> Tensor:  # MIL's name for it
    return x.abs()


@operator
def square(x: Tensor) -> Tensor:
    return x.square()


@operator
def sqrt(x: Tensor) -> Tensor:
    return x.sqrt()


@operator
def rsqrt(x: Tensor, epsilon: Tensor | float = 1e-12) -> Tensor:
    return torch.rsqrt(x + epsilon)


@operator
def sin(x: Tensor) -> Tensor:
    return x.sin()


@operator
def cos(x: Tensor) -> Tensor:
    return x.cos()


@operator
def greater(x: Tensor, y: Tensor) -> Tensor:
    return x > y


@operator
def logical_not(x: Tensor) -> Tensor:
    return ~x


@operator
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(cond, a, b)


@operator
def cast(x: Tensor, dtype: str) -> Tensor:
    """To a float type it stays as it is: the interpreter rounds what an operator gives to its declared type."""
    if dtype in ("fp16", "fp32"):
        return x.float()
    if dtype in ("int32", "bool"):
        return x.to({"int32": torch.int32, "bool": torch.bool}[dtype])  # towards zero, as MIL
    raise unknown_name("type to cast to", dtype, ("fp16", "fp32", "int32", "bool"))


# Activations


@operator
def relu(x: Tensor) -> Tensor:
    return F.relu(x)


@operator
def tanh(x: Tensor) -> Tensor:
    return x.tanh()


@operator
def sigmoid(x: Tensor) -> Tensor:
    return x.sigmoid()


@operator
def silu(x: Tensor) -> Tensor:
    return F.silu(x)


@operator
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    forms: dict[str, Callable[[Tensor], Tensor]] = {
        "EXACT": F.gelu,
        "TANH_APPROXIMATION": lambda x: F.gelu(x, approximate="tanh"),
        "SIGMOID_APPROXIMATION": lambda x: x * torch.sigmoid(1.702 * x),
    }
    if mode not in forms:
        raise unknown_name("mode of gelu", mode, forms)
    return forms[mode](x)


@operator
def softmax(x: Tensor, axis: Tensor) -> Tensor:
    return x.softmax(int(axis))


# Products


@operator
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(x, weight, bias)


@operator
def matmul(x: Tensor, y: Tensor, transpose_x: Tensor | bool = False, transpose_y: Tensor | bool = False) -> Tensor:
    left = x.transpose(-1, -2) if transpose_x else x
    right = y.transpose(-1, -2) if transpose_y else y
    return left @ right


@operator
def einsum(values: tuple[Tensor, ...], equation: str) -> Tensor:
    return torch.einsum(equation, *values)


@operator
def conv(
    x: Tensor,
    weight: Tensor,
    pad_type: str,
    bias: Tensor | None = None,
    strides: Tensor | None = None,
    pad: Tensor | None = None,
    dilations: Tensor | None = None,
    groups: Tensor | int = 1,
) -> Tensor:
    """x (B, C, *spatial), one to three axes of them; `pad` holds what is added before and after each."""
    spatial = x.dim() - 2
    steps = ints(strides) if strides is not None else (1,) * spatial
    spread = ints(dilations) if dilations is not None else (1,) * spatial
    if pad_type == "custom" and pad is not None:
        around = ints(pad)
        outermost_last = [side for axis in reversed(range(spatial)) for side in around[2 * axis : 2 * axis + 2]]
        x = F.pad(x, outermost_last)
    elif pad_type != "valid":
        raise UserError(f"a convolution's pad_type is read if it is custom (with pad) or valid, not '{pad_type}'")
    convolution = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1]
    out: Tensor = convolution(x, weight, bias, stride=steps, dilation=spread, groups=int(groups))
    return out


@operator
def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(D) + mask) v; a mask of truth values is True where it is looked at."""
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if attn_mask is not None:
        there = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -torch.inf) if there else scores + attn_mask
    out: Tensor = scores.softmax(-1) @ value
    return out


# Norms and reductions


@operator
def layer_norm(
    x: Tensor,
    axes: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: Tensor | float = 1e-5,
) -> Tensor:
    """gamma and beta have the shape of x in `axes`, which need not be the last."""
    over = [axis % x.dim() for axis in ints(axes)]
    shape = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
    centred = x - x.mean(over, keepdim=True)
    normed = centred * torch.rsqrt(centred.square().mean(over, keepdim=True) + epsilon)
    scaled = normed if gamma is None else normed * gamma.reshape(shape)
    return scaled if beta is None else scaled + beta.reshape(shape)


@operator
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: Tensor | float = 1e-5,
) -> Tensor:
    """x (B, C, *spatial), everything else (C,)."""
    shape = (-1,) + (1,) * (x.dim() - 2)
    normed = (x - mean.reshape(shape)) * torch.rsqrt(variance + epsilon).reshape(shape)
    scaled = normed if gamma is None else normed * gamma.reshape(shape)
    return scaled if beta is None else scaled + beta.reshape(shape)


@operator
def reduce_mean(x: Tensor, axes: Tensor | None = None, keep_dims: Tensor | bool = False) -> Tensor:
    over = ints(axes) if axes is not None else tuple(range(x.dim()))
    return x.mean(over, keepdim=bool(keep_dims))


@operator
def reduce_max(x: Tensor, axes: Tensor | None = None, keep_dims: Tensor | bool = False) -> Tensor:
    over = ints(axes) if axes is not None else tuple(range(x.dim()))
    return x.amax(over, keepdim=bool(keep_dims))

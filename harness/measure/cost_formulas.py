"""What one call of an operator costs: a table from operator to formula, and the operators that cost nothing.

A multiply-add is one. `macs` counts convolutions, linear layers and attention matmuls; `flops_fvcore` is what fvcore
0.1.5 charges for the same call: also norms, nearest and bilinear upsampling and average pooling, but nothing for
`scaled_dot_product_attention`, and nothing for a norm that is written out.

A new operator is one function here with `@formula("its_name")`, or one name in ZERO_COST.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import floor, prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from torch import Tensor

from harness.records.errors import UserError


class OpCost(NamedTuple):
    macs: int = 0
    attention: bool = False  # the multiply-adds are between two activations: an attention matmul
    flops_fvcore: int = 0
    activations: int = 0  # numbers that the call writes: its results, where they are not views of its arguments


@dataclass(slots=True)
class Call:
    """One call of an operator, as the dispatcher saw it: arguments equal to their defaults may be missing."""

    overload: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any
    is_weight: Callable[[Tensor], bool]

    def arg(self, index: int) -> Any:
        return self.args[index] if index < len(self.args) else None


Formula: TypeAlias = Callable[[Call], OpCost]
FORMULAS: dict[str, Formula] = {}


def formula(*operators: str) -> Callable[[Formula], Formula]:
    """Register the cost of `operators`, named as in `torch.ops.aten`."""

    def register(function: Formula) -> Formula:
        FORMULAS.update(dict.fromkeys(operators, function))
        return function

    return register


def cost_of(operator: str, call: Call) -> OpCost:
    """The cost of a call; an operator in neither table is a UserError."""
    if operator in ZERO_COST:
        return OpCost()
    if operator not in FORMULAS:
        raise UserError(
            f"operator '{operator}' has no cost formula; add one with @formula(\"{operator}\") in "
            f"harness/measure/cost_formulas.py, or its name to ZERO_COST there if it multiplies nothing"
        )
    return FORMULAS[operator](call)


@formula("conv1d", "conv2d", "conv3d", "convolution", "_convolution")
def _conv(call: Call) -> OpCost:
    """B * H_out * W_out * C_out * (C_in / groups) * K * K; the weight's shape is (C_out, C_in / groups, K, K)."""
    transposed = len(call.args) > 6 and isinstance(call.args[6], bool) and call.args[6]
    macs = _conv_macs(call.args[0] if transposed else call.out, call.args[1])
    # fvcore does not know the operator behind padding="same" and "valid".
    return OpCost(macs, flops_fvcore=0 if call.overload == "padding" else macs)


@formula("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(call: Call) -> OpCost:
    macs = _conv_macs(call.args[0], call.args[1])
    return OpCost(macs, flops_fvcore=macs)


def _conv_macs(positions: Tensor, weight: Tensor) -> int:
    batch = positions.shape[0] if positions.dim() == weight.dim() else 1
    return batch * prod(positions.shape[-(weight.dim() - 2) :]) * prod(weight.shape)


@formula("linear")
def _linear(call: Call) -> OpCost:
    macs = prod(call.args[0].shape) * prod(call.args[1].shape[:-1])
    return OpCost(macs, flops_fvcore=macs)


@formula("addmm")
def _addmm(call: Call) -> OpCost:
    return _product(call, call.args[1], call.args[2])


@formula("matmul", "mm", "bmm")
def _matmul(call: Call) -> OpCost:
    return _product(call, call.args[0], call.args[1])


@formula("baddbmm")
def _baddbmm(call: Call) -> OpCost:
    return _product(call, call.args[1], call.args[2])._replace(flops_fvcore=0)  # fvcore does not know it


def _product(call: Call, a: Tensor, b: Tensor) -> OpCost:
    """(..., M, K) @ (..., K, N). fvcore looks at a's batch dimensions only, also where they are broadcast to b's."""
    columns = b.shape[-1] if b.dim() > 1 else 1
    attention = not (call.is_weight(a) or call.is_weight(b))
    return OpCost(prod(call.out.shape) * a.shape[-1], attention, prod(a.shape) * columns)


@formula("einsum")
def _einsum(call: Call) -> OpCost:
    """Of two operands: the product of the sizes of all indices. Of one, which only moves or adds: nothing."""
    equation, operands = call.args[0].replace(" ", ""), call.args[1]
    if "." in equation or len(operands) > 2:
        raise UserError(f"einsum '{equation}' has no cost formula; write it with two operands and without '...'")
    fvcore = _fvcore_einsum(equation, operands)
    if len(operands) == 1:
        return OpCost(flops_fvcore=fvcore)
    indices = equation.split("->")[0].replace(",", "")
    sizes = dict(zip(indices, (size for x in operands for size in x.shape), strict=True))
    attention = not any(call.is_weight(operand) for operand in operands)
    return OpCost(prod(sizes.values()), attention, fvcore)


def _fvcore_einsum(equation: str, operands: list[Tensor]) -> int:
    """fvcore reads NumPy's estimate, which prints four digits, except for its two favourite equations."""
    order = {letter: chr(97 + i) for i, letter in enumerate(dict.fromkeys(re.sub("[^a-zA-Z]", "", equation)))}
    renamed = "".join(order.get(letter, letter) for letter in equation)
    if renamed == "abc,abd->acd":
        return prod(operands[0].shape) * operands[1].shape[-1]
    if renamed == "abc,adc->adb":
        return prod(operands[0].shape) * operands[1].shape[1]
    shaped = [np.broadcast_to(0.0, tuple(operand.shape)) for operand in operands]  # holds one number
    report = np.einsum_path(renamed, *shaped, optimize="optimal")[1]
    estimate = re.search(r"Optimized FLOP count: *([0-9.e+]+)", str(report))
    assert estimate is not None
    return floor(float(estimate[1]) / 2)


@formula("scaled_dot_product_attention")
def _attention(call: Call) -> OpCost:
    """Q (..., T, D) K^T and the weights times V (..., S, E): T S D + T S E for each head. fvcore counts nothing."""
    query, key, value = call.args[:3]
    return OpCost(prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1]), attention=True)


def _norm(affine: int) -> Formula:
    """fvcore: 5 an element with a learnt scale (argument number `affine`), 4 without."""
    return lambda call: OpCost(flops_fvcore=prod(call.args[0].shape) * (4 if call.arg(affine) is None else 5))


formula("group_norm", "layer_norm")(_norm(2))
formula("instance_norm")(_norm(1))


@formula("batch_norm")
def _batch_norm(call: Call) -> OpCost:
    if call.arg(5):  # training
        return _norm(1)(call)
    return OpCost(flops_fvcore=prod(call.args[0].shape) * (1 if call.arg(1) is None else 2))


def _for_each_output(flops: int) -> Formula:
    return lambda call: OpCost(flops_fvcore=prod(call.out.shape) * flops)


formula("upsample_nearest2d")(_for_each_output(1))
formula("upsample_bilinear2d", "grid_sampler")(_for_each_output(4))


@formula("adaptive_avg_pool2d")
def _adaptive_avg_pool(call: Call) -> OpCost:
    return OpCost(flops_fvcore=prod(call.args[0].shape))


ZERO_COST = frozenset(
    """
    alias arange as_strided broadcast_tensors broadcast_to cat channel_shuffle chunk clone contiguous copy_ detach
    diagonal embedding empty empty_like empty_strided expand expand_as eye feature_dropout fill_ flatten flip full
    full_like gather hstack index index_select lift_fresh linspace masked_fill masked_fill_ meshgrid movedim narrow
    new_empty new_full new_ones new_zeros numpy_T ones ones_like pad permute pixel_shuffle pixel_unshuffle rand
    rand_like randn randn_like reflection_pad2d repeat repeat_interleave replication_pad2d reshape roll scalar_tensor
    select slice split split_with_sizes squeeze stack swapaxes t tile to _to_copy transpose tril triu type_as unbind
    unflatten unfold unsqueeze unsqueeze_ view view_as view_as_complex view_as_real vstack zeros zeros_like
    _unsafe_view _reshape_alias constant_pad_nd where concat is_same_size item _local_scalar_dense resolve_conj
    resolve_neg

    abs add add_ addcmul all amax amin any bitwise_and bitwise_not bitwise_or clamp clamp_ clamp_max clamp_min cos
    cumsum div div_ eq erf exp expm1 float_power floor floor_divide ge gt le log log1p logical_and logical_not
    logical_or logsumexp lt max maximum mean min minimum mul mul_ ne neg norm linalg_vector_norm linalg_norm outer
    polar pow prod reciprocal remainder round rsqrt rsub sign sin sqrt square std sub sub_ sum tan true_divide var
    var_mean

    celu dropout dropout_ elu gelu glu hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_ leaky_relu
    leaky_relu_ log_softmax mish prelu relu relu6 relu6_ relu_ sigmoid sigmoid_ silu silu_ softmax _softmax softplus
    tanh tanh_ bernoulli_ rms_norm avg_pool1d avg_pool2d max_pool2d adaptive_max_pool2d adaptive_avg_pool1d
    upsample_nearest1d upsample_nearest3d upsample_bicubic2d _upsample_nearest_exact2d upsample_linear1d
    """.split()  # noqa: SIM905
)
"""Operators without a multiply-add of a layer: they move, compare, activate or go element by element; fvcore, too,
charges nothing for them. Among them is `rms_norm`, fused or not."""

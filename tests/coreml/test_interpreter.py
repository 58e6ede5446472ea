"""Every operator against torch on programs of coremltools' own builder; what is not known is an error that names it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813
from torch import nn
from torch.nn import functional as F

from harness.coreml.config import Mlprogram
from harness.coreml.export import export_package
from harness.coreml.interpreter import run_program
from harness.coreml.mil_operators import OPERATORS
from harness.coreml.mil_program import read_program
from harness.records.errors import UserError

from .mil_packages import built, normal, run_on, with_argument, with_operation

X, Y = normal(2, 6, 5, 4), normal(2, 6, 5, 4, seed=1)
KERNEL, BIAS = normal(4, 3, 3, 2, seed=2), normal(4, seed=3)
C = normal(6, seed=4)
EXACT = {"rtol": 1e-5, "atol": 1e-5}


def np_(x):
    return x.numpy()


def masked(x, mask):
    return F.scaled_dot_product_attention(x, x, x, attn_mask=mask)


MASK = torch.tensor([True, False, True, True, False])
CASES = {
    "conv, groups, stride, dilation, uneven padding": (
        lambda x: mb.conv(x=x, weight=np_(KERNEL), bias=np_(BIAS), strides=[2, 1], dilations=[1, 2], groups=2,
                          pad_type="custom", pad=[1, 0, 2, 1]),
        lambda x: F.conv2d(F.pad(x, (2, 1, 1, 0)), KERNEL, BIAS, stride=(2, 1), dilation=(1, 2), groups=2),
    ),
    "conv, valid": (
        lambda x: mb.conv(x=x, weight=np_(KERNEL), groups=2, pad_type="valid"),
        lambda x: F.conv2d(x, KERNEL, groups=2),
    ),
    "linear without bias": (lambda x: mb.linear(x=mb.reshape(x=x, shape=[12, 20]), weight=np_(normal(3, 20))),
                            lambda x: x.reshape(12, 20) @ normal(3, 20).T),
    "matmul, both transposed": (
        lambda x: mb.matmul(x=x, y=np_(normal(7, 5)), transpose_x=True, transpose_y=True),
        lambda x: x.mT @ normal(7, 5).T,
    ),
    "einsum": (lambda x: mb.einsum(values=(x, np_(normal(2, 4, 5, 3))), equation="nchw,nwhu->nchu"),
               lambda x: torch.einsum("nchw,nwhu->nchu", x, normal(2, 4, 5, 3))),
    "batch_norm": (
        lambda x: mb.batch_norm(x=x, mean=np_(C), variance=np_(C.abs()), gamma=np_(2 * C), beta=np_(-C), epsilon=0.01),
        lambda x: F.batch_norm(x, C, C.abs(), 2 * C, -C, eps=0.01),
    ),
    "layer_norm over the last axes": (
        lambda x: mb.layer_norm(x=x, axes=[2, 3], gamma=np_(Y[0, 0]), beta=np_(Y[1, 0]), epsilon=0.02),
        lambda x: F.layer_norm(x, (5, 4), Y[0, 0], Y[1, 0], eps=0.02),
    ),
    "layer_norm over the channels": (
        lambda x: mb.layer_norm(x=x, axes=[1], gamma=np_(C), beta=np_(-C)),
        lambda x: F.layer_norm(x.movedim(1, -1), (6,), C, -C).movedim(-1, 1),
    ),
    "softmax": (lambda x: mb.softmax(x=x, axis=-3), lambda x: x.softmax(1)),
    "gelu by default": (lambda x: mb.gelu(x=x), F.gelu),
    "gelu, tanh": (lambda x: mb.gelu(x=x, mode="TANH_APPROXIMATION"), lambda x: F.gelu(x, approximate="tanh")),
    "gelu, sigmoid": (lambda x: mb.gelu(x=x, mode="SIGMOID_APPROXIMATION"), lambda x: x / (1 + torch.exp(-1.702 * x))),
    "sigmoid": (lambda x: mb.sigmoid(x=x), lambda x: 1 / (1 + torch.exp(-x))),
    "silu": (lambda x: mb.silu(x=x), lambda x: x / (1 + torch.exp(-x))),
    "relu": (lambda x: mb.relu(x=x), lambda x: x.clamp(min=0)),
    "abs": (lambda x: mb.abs(x=x), torch.abs),
    "clip": (lambda x: mb.clip(x=x, alpha=-0.5, beta=0.25), lambda x: x.clamp(-0.5, 0.25)),
    "maximum": (lambda x: mb.maximum(x=x, y=np_(Y)), lambda x: torch.maximum(x, Y)),
    "reduce_max": (lambda x: mb.reduce_max(x=x, axes=[1, -1], keep_dims=True), lambda x: x.amax((1, 3), keepdim=True)),
    "reduce_max of all": (lambda x: mb.reduce_max(x=x), torch.max),
    "tanh": (lambda x: mb.tanh(x=x), lambda x: 2 / (1 + torch.exp(-2 * x)) - 1),
    "rsqrt": (lambda x: mb.rsqrt(x=mb.square(x=x), epsilon=0.5), lambda x: (x * x + 0.5) ** -0.5),
    "rsqrt by default": (lambda x: mb.rsqrt(x=mb.square(x=x)), lambda x: 1 / x.abs()),
    "sqrt": (lambda x: mb.sqrt(x=mb.square(x=x)), torch.abs),
    "sin and cos": (lambda x: mb.sub(x=mb.sin(x=x), y=mb.cos(x=x)), lambda x: x.sin() - x.cos()),
    "broadcasting": (lambda x: mb.real_div(x=mb.add(x=x, y=np_(Y[0, :1])), y=mb.mul(x=x, y=np.float32(3))),
                     lambda x: (x + Y[0, :1]) / (x * 3)),
    "reduce_mean over all": (lambda x: mb.reduce_mean(x=x), lambda x: x.mean()),
    "reduce_mean": (lambda x: mb.reduce_mean(x=x, axes=[1, -1], keep_dims=True),
                    lambda x: x.mean((1, 3), keepdim=True)),
    "reduce_mean without its axes": (lambda x: mb.reduce_mean(x=x, axes=[1, -1]), lambda x: x.mean((1, 3))),
    "cast": (lambda x: mb.cast(x=mb.cast(x=mb.mul(x=x, y=3.0), dtype="int32"), dtype="fp32"),
             lambda x: (3 * x).trunc()),
    "select": (lambda x: mb.select(cond=mb.logical_not(x=mb.greater(x=x, y=0.5)), a=x, b=np.float32(-2)),
               lambda x: torch.where(x <= 0.5, x, -2.0)),
    "reshape, 0 and -1": (lambda x: mb.reshape(x=x, shape=[0, -1, 10, 0]), lambda x: x.reshape(2, 3, 10, 4)),
    "transpose": (lambda x: mb.transpose(x=x, perm=[3, 0, 2, 1]), lambda x: x.permute(3, 0, 2, 1)),
    "expand_dims": (lambda x: mb.expand_dims(x=mb.reduce_mean(x=x, axes=[0, 1]), axes=[-1, 1]),
                    lambda x: x.mean((0, 1))[:, None, :, None]),
    "squeeze": (lambda x: mb.squeeze(x=mb.reshape(x=x, shape=[1, 12, 1, 20]), axes=[-2]),
                lambda x: x.reshape(1, 12, 20)),
    "squeeze all": (lambda x: mb.squeeze(x=mb.reshape(x=x, shape=[1, 12, 1, 20])), lambda x: x.reshape(12, 20)),
    "concat": (lambda x: mb.concat(values=(x, mb.square(x=x), x), axis=-2), lambda x: torch.cat([x, x * x, x], 2)),
    "concat of one": (lambda x: mb.concat(values=(x,), axis=1), lambda x: x),
    "split by sizes": (lambda x: mb.square(x=mb.split(x=x, split_sizes=[1, 3, 2], axis=1)[1]),
                       lambda x: x[:, 1:4].square()),
    "split by number": (lambda x: mb.square(x=mb.split(x=x, num_splits=3, axis=1)[2]), lambda x: x[:, 4:].square()),
    "slice_by_index": (
        lambda x: mb.slice_by_index(x=x, begin=[1, 1, 0, 1], end=[2, -1, 4, 2], stride=[1, 2, 1, 1],
                                    begin_mask=[True, False, False, False], end_mask=[False, False, False, True],
                                    squeeze_mask=[False, False, False, False]),
        lambda x: x[:2, 1:-1:2, 0:4, 1:],
    ),
    "slice_by_index, one element": (
        lambda x: mb.slice_by_index(x=x, begin=[1, 0, 0, -1], end=[0, 0, 0, 0],
                                    end_mask=[False, True, True, False], squeeze_mask=[True, False, False, True]),
        lambda x: x[1, :, :, -1],
    ),
    "pixel_shuffle": (
        lambda x: mb.pixel_shuffle(x=mb.concat(values=(x, x), axis=1), upscale_factor=2),
        lambda x: F.pixel_shuffle(torch.cat([x, x], 1), 2),
    ),
    "pixel_unshuffle": (
        lambda x: mb.pixel_unshuffle(x=mb.concat(values=(x, x), axis=2), downscale_factor=np.uint32(2)),
        lambda x: F.pixel_unshuffle(torch.cat([x, x], 2), 2),
    ),
    "upsample_nearest_neighbor": (
        lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2.0, scale_factor_width=3.0),
        lambda x: F.interpolate(x, scale_factor=(2.0, 3.0)),
    ),
}  # fmt: skip
ATTENTION = {
    "attention": (lambda x: mb.scaled_dot_product_attention(query=x, key=x, value=x), lambda x: masked(x, None)),
    "attention, mask of truth values": (
        lambda x: mb.scaled_dot_product_attention(query=x, key=x, value=x, attn_mask=np_(MASK)[None, None, None]),
        lambda x: masked(x, MASK[None]),
    ),
    "attention, mask of numbers": (
        lambda x: mb.scaled_dot_product_attention(query=x, key=x, value=x, attn_mask=np_(normal(5, 5))),
        lambda x: masked(x, normal(5, 5)),
    ),
}


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """The operators that all cases use, and by case what its part of one program gives."""
    folder, operators, outputs = tmp_path_factory.mktemp("operators"), set(), {}
    for cases, target in ((CASES, "iOS17"), (ATTENTION, "iOS18")):

        def body(x, cases=cases):
            return tuple(body(x) for body, _ in cases.values())

        program = built(body, [X], folder / f"{target}.mlpackage", target=target)
        operators |= {operation.operator for operation in program.operations}
        outputs |= dict(zip(cases, run_program(program, {"x0": X}, "float32").values(), strict=True))
    return operators, outputs


@pytest.mark.parametrize("name", [*CASES, *ATTENTION])
def test_an_operator_computes_what_torch_does(name, computed):
    _, reference = (CASES | ATTENTION)[name]
    torch.testing.assert_close(computed[1][name], reference(X), **EXACT)


def test_every_operator_is_among_the_cases(computed):
    assert computed[0] == set(OPERATORS)


def test_an_operator_that_is_not_known_is_named(tmp_path):
    program = built(lambda x: mb.erf(x=x), [X], tmp_path / "x.mlpackage")
    with pytest.raises(UserError, match="unknown MIL operator 'erf'; choose one of: "):
        run_on(program, [X])


def test_an_argument_that_is_not_known_is_named(tmp_path):
    program = with_argument(built(lambda x: mb.silu(x=x), [X], tmp_path / "x.mlpackage"), 0, "beta", np.float32(2))
    with pytest.raises(UserError, match=r"'silu' has the arguments \['beta'\], not read here"):
        run_on(program, [X])


def test_a_shape_that_the_package_does_not_declare_is_an_error(tmp_path):
    program = built(lambda x: mb.reduce_mean(x=x, axes=[1]), [X], tmp_path / "x.mlpackage")
    with pytest.raises(UserError, match=r"'reduce_mean' with the shape \(2, 6, 4\), and the package declares \(2, 5,"):
        run_on(with_argument(program, 0, "axes", np.array([2])), [X])


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (lambda x: mb.concat(values=(x, x), axis=1, interleave=True), "without interleave"),
        (lambda x: mb.slice_by_index(x=x, begin=[0] * 4, end=[1, 1, 1, 4], stride=[1, 1, 1, -1],
                                     begin_mask=[True] * 4, end_mask=[True] * 4), "positive strides"),
        (lambda x: mb.conv(x=x, weight=np_(KERNEL), groups=2, pad_type="same"), "custom .* or valid, not 'same'"),
        (lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=1.5), "whole factors"),
    ],
)  # fmt: skip
def test_a_setting_that_no_export_has_is_an_error_not_a_guess(body, sentence, tmp_path):
    program = built(body, [X], tmp_path / "x.mlpackage")
    with pytest.raises(UserError, match=sentence):
        run_on(program, [X])


def test_control_flow_is_an_error_that_names_it(tmp_path):
    def body(x):
        return mb.cond(pred=mb.greater(x=mb.reduce_mean(x=x), y=0.0), _true_fn=lambda: mb.exp(x=x), _false_fn=lambda: x)

    with pytest.raises(UserError, match="'cond' holds blocks of its own"):
        built(body, [X], tmp_path / "x.mlpackage")


def test_inputs_are_checked_by_name_and_shape(tmp_path):
    program = built(lambda x: mb.silu(x=x), [X], tmp_path / "x.mlpackage")
    with pytest.raises(UserError, match="unknown input of the package 'y'; choose one of: x0"):
        run_program(program, {"y": X}, "float32")
    with pytest.raises(UserError, match=r"'x0' has the shape \(2, 6, 5, 4\), not \(6, 5, 4\)"):
        run_program(program, {"x0": X[0]}, "float32")


# Rounding


@pytest.fixture(scope="module")
def third(tmp_path_factory):
    """x * 0.1 * 0.3 in fp16."""
    path = tmp_path_factory.mktemp("third") / "x.mlpackage"
    return built(lambda x: mb.mul(x=mb.mul(x=x, y=0.1), y=0.3), [X], path, precision="FLOAT16")


def half(x):
    return torch.as_tensor(x).half().float()


def test_float32_rounds_nothing_but_the_stored_constants(third):
    constants = [op for op in third.operations if op.operator == "mul"]
    assert {op.outputs[0].dtype for op in constants} == {"FLOAT16"}
    torch.testing.assert_close(run_on(third, [X]), X * half(0.1) * half(0.3), rtol=1e-6, atol=0)
    assert not torch.equal(run_on(third, [X]), half(X * half(0.1) * half(0.3)))


def test_float16_rounds_every_value_that_is_declared_fp16(third):
    expected = half(half(half(X) * half(0.1)) * half(0.3))
    torch.testing.assert_close(run_on(third, [X], "float16"), expected, rtol=0, atol=0)


def test_float16_leaves_what_is_declared_float32(third):
    first = next(index for index, op in enumerate(third.operations) if op.operator == "mul")
    operation = third.operations[first]
    exact = replace(operation, outputs=tuple(replace(x, dtype="FLOAT32") for x in operation.outputs))
    expected = half(half(X) * half(0.1) * half(0.3))
    torch.testing.assert_close(run_on(with_operation(third, first, exact), [X], "float16"), expected, rtol=0, atol=0)


def test_float16_overflows_as_the_format_does(third):
    assert run_on(third, [X.abs() * 1e7], "float16").isinf().any()
    assert run_on(third, [X.abs() * 1e7], "float32").isfinite().all()


# Compressed weights


def test_a_table_of_four_values_is_read_as_its_definition_draws_it(tmp_path):
    """The bits of the example in coremltools' docstring of the operator: indices 0 3 2 1 3, packed low bits first."""
    bits, table = np.array([0b01101100, 0b00000011], np.uint8), np.array([1, 10, 100, 1000], np.float32)

    def body(x):
        weight = mb.constexpr_lut_to_dense(indices=bits, lut=table, shape=np.array([5], np.uint32))
        return mb.add(x=x, y=weight)

    program = built(body, [torch.zeros(5)], tmp_path / "x.mlpackage", target="iOS16")
    assert run_on(program, [torch.zeros(5)]).tolist() == [1, 1000, 100, 10, 1000]


@pytest.mark.parametrize(("bits", "target"), [(8, "iOS17"), (4, "iOS17"), (6, "iOS18"), (4, "iOS18")])
def test_palettized_weights_are_unpacked(bits, target, tmp_path):
    module, x = nn.Linear(64, 64, bias=False), normal(1, 64)
    path = export_package(module, (x,), tmp_path / "x.mlpackage", Mlprogram(target=target, bits=bits)).path
    program = read_program(path)
    weight = next(
        value for value in (read() for read in program.constants.values()) if getattr(value, "shape", ()) == (64, 64)
        and value.dtype == np.float16
    )  # fmt: skip
    assert len(np.unique(weight)) <= 2**bits
    assert np.corrcoef(weight.ravel(), module.weight.detach().numpy().ravel())[0, 1] > 0.98
    torch.testing.assert_close(run_on(program, [x]), x @ torch.from_numpy(weight).float().T, **EXACT)


def test_another_compression_is_named(tmp_path):
    def body(x):
        weight = mb.constexpr_sparse_to_dense(nonzero_data=np.ones(2, np.float32), mask=np.array([0b11], np.uint8),
                                              shape=np.array([5], np.uint32))  # fmt: skip
        return mb.add(x=x, y=weight)

    with pytest.raises(UserError, match="unknown way to compress weights 'constexpr_sparse_to_dense'; choose one of"):
        built(body, [torch.zeros(5)], tmp_path / "x.mlpackage", target="iOS16")

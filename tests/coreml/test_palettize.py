"""Palettized weights: fewer bytes, few values a tensor, near the originals; the same package every time."""

import numpy as np
import pytest
import torch
from torch import nn

from harness.coreml.config import Mlprogram
from harness.coreml.export import export_package
from harness.coreml.mil_program import read_program
from harness.records.errors import UserError

CHANNELS = 64
ERRORS = {8: 0.02, 6: 0.04, 4: 0.13}  # share of the weights' deviation; normal weights


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.Conv2d(CHANNELS, 8, 1))


@pytest.fixture(scope="module")
def packages(network, tmp_path_factory):
    folder, x = tmp_path_factory.mktemp("palettize"), torch.randn(1, CHANNELS, 8, 8)
    return {
        bits: export_package(network, (x,), folder / f"{bits}.mlpackage", Mlprogram(bits=bits))
        for bits in (16, 8, 6, 4)
    }


def weight_of(summary):
    """The 3 x 3 convolution's weights as the package has them."""
    program = read_program(summary.path)
    (name,) = next(op for op in program.operations if op.operator == "conv").arguments["weight"]
    return np.asarray(program.constants[name]())


@pytest.mark.parametrize("bits", ERRORS)
def test_a_tensor_has_at_most_2_to_the_bits_values_near_its_own(network, packages, bits):
    exact, stored = network[0].weight.detach().numpy(), weight_of(packages[bits]).astype(np.float32)
    assert len(np.unique(stored)) <= 2**bits
    error = np.sqrt(np.mean((stored - exact) ** 2)) / exact.std()
    assert 0 < error < ERRORS[bits]


def test_bytes_fall_with_bits_and_the_summary_says_so(packages):
    sizes = {bits: summary.bytes for bits, summary in packages.items()}
    assert sizes[16] > sizes[8] > sizes[6] > sizes[4]
    weights = CHANNELS * CHANNELS * 9
    for bits in ERRORS:
        assert sizes[16] - sizes[bits] == pytest.approx(weights * (16 - bits) / 8, rel=0.08)
        quantity = packages[bits].quantity
        assert (quantity.value, quantity.conditions["bits"]) == (sizes[bits], bits)
        assert quantity.conditions["layout"] == "ane"


def test_the_operators_are_those_of_the_fp16_package(packages):
    assert len({tuple(summary.operators.items()) for summary in packages.values()}) == 1


def test_the_same_weights_give_the_same_table(network, packages, tmp_path):
    again = export_package(network, (torch.randn(1, CHANNELS, 8, 8),), tmp_path / "again.mlpackage", Mlprogram(bits=4))
    assert np.array_equal(weight_of(again), weight_of(packages[4]))


def test_tables_of_32_bit_weights_are_refused():
    with pytest.raises(UserError, match=r"weights of 8 bits stand for fp16 numbers; set coreml.precision=fp16 or"):
        Mlprogram(bits=8, precision="fp32")

"""What a program would be, from shapes alone, equals what was converted; known limits are met and named."""

import functools
import json
import time
from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.architecture.catalogue import architecture, catalogue_names
from harness.cli import main
from harness.coreml.config import Mlprogram
from harness.coreml.limits import LEAVES, LIMITS, Op, findings
from harness.coreml.mil_program import read_program
from harness.coreml.preflight import check_package, operations_of, preflight
from harness.models.attention import SharedHeadAttention
from harness.models.build import build, example_inputs

from .mil_packages import exported, small_last_rung

KEPT = (
    "conv",
    "linear",
    "einsum",
    "softmax",
    "scaled_dot_product_attention",
    "gelu",
    "silu",
    "upsample_nearest_neighbor",
    "pixel_shuffle",
    "pixel_unshuffle",
)
"""Operators that the converter neither fuses nor splits."""


def predicted(name, latent=None, **settings):
    config = architecture(name)
    with torch.device("meta"):
        module = build(config)
    inputs = example_inputs(config, latent=latent or config.native_latent or 128, device="meta")
    return preflight(module, inputs, Mlprogram(**settings))


def limits(report):
    return {finding.limit for finding in report.findings}


LAID_OUT, PLAIN = Mlprogram(), Mlprogram(layout="plain", target="iOS18")
BOTH = [pytest.param(LAID_OUT, id="ane"), pytest.param(PLAIN, id="plain", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def converted(last_rung, tmp_path_factory):
    """The small last rung, converted in each setting once."""

    @functools.cache
    def convert(settings):
        return (
            last_rung if settings == LAID_OUT else exported(small_last_rung(), tmp_path_factory.mktemp("x"), settings)
        )

    return convert


@pytest.mark.parametrize("config", BOTH)
def test_the_predicted_operators_are_the_converted_ones(converted, config):
    network, inputs, summary = converted(config)
    report = preflight(network, inputs, config)
    expected = {kind: summary.operators.get(kind, 0) for kind in KEPT}
    assert {kind: report.operators.get(kind, 0) for kind in KEPT} == expected
    assert report.weight_bytes == 2 * sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.slow
def test_the_layout_pays_in_the_converted_program(converted):
    """Counts of one small network after the converter's fusions; the fused attention of iOS 18 stays in `plain`."""
    laid_out, plain = converted(LAID_OUT)[2].operators, converted(PLAIN)[2].operators
    attentions = sum(isinstance(part, SharedHeadAttention) for part in converted(PLAIN)[0].modules())
    assert plain["scaled_dot_product_attention"] == attentions
    assert laid_out["transpose"] < plain["transpose"] / 2
    assert laid_out["reshape"] < plain["reshape"]
    assert laid_out["layer_norm"] >= plain["layer_norm"] > attentions  # group norms are fused in both


@pytest.mark.parametrize("config", BOTH)
def test_nothing_of_the_converted_program_is_tiled_or_64_bits_wide(converted, config):
    _, _, summary = converted(config)
    operations = read_program(summary.path).operations
    dtypes = Counter(output.dtype for operation in operations for output in operation.outputs)
    assert set(dtypes) == {"FLOAT16", "FLOAT32"}
    assert dtypes["FLOAT32"] <= 6  # the angles of the time embedding, and the output
    assert summary.operators["cast"] <= 4  # the inputs, the angles, the output
    assert "tile" not in summary.operators


def test_the_converted_program_is_checked(converted):
    (finding,) = check_package(converted(LAID_OUT)[2].path)
    assert finding.limit == "number format"
    assert "gives float32" in finding.message


@pytest.mark.slow
def test_mqa_as_it_is_is_too_tall_and_laid_out_is_not():
    plain = predicted("snapgen", layout="plain")
    (extent,) = (finding for finding in plain.findings if finding.limit == "tensor extent")
    assert "65,536" in extent.message
    assert extent.place.startswith("down.0.block.0")
    assert limits(predicted("snapgen")) == {"number format"}


def test_the_decoder_that_is_out_of_memory_in_tab_2_is_too_large_and_the_tiny_one_is_not():
    assert "tensor size" in limits(predicted("decoder/sdxl", 128))
    assert "tensor size" in limits(predicted("decoder/sd3", 128))
    assert not limits(predicted("decoder/tiny", 128))


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "heavy"), [(16, True), (8, False)])
def test_weights_above_a_gigabyte_are_named_until_they_are_palettized(bits, heavy):
    report = predicted("thin_sdxl", 32, bits=bits)
    assert report.weight_bytes == report.params * bits // 8
    assert ("weights" in limits(report)) is heavy


class Offending(nn.Module):
    """One operator for each limit."""

    def forward(self, x):  # (1, 2, 20, 20)
        wide = F.conv2d(x, x.new_ones(2, 2, 15, 15), padding=7)
        holes = F.conv2d(wide, x.new_ones(2, 2, 3, 3), dilation=2)
        tall = holes.reshape(1, 2, -1, 1).repeat(1, 1, 65, 1)
        picked = tall[:, :, torch.zeros(3, dtype=torch.long, device=x.device)]
        counted = x.argmax(1) + 1
        return picked.reshape(1, 1, 1, 1, 2, 3), counted


def test_every_limit_can_be_met():
    operations = operations_of(Offending(), (torch.empty(1, 2, 20, 20, device="meta"),))
    large = Op(kind="add", place="", shapes=((1, 2**15, 128, 128),), dtypes=("float16",))
    rare = [Op(kind=kind, place="", shapes=((1,),), dtypes=("float16",)) for kind in LEAVES]
    limits_met = {finding.limit for finding in findings([*operations, large, *rare], 2 * 10**9)}
    assert limits_met == {limit.name for limit in LIMITS} | {"weights"}
    seen = {finding.limit for finding in findings(operations, 0)}
    rare = {"tensor size", "weights", *LEAVES} - {"gather", "tile"}
    assert seen == limits_met - rare


def test_every_limit_has_its_source():
    assert all(limit.source and limit.evidence for limit in LIMITS)


def test_what_depends_on_no_input_is_a_constant():
    class Net(nn.Module):
        def forward(self, x):
            return x + torch.arange(4.0, device=x.device).cos()

    assert [op.kind for op in operations_of(Net(), (torch.randn(4),))] == ["add"]


def test_the_command_prints_one_json_object_in_seconds(capsys):
    started = time.process_time()
    assert main(["export", "snapgen", "--preflight", "--json", "--bits", "4"]) == 0
    assert time.process_time() - started < 30
    answer = json.loads(capsys.readouterr().out)
    assert (answer["name"], answer["latent"], answer["bits"], answer["layout"]) == ("snapgen", 128, 4, "ane")
    assert answer["weight_bytes"] == answer["params"] // 2
    assert answer["operators"]["conv"] > 100
    assert answer["not_laid_out"] == []


def test_the_command_prints_operators_and_warnings(capsys):
    assert main(["export", "laptop/dit", "--preflight"]) == 0
    shown = capsys.readouterr().out
    assert "exported as they are: DiT" in shown
    assert "warning: a tensor of" in shown
    assert "rank above 5" in shown


@pytest.mark.slow
def test_the_whole_catalogue_in_seconds():
    for name in catalogue_names():
        started = time.process_time()
        report = predicted(name)
        assert time.process_time() - started < 30, name
        assert sum(report.operators.values()) > 10

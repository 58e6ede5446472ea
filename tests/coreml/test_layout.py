"""The laid-out network gives the original's numbers with the original's weights, and pays in operators."""

import functools
from collections import Counter

import pytest
import torch
from torch import nn

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.coreml import layout_attention
from harness.coreml.layout import AsTokens, ane_layout, not_laid_out
from harness.coreml.preflight import operations_of
from harness.models.attention import SharedHeadAttention
from harness.models.build import build, example_inputs

from .layouts import KNOBS, RUNGS, inputs_of, random_network

BASE = architecture("laptop/thin_sdxl")
DECODER = with_edits(
    architecture("decoder/sd3"),
    {"stages.*.channels": 16, "stages.*.blocks": 1, "norm.groups": 4, "latent_channels": 4},
)
ARCHITECTURES = RUNGS | {name: with_edits(BASE, edits) for name, edits in KNOBS.items()} | {"decoder": DECODER}
ARCHITECTURES |= {name: architecture(f"laptop/{name}") for name in ("dit", "uvit")}


def largest_difference(ours, theirs) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_the_numbers_are_the_originals(name):
    config = ARCHITECTURES[name]
    network, inputs = random_network(config), inputs_of(config)
    expected = network(*inputs)
    assert expected.std() > 1e-3
    laid_out = ane_layout(network)
    assert largest_difference(laid_out(*inputs), expected) < 1e-10
    assert name not in KNOBS or not_laid_out(laid_out) == []


@torch.no_grad()
def test_masked_tokens_stay_unseen():
    network, inputs = random_network(RUNGS["qknorm_rope"]), inputs_of(RUNGS["qknorm_rope"])
    mask = torch.arange(16) < torch.tensor([[5], [16]])
    laid_out = ane_layout(network)
    assert largest_difference(laid_out(*inputs, mask), network(*inputs, mask)) < 1e-10
    assert largest_difference(laid_out(*inputs), network(*inputs, mask)) > 1e-4


@pytest.mark.parametrize(("name", "wrong"), [("_rotated", lambda x, *_: x), ("_attend", lambda q, *_: q)])
@torch.no_grad()
def test_a_wrong_attention_is_seen(monkeypatch, name, wrong):
    network, inputs = random_network(RUNGS["qknorm_rope"]), inputs_of(RUNGS["qknorm_rope"])
    monkeypatch.setattr(layout_attention, name, wrong)
    assert largest_difference(ane_layout(network)(*inputs), network(*inputs)) > 1e-4


def test_weights_are_shared_and_the_original_is_left_as_it_was():
    network = random_network(RUNGS["qknorm_rope"])
    before = {name: type(part) for name, part in network.named_modules()}
    laid_out = ane_layout(network)
    addresses = {x.data_ptr() for x in network.parameters()}
    assert {x.data_ptr() for x in laid_out.parameters()} == addresses
    assert sum(x.numel() for x in laid_out.parameters()) == sum(x.numel() for x in network.parameters())
    assert {name: type(part) for name, part in network.named_modules()} == before


@pytest.mark.parametrize("name", RUNGS)
def test_no_linear_layer_is_left_in_a_rung(name):
    with torch.device("meta"):
        laid_out = ane_layout(build(RUNGS[name]))
    assert not_laid_out(laid_out) == []
    assert not [part for part in laid_out.modules() if isinstance(part, nn.Linear | AsTokens)]


class Unknown(SharedHeadAttention):
    """What a new kind of attention is to the table: a class without an entry."""


@torch.no_grad()
def test_a_kind_without_an_entry_is_kept_between_transposes_and_named():
    config = with_edits(RUNGS["qknorm_rope"], {"middle": None})
    network, inputs = random_network(config), inputs_of(config)
    for part in network.modules():
        if isinstance(part, SharedHeadAttention):
            part.__class__ = Unknown
    laid_out = ane_layout(network)
    assert not_laid_out(laid_out) == ["Unknown"]
    assert largest_difference(laid_out(*inputs), network(*inputs)) < 1e-10


@pytest.mark.parametrize(
    ("name", "outside"), [("dit", ["DiT", "PooledText", "Sequential"]), ("uvit", ["PooledText", "UViT"])]
)
def test_of_a_peer_only_what_stands_outside_its_blocks_stays(name, outside):
    with torch.device("meta"):
        assert not_laid_out(ane_layout(build(architecture(f"laptop/{name}")))) == outside


@functools.cache
def operations(name, latent=128):
    """Every operator of the network as it is, and laid out."""
    config = architecture(name)
    inputs = example_inputs(config, latent=latent, device="meta")
    with torch.device("meta"):
        network = build(config)
    return operations_of(network, inputs), operations_of(ane_layout(network), inputs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "transposes", "reshapes"), [("thin_sdxl", (286, 99), (418, 115)), ("snapgen", (276, 99), (398, 288))]
)
def test_full_size_moves_less(name, transposes, reshapes):
    """Before the converter's fusions. Group norms, which it writes out with two reshapes each, count as one here."""
    plain, laid_out = (Counter(op.kind for op in operators) for operators in operations(name))
    assert (plain["transpose"], laid_out["transpose"]) == transposes
    assert (plain["reshape"], laid_out["reshape"]) == reshapes
    assert plain["tile"] == laid_out["tile"] == laid_out["linear"] == 0


@pytest.mark.slow
def test_mqa_at_the_papers_latent_stays_within_the_engines_extent():
    """Stacked heads are 65,536 rows at 128x128, where extents end at 16,384."""
    shapes = [[shape[-2:] for op in operators for shape in op.shapes] for operators in operations("snapgen")]
    assert [max(map(max, filter(None, sizes))) for sizes in shapes] == [65_536, 16_384]

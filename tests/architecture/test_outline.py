"""What a drawing shows is what is built: its places hold the weights, its attentions are those that run."""

from itertools import pairwise

import pytest
import torch

from harness.architecture.catalogue import architecture, catalogue_names
from harness.architecture.decoder import DecoderConfig
from harness.architecture.edits import with_edits
from harness.architecture.family import ArchitectureConfig
from harness.architecture.outline_edits import edited
from harness.architecture.outlines import outline
from harness.architecture.plan import decoder_plan, unet_plan
from harness.architecture.unet import UNetConfig
from harness.measure.cost import count
from harness.models.build import build, example_inputs
from harness.records.errors import UserError

BESIDE = {
    "unet": ("time_embedding",),
    "dit": ("time", "text", "norm_out", "modulation_out"),
    "uvit": ("text", "positions", "norm_out"),
    "ldm": ("unet.time_embedding",),
    "decoder": (),
    "autoencoder": (),
}
"""What embeds the time and the condition, and the norms that a box names beside its own layer."""
LADDER = ["thin_sdxl", "no_high_res_sa", "sepconv", "expanded_sepconv", "ffn3", "mqa", "first_stage_ca", "qknorm_rope"]


@pytest.mark.parametrize("name", catalogue_names())
def test_the_places_that_are_drawn_are_the_modules_that_hold_the_weights(name):
    config = architecture(name)
    with torch.device("meta"):
        module = build(config)
    nodes, beside = outline(config).nodes(), BESIDE[getattr(config, "kind", "unet")]
    modules = dict(module.named_modules())
    assert nodes.keys() <= modules.keys()
    assert all(any(True for _ in modules[place].parameters()) for place in nodes)
    for parameter, _ in module.named_parameters():
        assert any(parameter.startswith(f"{place}.") for place in (*nodes, *beside)) or parameter in beside


@pytest.mark.parametrize(
    "name", ["laptop/thin_sdxl", "first_stage_ca", "laptop/dit", "laptop/uvit", "ldm_4", "decoder/sd3", "decoder/tiny"]
)
def test_as_many_attentions_are_drawn_as_run(name):
    config = architecture(name)
    with torch.device("meta"):
        rows = count(build(config), example_inputs(config, latent=config.native_latent or 16, device="meta")).rows
    run = sum(row.operator == "scaled_dot_product_attention" for row in rows)
    drawn = outline(config)
    assert drawn.parts("self_attention") + drawn.parts("cross_attention") == run
    assert run or name == "decoder/tiny"


@pytest.mark.parametrize("name", catalogue_names())
def test_as_many_blocks_are_drawn_as_the_plan_has(name):
    config, drawn = architecture(name), outline(architecture(name))
    residuals = [node for node in drawn.nodes().values() if node.kind == "residual"]
    if isinstance(config, UNetConfig):
        blocks = list(unet_plan(config).blocks())
        transformers = [each for block in blocks for each in block.kind.transformers()]
        assert len(residuals) == sum(block.kind.residual for block in blocks)
        assert drawn.parts("self_attention") == sum(each.depth for each in transformers if each.self_attention)
        assert drawn.parts("cross_attention") == sum(each.depth for each in transformers)
        assert len(drawn.skips) == sum(block.skip_channels > 0 for block in blocks)
    elif isinstance(config, DecoderConfig):
        assert len(residuals) == len(list(decoder_plan(config).blocks()))


@pytest.mark.parametrize(("before", "after"), list(pairwise(LADDER)))
def test_edits_between_two_rungs_are_marked_and_turn_round(before, after):
    one, other = outline(architecture(before)), outline(architecture(after))
    there, back = edited(one, other), edited(other, one)
    assert there.marks()
    assert there.edits.keys() == back.edits.keys()
    turned = {"same": "same", "added": "removed", "removed": "added", "changed": "changed"}
    assert {key: turned[edit.mark] for key, edit in there.edits.items()} == {k: e.mark for k, e in back.edits.items()}
    assert set(there.outline.nodes()) == {*one.nodes(), *other.nodes()}


def test_an_edit_is_marked_where_it_acts_and_nowhere_else():
    one, other = outline(architecture("mqa")), outline(architecture("first_stage_ca"))
    marked = {place for (place, _, _), edit in edited(one, other).edits.items() if edit.mark != "same"}
    assert marked == {f"{way}.0.block.{j}" for way, n in (("down", 2), ("up", 3)) for j in range(n)}
    kinds = {
        kind: edit.mark
        for (place, kind, part), edit in edited(one, other).edits.items()
        if place == "up.0.block.1" and not part
    }
    assert kinds == {"residual": "removed", "transformer": "added"}


def test_a_change_says_from_what_to_what():
    base = architecture("laptop/thin_sdxl")
    edits = edited(outline(base), outline(with_edits(base, {"feed_forward.ratio": 3}))).edits
    changed = {key: edit.changes for key, edit in edits.items() if edit.mark != "same"}
    assert {part for _, _, part in changed} == {"feed_forward"}
    assert {change for changes in changed.values() for change in changes} == {"kind: geglu, ratio 4 -> geglu, ratio 3"}


def test_another_width_is_marked_at_its_level_and_an_equal_network_nowhere():
    base = architecture("laptop/thin_sdxl")
    assert edited(outline(base), outline(base)).marks() == set()
    wider = with_edits(base, {"stages.1.channels": base.stages[1].channels * 2})
    marked = edited(outline(base), outline(wider))
    assert list(marked.levels) == [1]
    assert {edit.mark for edit in marked.edits.values()} == {"same"}
    fewer = edited(outline(base), outline(with_edits(base, {"stages.0.up_blocks": 1})))
    assert fewer.marks() == {"removed"}


def test_a_family_that_nobody_drew_is_refused():
    class Unknown(ArchitectureConfig):
        pass

    with pytest.raises(UserError, match="how a Unknown is drawn"):
        outline(Unknown())

"""Costs place by place add up to the whole, and stand at the places that are drawn."""

import pytest

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.architecture.outlines import outline
from harness.latency.predicted import PredictedLatency
from harness.models.build import build, example_inputs
from harness.records.quantity import Unavailable
from harness.trials.costs import cost_of
from harness.trials.placed import is_inside, placed_cost


@pytest.mark.parametrize("name", ["laptop/thin_sdxl", "laptop/dit", "decoder/tiny"])
def test_places_and_operators_add_up_to_what_is_counted_and_predicted(name):
    config = architecture(name)
    latent = config.native_latent or 16
    placed, cost = placed_cost(config, latent), cost_of(config, latent)
    assert placed.params == cost.params
    assert placed.macs == cost.macs == sum(share.macs for share in placed.operators.values())
    whole = PredictedLatency().measure(build(config), example_inputs(config, latent=latent))
    assert placed.latency.value == pytest.approx(whole.value)
    for shares in (placed.places, placed.operators):
        assert sum(share.ms for share in shares.values()) + placed.fixed_ms == pytest.approx(whole.value)
    assert list(placed.places)[: len(outline(config).nodes())] == list(outline(config).nodes())


def test_an_edit_changes_the_cost_of_its_place_alone():
    base = architecture("laptop/thin_sdxl")
    before = placed_cost(base, 8).places
    after = placed_cost(with_edits(base, {"stages.1.block.self_attention": False}), 8).places
    changed = {place for place in before if before[place] != after[place]}
    assert changed == {place for place in before if place.startswith(("down.1.attention.", "up.1.attention."))}


def test_a_network_that_does_not_fit_has_counts_and_a_reason():
    wide = with_edits(architecture("sdxl"), {"latent_channels": 4})
    placed = placed_cost(wide, 128)
    assert isinstance(placed.latency, Unavailable)
    assert all(share.ms is None for share in placed.places.values())
    assert placed.params > 2e9


def test_a_place_is_inside_whole_names():
    assert is_inside("down.0.block.1.norm1", "down.0.block.1")
    assert not is_inside("down.0.block.10", "down.0.block.1")

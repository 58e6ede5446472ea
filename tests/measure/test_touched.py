"""The share of a network's work that a change touches, against arithmetic on networks that fit on a page."""

import pytest
import torch
from torch import nn

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.measure.touched import anatomy, touched_share
from harness.trials.costs import anatomy_of, cost_of

INPUT = (torch.zeros(1, 4),)


def of(module):
    return anatomy(module, INPUT)


def two_linears(middle=nn.ReLU, hidden=4):
    """4 x hidden and hidden x 8 multiply-adds."""
    return nn.Sequential(nn.Linear(4, hidden), middle(), nn.Linear(hidden, 8))


def test_a_network_is_as_it_was_beside_itself():
    assert touched_share(of(two_linears()), of(two_linears())) == 0
    config = architecture("laptop/thin_sdxl")
    assert touched_share(anatomy_of(config, 8), anatomy_of(config, 8)) == 0


def test_another_shape_touches_its_modules_and_no_others():
    before = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 8))
    after = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 16))
    assert touched_share(of(before), of(after)) == 32 / (16 + 32)
    assert touched_share(of(two_linears()), of(two_linears(hidden=6))) == 1


def test_another_class_without_multiply_adds_touches_none_of_the_work():
    assert touched_share(of(two_linears()), of(two_linears(nn.GELU))) == 0


def test_a_module_that_is_gone_is_touched_and_a_new_one_was_no_work_before():
    before, after = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 8)), nn.Sequential(nn.Linear(4, 4))
    assert touched_share(of(before), of(after)) == 32 / 48
    assert touched_share(of(after), of(before)) == 0


@pytest.mark.parametrize(("base", "latent"), [("laptop/thin_sdxl", 8), ("thin_sdxl", 128)])
def test_rotations_of_queries_and_keys_touch_self_attention_alone(base, latent):
    """The scores and the weighted sums, which no linear layer does: what remains of `macs` beside the part without."""
    edits = {"position": {"kind": "rope_2d", "base": 10000}, "stages.1.block.self_attention": True}
    before = architecture(base)
    share = touched_share(anatomy_of(before, latent), anatomy_of(with_edits(before, edits), latent))
    cost = cost_of(before, latent)
    attention = sum(row.cost.macs for row in cost.rows if row.cost.attention and "self_attention" in row.place)
    assert attention > 0
    assert share == attention / cost.macs


def test_the_small_network_is_a_poor_test_of_self_attention_at_high_resolution():
    """1.5% of its work, against 17% of its like at the size that is deployed."""
    edits = {"stages.1.block.self_attention": False}
    shares = []
    for base, latent in (("laptop/thin_sdxl", 8), ("thin_sdxl", 128)):
        before = architecture(base)
        shares.append(touched_share(anatomy_of(before, latent), anatomy_of(with_edits(before, edits), latent)))
    assert shares == pytest.approx([0.0151, 0.1717], abs=5e-4)

"""The full-size ladder counts to the paper's figures. On the meta device: nothing is computed.

Multiply-adds are counted here by torch's FlopCounterMode (two per multiply-add): convolutions, linears, attention.
"""

from functools import cache

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.architecture.catalogue import architecture
from harness.models.build import build, example_inputs
from harness.trials.ablation_study import read_ablation

LADDER = {rung.name: (rung, config) for rung, config in read_ablation("fig3_full").architecture.architectures()}


@cache
def params(config):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(config).parameters())


@cache
def macs(config, latent):
    with torch.device("meta"):
        module = build(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*example_inputs(config, latent=latent, device="meta"))
    return counter.get_total_flops() / 2


# Our reconstruction's counts, in millions: thin_sdxl ... qknorm_rope
@pytest.mark.parametrize(
    ("name", "millions"), zip(LADDER, (615, 605, 459, 512, 448, 378, 375, 375), strict=True), ids=list(LADDER)
)
def test_rungs_have_the_reconstructed_sizes(name, millions):
    assert params(LADDER[name][1]) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize(("name", "millions"), [("snapgen", 372), ("snapgen_t2i", 379)])
def test_the_papers_two_unets_have_their_printed_sizes(name, millions):
    assert params(architecture(name)) / 1e6 == pytest.approx(millions, rel=0.01)


# Fig. 3's printed changes in percent, each against the rung that the paper sets it against.
@pytest.mark.parametrize(
    ("name", "percent"), [("sepconv", -24), ("expanded_sepconv", -15), ("ffn3", -12), ("mqa", -16)]
)
def test_printed_changes_of_parameters_within_a_point(name, percent):
    assert change(name, params) == pytest.approx(percent, abs=1.0)


@pytest.mark.parametrize(
    ("name", "percent"), [("no_high_res_sa", -17), ("expanded_sepconv", -27), ("ffn3", -12), ("mqa", -6)]
)
def test_printed_changes_of_multiply_adds_within_a_point(name, percent):
    assert change(name, lambda config: macs(config, 128)) == pytest.approx(percent, abs=1.0)


def test_conditions_in_the_first_stage_make_it_smaller_and_cheaper():
    assert change("first_stage_ca", params) < 0
    assert change("first_stage_ca", lambda config: macs(config, 128)) < 0


def test_norms_and_positions_cost_next_to_nothing():
    assert 0 < change("qknorm_rope", params) < 0.1
    assert change("qknorm_rope", lambda config: macs(config, 128)) == 0


def test_the_last_rung_costs_what_tab_1_prints():
    assert macs(architecture("snapgen"), 32) / 1e9 == pytest.approx(38, rel=0.04)


def change(name, count):
    """Percent by which the rung's count differs from that of the rung it is set against."""
    rung, config = LADDER[name]
    return 100 * (count(config) / count(LADDER[rung.against][1]) - 1)

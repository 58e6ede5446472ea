"""`harness compare` and `harness measure`: what a knob costs adds up, the paper's numbers are all there."""

import json
import subprocess
import sys

import pytest

from harness.architecture.catalogue import architecture
from harness.architecture.difference import edits_between
from harness.architecture.edits import with_edits
from harness.cli import main
from harness.commands import compare
from harness.commands.compare import SHEETS, checks_of, knob_costs, together
from harness.trials import costs
from harness.trials.costs import cost_of

LADDER = ["thin_sdxl", "no_high_res_sa", "sepconv", "expanded_sepconv", "ffn3", "mqa", "first_stage_ca", "qknorm_rope"]
LAPTOP = architecture("laptop/thin_sdxl")


def printed(capsys, *words):
    assert main(words) == 0
    return capsys.readouterr().out


def refused(capsys, *words):
    assert main(words) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("a", LADDER)
@pytest.mark.parametrize("b", ["thin_sdxl", "qknorm_rope"])
def test_the_edits_between_two_architectures_make_one_of_the_other(a, b):
    one, other = architecture(a), architecture(b)
    edits = edits_between(one, other)
    assert with_edits(one, {change.path: change.after for change in edits}) == other
    assert with_edits(other, {change.path: change.before for change in edits}) == one


@pytest.mark.parametrize("index", range(1, len(LADDER)))
def test_a_rung_is_one_edit_of_the_rung_it_is_set_against(index):
    """Of one knob; MQA is set in self- and cross-attention, the last rung is printed as two."""
    against = LADDER[1] if LADDER[index] == "expanded_sepconv" else LADDER[index - 1]
    edits = edits_between(architecture(against), architecture(LADDER[index]))
    assert len(edits) == (2 if LADDER[index] in ("mqa", "qknorm_rope") else 1)


def test_what_knobs_cost_alone_and_together_adds_up_to_the_difference():
    other = with_edits(LAPTOP, {"stages.0.channels": 16, "feed_forward.ratio": 3, "convolution": "separable"})
    costs = cost_of(LAPTOP, 8), cost_of(other, 8)
    knobs = knob_costs(LAPTOP, other, costs[0], 8)
    assert [knob.change.path for knob in knobs] == ["stages.0.channels", "convolution", "feed_forward.ratio"]
    rest = together(costs, knobs)
    for name in ("params", "macs"):
        alone = sum(knob.added[name] for knob in knobs)
        assert alone + rest[name] == getattr(costs[1], name) - getattr(costs[0], name)
    assert rest["params"] > 0, "narrower convolutions gain less from being separable"


def test_a_knob_that_is_impossible_alone_says_which_rule():
    other = with_edits(LAPTOP, {"head_dim": 48, "stages.1.channels": 48})
    knobs = {k.change.path: k for k in knob_costs(LAPTOP, other, cost_of(LAPTOP, 8), 8)}
    assert "divide into heads" in knobs["head_dim"].impossible


def test_compare_prints_the_knob_and_its_place(capsys):
    out = printed(capsys, "compare", "mqa", "first_stage_ca")
    assert "stages.0.block: {kind: residual} -> {depth: 1," in out
    assert "up.0" in out
    assert "up.1" not in out
    comparison = json.loads(printed(capsys, "compare", "mqa", "first_stage_ca", "--json"))
    (knob,) = comparison["knobs"]
    before, after = comparison["total"]["macs"]
    assert knob["alone"]["macs"] == after - before < 0
    changed = sum(after - before for before, after in (row["macs"] for row in comparison["by_stage"]))
    assert changed == after - before


def test_compare_refuses_what_cannot_be_compared(capsys):
    assert "different families" in refused(capsys, "compare", "snapgen", "dit_xl_2")
    assert "choose one of: snapgen," in refused(capsys, "compare", "snapgen", "snapgem")
    assert "paper fixes both" in refused(capsys, "compare", "paper", "snapgen")
    assert "takes two architectures, and 'snapgen' is one" in refused(capsys, "compare", "snapgen")


@pytest.mark.slow
def test_every_published_count_is_met():
    """The table of target, count and tolerance for every number that counting can check: 31 of them, no misses."""
    checks = [check for sheet in SHEETS for check in checks_of(sheet)]
    assert [check for check in checks if check.state != "hit"] == []
    assert len(checks) == 31
    assert {(check.latent, check.channels) for check in checks if check.name == "ldm_4"} == {(64, 3)}
    assert {check.name for check in checks} >= set(LADDER[1:]) | {"snapgen", "snapgen_t2i", "dit_xl_2", "decoder/tiny"}


def test_a_wrong_count_is_a_miss_and_a_missing_name_is_not_built(monkeypatch, capsys):
    real = costs.cost_of
    monkeypatch.setattr(
        costs, "cost_of", lambda config, latent: real(with_edits(config, {"feed_forward.ratio": 1}), latent)
    )
    monkeypatch.setattr(compare, "_is_built", lambda name: name != "mqa")
    monkeypatch.setattr(compare, "SHEETS", SHEETS[:1])
    answer = json.loads(printed(capsys, "compare", "paper", "--json"))
    states = {(check["name"], check["quantity"]): check["state"] for check in answer["checks"]}
    assert states["ffn3", "params"] == "miss"
    assert states["mqa", "params"] == states["first_stage_ca", "macs"] == "not built"
    assert set(answer["labels"]) == {"P", "P*", "2", "R"}


@pytest.mark.parametrize("name", ["laptop/thin_sdxl", "snapgen"])
def test_the_places_of_a_cost_add_up_to_the_whole(name, capsys):
    cost = json.loads(printed(capsys, "measure", name, "--latent", "32", "--json"))
    for by in ("by_stage", "by_block"):
        for quantity in ("params", "macs", "macs_without_attention", "flops_fvcore"):
            assert sum(row[quantity] for row in cost[by].values()) == cost[quantity]
    assert sum(row["macs"] for row in cost["by_operator"].values()) == cost["macs"]
    assert sum(row["activations"] for row in cost["by_operator"].values()) == sum(
        row["activations"] for row in cost["by_stage"].values()
    )


MEASURE_ALL = """
import contextlib, io, json, resource, sys
from harness.architecture.catalogue import architecture, catalogue_names
from harness.cli import main

def peak_gb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9

def measured(name):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert main(["measure", name, "--latent", str(architecture(name).native_latent or 128), "--json"]) == 0
    return json.loads(text.getvalue())["params"]

measured("laptop/thin_sdxl"), measured("ldm_4")  # imports everything, diffusers too
before = peak_gb()
print(json.dumps([{name: measured(name) for name in catalogue_names()}, peak_gb() - before]))
"""


@pytest.mark.slow
def test_every_architecture_is_measured_and_none_is_allocated():
    """SDXL's weights alone would be 10 GB."""
    process = subprocess.run([sys.executable, "-c", MEASURE_ALL], check=True, capture_output=True, text=True)
    params, grown_gb = json.loads(process.stdout)
    assert {*LADDER, "snapgen", "snapgen_t2i", "sdxl", "ldm_4", "uvit_h", "sit_xl_2", "decoder/tiny"} <= params.keys()
    assert params["sdxl"] > 2.5e9
    assert grown_gb < 0.2


def test_measure_prints_the_table_that_is_asked_for(capsys):
    assert "down.1.attention.0" in printed(capsys, "measure", "laptop/thin_sdxl", "--latent", "8", "--by", "block")
    out = printed(capsys, "measure", "laptop/thin_sdxl", "--latent", "8", "--by", "operator")
    assert out.startswith("laptop/thin_sdxl at a 8x8 latent, its prompts of 16 tokens (")
    assert "scaled_dot_product_attention" in out
    assert "down.1" not in out

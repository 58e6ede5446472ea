"""The ladders: every rung is the rung it is set against, plus its edits."""

from pathlib import Path

import pytest
import yaml

from harness.architecture.catalogue import architecture
from harness.architecture.difference import difference
from harness.architecture.edits import with_edits
from harness.architecture.ladder import Ladder
from harness.records.errors import UserError
from harness.records.plain import from_plain

SWEEPS = Path(__file__).parents[2] / "sweeps"
NAMES = [
    "thin_sdxl",
    "no_high_res_sa",
    "sepconv",
    "expanded_sepconv",
    "ffn3",
    "mqa",
    "first_stage_ca",
    "qknorm_rope",
]
AGAINST = [None, "thin_sdxl", "no_high_res_sa", "no_high_res_sa", "expanded_sepconv", "ffn3", "mqa", "first_stage_ca"]


def ladder(name):
    return from_plain(Ladder, yaml.safe_load((SWEEPS / f"{name}.yaml").read_text())["architecture"])


@pytest.mark.parametrize("name", ["fig3", "fig3_full"])
def test_the_eight_rungs_of_fig3(name):
    made = ladder(name).architectures()
    assert [rung.name for rung, _ in made] == NAMES
    assert [rung.against for rung, _ in made] == AGAINST
    assert len({config.fingerprint for _, config in made}) == 8


@pytest.mark.parametrize("name", ["fig3", "fig3_full"])
def test_the_two_sizes_differ_in_the_same_knobs(name):
    """A rung means at laptop size what it means at full size."""
    made = {rung.name: (rung, config) for rung, config in ladder(name).architectures()}
    knobs = {
        rung.name: {change.path for change in difference(made[rung.against][1], config)}
        for rung, config in made.values()
        if rung.against
    }
    assert knobs["no_high_res_sa"] == {"stages.1.block.self_attention"}
    assert knobs["ffn3"] == {"feed_forward.ratio"}
    assert knobs["mqa"] == {"self_attention.kind", "cross_attention.kind"}
    block = {"kind", "depth", "self_attention", "projections"}
    assert knobs["first_stage_ca"] == {f"stages.0.block.{leaf}" for leaf in block}
    assert knobs["qknorm_rope"] == {"qk_norm.kind", "position.kind", "position.base"}
    separable = {f"convolution.{leaf}" for leaf in ("kind", "kernel_size", "expansion", "relative_to", "samplers")}
    assert knobs["sepconv"] == knobs["expanded_sepconv"] == separable


def test_the_catalogue_has_the_full_ladder_under_the_same_names():
    for rung, config in ladder("fig3_full").architectures():
        assert architecture(rung.name) == config
    assert architecture("snapgen") == architecture("qknorm_rope")


def test_one_at_a_time_starts_from_the_first_rung_always():
    rungs = [
        {"name": "base", "title": "Base"},
        {"name": "ffn3", "title": "FFN", "edits": {"feed_forward.ratio": 3}},
        {"name": "mqa", "title": "MQA", "edits": {"self_attention": "mqa"}},
    ]
    plain = {"base": "laptop/thin_sdxl", "rungs": rungs}
    alone = from_plain(Ladder, plain | {"mode": "one_at_a_time"}).architectures()
    stacked = from_plain(Ladder, plain | {"mode": "cumulative"}).architectures()
    base = architecture("laptop/thin_sdxl")
    assert [rung.against for rung, _ in alone] == [None, "base", "base"]
    assert alone[2][1] == with_edits(base, {"self_attention": "mqa"})
    assert stacked[2][1] == with_edits(base, {"self_attention": "mqa", "feed_forward.ratio": 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": "laptop/thin"}, "unknown architecture 'laptop/thin'; choose one of: laptop/thin_sdxl"),
        ({"mode": "cumulated"}, "cumulative"),
        ({"rungs": []}, "at least one rung"),
        ({"rungs": [{"name": "a", "title": "A", "against": "b"}]}, "unknown rung above 'a': 'b'"),
        ({"rungs": [{"name": "a", "title": "A"}] * 2}, "'a' comes twice"),
        ({"rungs": [{"name": "a", "title": "A", "edits": {"heads": 2}}]}, "rung 'a': unknown path of a knob 'heads'"),
    ],
)
def test_a_wrong_ladder_is_one_sentence(change, message):
    plain = {"base": "laptop/thin_sdxl", "mode": "cumulative", "rungs": [{"name": "a", "title": "A"}]}
    with pytest.raises(UserError) as caught:
        from_plain(Ladder, plain | change).architectures()
    assert message in str(caught.value)

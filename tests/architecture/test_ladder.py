"""The ladders: every rung is the rung it is set against, plus its edits."""

import itertools

import pytest

from harness.architecture.catalogue import architecture
from harness.architecture.difference import difference
from harness.architecture.edits import with_edits
from harness.architecture.ladder import Ladder
from harness.records.errors import UserError
from harness.records.plain import from_plain
from harness.trials.ablation_study import read_ablation
from harness.trials.studies import REPOSITORY

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
    return read_ablation(name).architecture


@pytest.mark.parametrize("name", ["fig3", "fig3_full"])
def test_the_eight_rungs_of_fig3(name):
    rungs = ladder(name).architectures()
    assert [rung.name for rung, _ in rungs] == NAMES
    assert [rung.against for rung, _ in rungs] == AGAINST
    assert len({config.fingerprint for _, config in rungs}) == 8


@pytest.mark.parametrize("name", ["fig3", "fig3_full"])
def test_the_two_sizes_differ_in_the_same_knobs(name):
    """A rung means at laptop size what it means at full size."""
    rungs = {rung.name: (rung, config) for rung, config in ladder(name).architectures()}
    knobs = {
        rung.name: {change.path for change in difference(rungs[rung.against][1], config)}
        for rung, config in rungs.values()
        if rung.against
    }
    assert knobs["no_high_res_sa"] == {"stages.1.block.self_attention"}
    assert knobs["ffn3"] == {"feed_forward.ratio"}
    assert knobs["mqa"] == {"self_attention.kind", "cross_attention.kind"}
    block = {"kind", "depth", "self_attention", "projections"}
    assert knobs["first_stage_ca"] == {f"stages.0.block.{leaf}" for leaf in block}
    assert knobs["qknorm_rope"] == {"qk_norm.kind", "position.kind", "position.base"}
    separable = {f"convolution.{leaf}" for leaf in ("kind", "expansion", "relative_to", "resampling")}
    kernel = {"convolution.kernel_size"} if name == "fig3_full" else set()  # small maps keep the regular kernel's size
    assert knobs["sepconv"] == knobs["expanded_sepconv"] == separable | kernel


def test_the_catalogue_has_the_full_ladder_under_the_same_names():
    for rung, config in ladder("fig3_full").architectures():
        assert architecture(rung.name) == config
    assert architecture("snapgen") == architecture("qknorm_rope")


def test_the_laptops_ladder_on_the_papers_base_is_the_papers_ladder():
    """What the small rungs say of costs, they say of these."""
    moved = ladder("fig3").on("thin_sdxl").architectures()
    assert moved == ladder("fig3_full").architectures()
    assert [config for _, config in moved] == [architecture(name) for name in NAMES]


def test_the_rungs_beyond_go_on_where_the_ladder_ends():
    rungs = ladder("beyond_full").architectures()
    names = ["qknorm_rope", "high_res_sa", "assa", "kv_groups", "ffn4_outside"]
    assert [(rung.name, rung.against) for rung, _ in rungs] == list(zip(names, [None, *names[:-1]], strict=True))
    assert rungs[0][1] == ladder("fig3_full").architectures()[-1][1]
    assert [config for _, config in rungs] == [architecture(name) for name in names]
    changed = [{change.path for change in difference(a, b)} for (_, a), (_, b) in itertools.pairwise(rungs)]
    assert changed[0] == {"stages.1.block.self_attention"}
    assert changed[1] == {f"stages.1.block.span.{leaf}" for leaf in ("kind", "compression", "blocks", "radius")}
    assert changed[2] == {"self_attention.kind", "self_attention.groups"}
    assert changed[3] == {"feed_forward.ratio", *(f"feed_forward.ratio.{index}" for index in range(4))}


def test_what_of_them_is_trained_small_is_counted_large():
    moved = ladder("beyond").on("thin_sdxl").architectures()
    ratios = [config.feed_forward.ratio for _, config in moved]
    assert ratios == [4, 3, architecture("ffn4_outside").feed_forward.ratio]
    assert {config.latent_multiple for _, config in ladder("beyond").architectures()} == {4}, "digits have 8 x 8 pixels"


def test_no_other_file_spells_the_edits_of_the_ladder():
    """Each is written once, in the catalogue."""
    spelt = (
        "kernel_size: 5, expansion",
        "cross_attention: mqa",
        "projections: false",
        "rope_2d, base",
        "self_attention: false}",
        "compression: 2",
        "[4, 4, 3, 3]",
    )
    for path in (
        *REPOSITORY.glob("sweeps/fig3*.yaml"),
        *REPOSITORY.glob("sweeps/beyond*.yaml"),
        *(REPOSITORY / f"search_spaces/{n}.yaml" for n in ("ladder", "laptop")),
    ):
        assert [edit for edit in spelt if edit in path.read_text()] == [], path


def two_rungs(**more):
    rungs = [{"name": "base", "title": "Base"}, {"name": "wide", "title": "Wide", **more}]
    return from_plain(Ladder, {"base": "laptop/thin_sdxl", "mode": "cumulative", "rungs": rungs})


def test_a_size_has_its_twins_own_edit():
    moved = two_rungs(edits={"stages.0.channels": 48}, twin={"stages.0.channels": 384}).on("thin_sdxl")
    assert moved.architectures()[1][1] == with_edits(architecture("thin_sdxl"), {"stages.0.channels": 384})


@pytest.mark.parametrize(
    ("rung", "message"),
    [
        (
            {"edits": {"stages.0.channels": 48}},
            "rung 'wide' sets stages.0.channels: sizes, which mean nothing on thin_sdxl; write what they are there "
            "beside its edits, e.g. twin: {stages.0.channels: SIZE}",
        ),
        ({"edits": {"stages.*.down_blocks": 2}}, "rung 'wide' sets stages.0.down_blocks, stages.1.down_blocks"),
        (
            {"edits": {"stages.1.block": {"kind": "transformer", "depth": 2}}},
            "rung 'wide' sets stages.1.block.depth: sizes",
        ),
        (
            {"edits": {"feed_forward.ratio": 2}, "twin": {"stages.9.channels": 384}},
            "on thin_sdxl, rung 'wide': unknown path of a knob 'stages.9.channels'",
        ),
        ({"base": "laptop/dit"}, "rung 'wide' has a base of its own, laptop/dit, so it needs one beside thin_sdxl too"),
    ],
)
def test_a_rung_that_means_nothing_on_another_base_is_refused_by_name(rung, message):
    with pytest.raises(UserError) as caught:
        two_rungs(**rung).on("thin_sdxl")
    assert message in str(caught.value)


def test_edits_may_be_named_and_a_name_that_is_no_edit_is_refused():
    assert (
        two_rungs(edits="mqa").architectures()[1][1]
        == two_rungs(edits={"self_attention": "mqa", "cross_attention": "mqa"}).architectures()[1][1]
    )
    with pytest.raises(UserError, match="thin_sdxl, which is an architecture of its own and no edit"):
        two_rungs(edits="thin_sdxl")
    with pytest.raises(UserError, match="'mqua'; choose one of: mqa"):
        two_rungs(edits="mqua")


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


def test_edits_of_training_carry_on_as_the_architectures_do():
    """And are none of its: they change no network, at no size. A whole group undoes what was set in it."""
    rungs = [
        {"name": "plain", "edits": {"objective": "flow_matching"}},
        {"name": "slow", "edits": {"recipe.learning_rate": 1e-3, "feed_forward.ratio": 3}},
        {"name": "taught", "edits": {"objective": "distillation", "objective.features": False}},
        {"name": "again", "edits": {"objective": "flow_matching"}},
    ]
    ladders = {
        mode: from_plain(Ladder, {"base": "laptop/thin_sdxl", "mode": mode, "rungs": rungs})
        for mode in ("cumulative", "one_at_a_time")
    }
    stacked, alone = (ladder.trainings() for ladder in ladders.values())
    slow = {"recipe.learning_rate": 1e-3}
    assert stacked["taught"] == slow | {"objective": "distillation", "objective.features": False}
    assert stacked["again"] == slow | {"objective": "flow_matching"}
    assert alone["slow"] == slow | {"objective": "flow_matching"}
    assert alone["taught"] == {"objective": "distillation", "objective.features": False}
    ratio = with_edits(architecture("laptop/thin_sdxl"), {"feed_forward.ratio": 3})
    assert [config for _, config in ladders["cumulative"].architectures()][1:] == [ratio] * 3
    elsewhere = ladders["cumulative"].on("thin_sdxl")
    assert elsewhere.trainings() == stacked
    assert elsewhere.architectures()[-1][1] == with_edits(architecture("thin_sdxl"), {"feed_forward.ratio": 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"rungs": [{"name": "a", "edits": {"recipe.steps": 9}, "twin": {"recipe.steps": 9}}]},
            "rung 'a': a deployment twin is not trained, so 'recipe.steps' under 'twin' means nothing; leave it out",
        ),
        (
            {"rungs": [{"name": "a", "edits": {"objective.features": False, "objective": "distillation"}}]},
            "sets objective.features, and after it objective, which undoes that",
        ),
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


def test_a_ladder_without_a_mode_is_told_which_there_are():
    with pytest.raises(UserError, match=r"missing setting 'mode', which has no default; choose one of: cumulative, "):
        from_plain(Ladder, {"base": "laptop/thin_sdxl", "rungs": [{"name": "a"}]})

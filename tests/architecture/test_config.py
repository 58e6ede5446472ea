"""Configurations: round trip, fingerprint, rules."""

import dataclasses
import subprocess
import sys

import pytest
import yaml

from harness.architecture.catalogue import FOLDER, architecture, catalogue_names, to_yaml
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import with_edits
from harness.architecture.plan import unet_plan
from harness.architecture.rules import RULES
from harness.records.errors import UserError
from harness.records.plain import from_plain, to_plain

LAPTOP = architecture("laptop/thin_sdxl")


@pytest.mark.parametrize("name", catalogue_names())
def test_yaml_round_trip_keeps_everything(name, tmp_path):
    config = architecture(name)
    path = tmp_path / "mine.yaml"
    path.write_text(to_yaml(config))
    again = architecture(str(path))
    assert again == config
    assert hash(again) == hash(config)
    assert again.fingerprint == config.fingerprint
    assert from_plain(ArchitectureConfig, to_plain(config)) == config


def test_the_catalogue_has_the_study():
    rungs = "thin_sdxl no_high_res_sa sepconv expanded_sepconv ffn3 mqa first_stage_ca qknorm_rope"
    assert {*rungs.split(), "snapgen", "snapgen_t2i", "sdxl", "laptop/thin_sdxl"} <= set(catalogue_names())


def test_the_catalogue_is_inside_the_package():
    assert FOLDER.parent.name == "conf"
    assert all((FOLDER / f"{name}.yaml").is_file() for name in catalogue_names())


def test_the_kind_alone_is_short_for_a_kind_with_its_defaults():
    plain = yaml.safe_load(to_yaml(LAPTOP))
    assert from_plain(ArchitectureConfig, plain | {"self_attention": "mqa"}) == from_plain(
        ArchitectureConfig, plain | {"self_attention": {"kind": "mqa"}}
    )


def test_fingerprints_are_stable():
    """A stored trial must be found again: a new fingerprint for an old network needs a new schema name."""
    assert architecture("sdxl").fingerprint == "5e3bc1661f9b5577"


def test_every_leaf_that_matters_is_in_the_fingerprint():
    base = architecture("first_stage_ca")
    edits = {
        "latent_channels": 4,
        "context_width": 512,
        "context_length": 16,
        "stages.1.down_blocks": 1,
        "stages.1.up_blocks": 2,
        "stages.1.block.depth": 3,
        "stages.2.block.self_attention": False,
        "middle": None,
        "convolution.kernel_size": 7,
        "stages.0.block.projections": True,
        "convolution.relative_to": "output",
        "convolution.resampling": "both",
        "upsample": "pixel_shuffle",
        "downsample": "pixel_unshuffle",
        "norm": "rms",
        "token_norm": "rms",
        "head_dim": 32,
        "self_attention": "mhsa",
        "cross_attention": "mhsa",
        "qk_norm": "layer",
        "position": "rope_2d",
        "feed_forward": "swiglu",
        "feed_forward.ratio": [3, 3, 4, 3],
        "stages.2.block.span": "assa",
        "time_features": 128,
        "time_width": 512,
    }
    fingerprints = [with_edits(base, {path: value}).fingerprint for path, value in edits.items()]
    assert len({base.fingerprint, *fingerprints}) == len(fingerprints) + 1


def test_knobs_that_cannot_matter_are_not_in_the_fingerprint():
    blind = with_edits(LAPTOP, {"stages.*.block.self_attention": False, "middle.self_attention": False})
    for edit in ({"self_attention": "mqa"}, {"position": "rope_2d"}):
        assert with_edits(blind, edit) != blind
        assert with_edits(blind, edit).fingerprint == blind.fingerprint
        assert with_edits(LAPTOP, edit).fingerprint != LAPTOP.fingerprint


def test_what_an_expansion_is_relative_to_matters_only_where_a_residual_block_narrows():
    edits = {
        "stages.*.block": {"kind": "transformer", "depth": 1},
        "convolution": {"kind": "separable", "expansion": 2},
    }
    middle, widest = with_edits(LAPTOP, edits), {"convolution.relative_to": "widest"}
    assert with_edits(middle, widest).fingerprint == middle.fingerprint
    ups = with_edits(middle, {"stages.0.block": "residual"})
    assert with_edits(ups, widest).fingerprint != ups.fingerprint


def test_a_span_matters_only_where_tokens_attend_to_each_other():
    for at in ("stages.1.block", "middle"):
        for attends in (True, False):
            whole = with_edits(LAPTOP, {f"{at}.self_attention": attends})
            sparse = with_edits(whole, {f"{at}.span": "assa"})
            assert sparse != whole
            assert (sparse.fingerprint != whole.fingerprint) == attends
            assert (sparse.latent_multiple > whole.latent_multiple) == attends


@pytest.mark.parametrize(
    ("ratios", "same_as", "middle"),
    [
        ([4, 4, 4, 4], 4, "kept"),
        ([2, 3, 3, 3], 3, "kept"),  # the first stage has no transformer
        ([2, 4, 3, 3], [5, 4, 3, 3], "kept"),
        ([4, 4, 3, 3], None, "kept"),
        ([4, 3, 3], 3, None),
        ([4, 3, 3, 2], 3, "residual"),
    ],
)
def test_a_list_of_ratios_is_what_its_transformers_have_of_it(ratios, same_as, middle):
    base = LAPTOP if middle == "kept" else with_edits(LAPTOP, {"middle": middle})
    config = with_edits(base, {"feed_forward.ratio": ratios})
    assert (config.fingerprint == base.fingerprint) == (same_as == 4)
    if same_as is not None:
        assert config.fingerprint == with_edits(base, {"feed_forward.ratio": same_as}).fingerprint
    widths = [config.at(place.stage).feed_forward.ratio for place in config.transformers()]
    assert widths == ratios[1 : len(widths) + 1]


BROKEN = {
    "a size or a count is more than 0 and at most 65,536": {"stages.0.channels": 0},
    "a UNet has at least 2 stages": {"stages": to_plain(LAPTOP)["stages"][2:]},
    "the prompt enters through cross-attention, so some place needs a transformer": {
        "stages.*.block": "residual",
        "middle": None,
    },
    "the time enters through residual blocks, so some place needs one": {
        "stages.*.block": {"kind": "transformer", "depth": 1},
        "middle": {"kind": "transformer", "depth": 1},
    },
    "a kernel has a middle, so its size is odd": {"convolution.kernel_size": 4},
    "time features are pairs of sine and cosine, so their number is even": {"time_features": 31},
    "a transformer's channels divide into heads": {"head_dim": 20},
    "query heads divide evenly into groups": {"cross_attention": {"kind": "gqa", "groups": 2}},
    "one group is multi-query attention, so write mqa": {"self_attention": {"kind": "gqa", "groups": 1}},
    "2-D RoPE turns pairs of channels by row and by column, so 4 divides the head dimension": {
        "head_dim": 2,
        "position": "rope_2d",
    },
    "a block of sparse self-attention sees a part of the map only, so blocks is above radius + 1": {
        "stages.1.block.span": {"kind": "assa", "blocks": 2}
    },
    "a list of feed-forward ratios has one for each stage, and one for the middle if there is one": {
        "feed_forward.ratio": [4, 4, 3]
    },
    "a feed-forward's hidden width is whole": {"feed_forward.ratio": [4, 4, 3, 2.7]},
    "the width inside a residual block is whole": {"convolution": {"kind": "separable", "expansion": 1.1}},
    "a group norm's groups divide every feature map's channels": {"norm.groups": 32},
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.sentence[:40])
def test_every_rule_refuses_with_its_sentence_and_the_value(rule):
    with pytest.raises(UserError) as caught:
        with_edits(LAPTOP, BROKEN[rule.sentence])
    sentence, _, values = str(caught.value).partition(": ")
    assert sentence == rule.sentence
    assert values
    assert "\n" not in str(caught.value)


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LAPTOP.head_dim = 8


def test_skips_make_the_up_blocks_wider():
    """SDXL's own widths (Podell et al. 2023): every skip is taken once, newest first."""
    stages = reversed(unet_plan(architecture("sdxl")).up)
    ups = [(block.place, block.c_in) for stage in stages for block in stage.blocks]
    assert ups == [
        ("up.2.block.0", 1280 + 1280),
        ("up.2.block.1", 1280 + 1280),
        ("up.2.block.2", 1280 + 640),
        ("up.1.block.0", 1280 + 640),
        ("up.1.block.1", 640 + 640),
        ("up.1.block.2", 640 + 320),
        ("up.0.block.0", 640 + 320),
        ("up.0.block.1", 320 + 320),
        ("up.0.block.2", 320 + 320),
    ]


def test_architectures_need_no_torch():
    code = (
        "import sys; from harness.architecture import ladder, difference, catalogue;"
        "[catalogue.architecture(name) for name in catalogue.catalogue_names()];"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_lists_the_nearest_first():
    with pytest.raises(UserError, match=r"unknown architecture 'snapgn'; choose one of: snapgen, snapgen_t2i"):
        architecture("snapgn")


def test_a_base_that_leads_back_to_its_file_is_a_sentence(tmp_path):
    for name, base in {"self": "self", "a": "b", "b": "c", "c": "a"}.items():
        (tmp_path / f"{name}.yaml").write_text(f"base: {base}.yaml\n")
    with pytest.raises(UserError, match=r"self\.yaml is its own base; name another$"):
        architecture(str(tmp_path / "self.yaml"))
    with pytest.raises(UserError, match=r"a\.yaml is its own base \(a\.yaml -> b\.yaml -> c\.yaml -> a\.yaml\)"):
        architecture(str(tmp_path / "a.yaml"))


def test_a_base_is_found_beside_the_file_that_names_it(tmp_path, monkeypatch):
    for folder, ratio in (("mine", 2), ("elsewhere", 4)):
        (tmp_path / folder / "deep").mkdir(parents=True)
        text = f"base: laptop/thin_sdxl\nedits: {{feed_forward.ratio: {ratio}}}\n"
        (tmp_path / folder / "base.yaml").write_text(text)
    (tmp_path / "mine" / "deep" / "edited.yaml").write_text("base: ../base.yaml\nedits: {time_width: 32}\n")
    monkeypatch.chdir(tmp_path / "elsewhere" / "deep")
    assert architecture("../../mine/deep/edited.yaml").feed_forward.ratio == 2


def test_a_wrong_file_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="cannot read the architecture"):
        architecture(str(tmp_path / "none.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(UserError, match="is not YAML"):
        architecture(str(tmp_path / "bad.yaml"))
    (tmp_path / "typo.yaml").write_text("base: sdxl\nedit: {}")
    with pytest.raises(UserError, match=r"architecture\.edits"):
        architecture(str(tmp_path / "typo.yaml"))

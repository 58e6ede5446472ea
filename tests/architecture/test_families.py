"""The peers' and decoders' configurations: round trips, rules, fingerprints, what cannot matter."""

import pytest
import yaml

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig, Denoiser
from harness.architecture.difference import difference
from harness.architecture.edits import with_edits
from harness.architecture.ladder import Ladder
from harness.architecture.unet import UNetConfig
from harness.records.errors import UserError
from harness.records.plain import from_plain, to_plain
from harness.search.space import space
from harness.trials.studies import find_study

SD3, TINY = architecture("decoder/sd3"), architecture("decoder/tiny")


def test_without_a_kind_it_is_the_unet():
    assert type(architecture("snapgen")) is UNetConfig
    assert "kind" not in to_plain(architecture("snapgen"))


def test_an_unknown_family_is_refused_with_those_that_exist():
    with pytest.raises(UserError, match=r"'kind': 'dti'; choose one of: dit, .*decoder.*ldm.*uvit|'dti'; .*dit"):
        from_plain(ArchitectureConfig, to_plain(architecture("dit_xl_2")) | {"kind": "dti"})


def test_fingerprints_of_the_first_release_stay():
    assert architecture("dit_xl_2").fingerprint == "bd8912f8d0078f64"
    assert architecture("uvit_h").fingerprint == "f031dc83668b276b"
    assert architecture("laptop/dit").fingerprint == "eebd4a22d42f59f6"
    assert architecture("laptop/uvit").fingerprint == "64c35d742c0ca5a5"
    assert SD3.fingerprint == "010b769f924aa202"


def test_sit_is_dits_network():
    assert architecture("sit_xl_2").fingerprint == architecture("dit_xl_2").fingerprint


@pytest.mark.parametrize(
    ("name", "matters"), [("dit_xl_2", False), ("ldm_4", False), ("uvit_l", True)]
)  # fmt: skip
def test_the_latent_is_part_of_a_network_only_where_it_learns_positions(name, matters):
    config = architecture(name)
    assert (with_edits(config, {"latent_size": 128}).fingerprint != config.fingerprint) == matters


@pytest.mark.parametrize("name", ["dit_xl_2", "uvit_l", "ldm_4", "laptop/dit"])
def test_denoisers_fit_the_data_and_the_prompts(name):
    fitted = with_edits(architecture(name), {"latent_channels": 1, "context_width": 384, "context_length": 16})
    assert isinstance(fitted, Denoiser)
    paths = [change.path for change in difference(architecture(name), fitted)]
    assert set(paths) <= {"latent_channels", "context_width", "context_length"}


@pytest.mark.parametrize(
    ("name", "edits", "sentence"),
    [
        (
            "dit_xl_2",
            {"condition": "class_table"},
            "one token, so its context_length is 1 .*: context_length is 77",
        ),
        ("published/uvit_l", {"context_width": 1}, "so its context_width is 2 or more: context_width is 1"),
        ("dit_xl_2", {"prediction": {"kind": "epsilon"}}, "missing setting 'prediction.beta_schedule'"),
        ("dit_xl_2", {"prediction": {"kind": "score"}}, "'score'; choose one of: epsilon, v, velocity"),
        ("dit_xl_2", {"heads": 7}, "heads divide the width: width is 1152, heads is 7"),
        ("dit_xl_2", {"depth": 0}, "at most 65,536: depth is 0"),
        ("dit_xl_2", {"width": 1154, "heads": 2}, "4 divides the width: width is 1154"),
        ("dit_xl_2", {"time_features": 3}, "number is even: time_features is 3"),
        ("dit_xl_2", {"feed_forward_ratio": 1.0001}, "hidden width is whole"),
        ("uvit_l", {"depth": 5}, "both are even: depth is 5"),
        ("uvit_l", {"patch_size": 3}, "patches cover the latent: latent_size is 32, patch_size is 3"),
        ("ldm_4", {"attention": [True]}, "channels has 4 entries, attention 1"),
        ("ldm_4", {"heads": 5}, "channels.0 is 192, heads is 5"),
        ("decoder/sd3", {"stages": []}, "at least 1 stage"),
        ("decoder/sd3", {"convolution.kernel_size": 2}, "size is odd: convolution.kernel_size is 2"),
        ("decoder/tiny", {"stages.3.channels": 127}, "inside a residual block is whole: up.3.block.0 from 127"),
        ("decoder/tiny", {"norm.groups": 64}, "groups divide .*: middle.block.0 has a feature map of 224"),
        ("decoder/tiny", {"width_change": "nowhere"}, "'width_change'.*choose one of: .*shortcut"),
        ("decoder/tiny", {"stages.9.blocks": 1}, "path of a knob"),
    ],
)
def test_impossible_knobs_are_refused_with_the_rule(name, edits, sentence):
    with pytest.raises(UserError, match=sentence):
        with_edits(architecture(name), edits)


def test_knobs_of_a_decoder_that_cannot_matter_are_not_in_the_fingerprint():
    normless = {"middle.norm": False, "stages.*.norm": False, "norm_out": False}
    bare = with_edits(TINY, normless)
    assert with_edits(bare, {"norm": "rms"}).fingerprint == bare.fingerprint
    assert with_edits(TINY, {"norm": "rms"}).fingerprint != TINY.fingerprint
    attending = with_edits(bare, {"middle.attention": True})
    assert with_edits(attending, {"norm": "rms"}).fingerprint != attending.fingerprint
    even = with_edits(TINY, {"stages.*.channels": 96})
    assert with_edits(even, {"width_change": "shortcut"}).fingerprint == even.fingerprint
    shortcut, widest = with_edits(TINY, {"width_change": "shortcut"}), {"convolution.relative_to": "widest"}
    assert shortcut.fingerprint != TINY.fingerprint
    assert with_edits(TINY, widest).fingerprint == TINY.fingerprint
    assert with_edits(shortcut, widest).fingerprint != shortcut.fingerprint


def test_the_decoders_search_space_holds_the_tiny_decoder():
    decoders = space(yaml.safe_load(find_study("search_spaces", "decoder").read_text()))
    chosen = {
        "attention": False, "norm": "middle", "width_0": 224, "width_1": 192, "width_2": 160, "width_3": 128,
        "convolution": "separable", "expansion": 1.5, "separable_upsampling": "up", "blocks_0": 3, "blocks_1": 3,
        "blocks_2": 2, "blocks_3": 2, "width_change": "upsampling", "upsample": "nearest",
    }  # fmt: skip
    assert set(chosen) == set(decoders.knobs)
    assert all(value in decoders.knobs[name].values() for name, value in chosen.items())
    assert decoders.architecture(chosen) == TINY


def test_a_rung_of_another_family_names_its_base():
    rungs = [{"name": "unet", "title": ""}, {"name": "dit", "title": "", "base": "laptop/dit", "edits": {"depth": 1}}]
    ladder = from_plain(Ladder, {"base": "laptop/thin_sdxl", "mode": "cumulative", "rungs": rungs})
    (_, unet), (rung, dit) = ladder.architectures()
    assert (unet, dit) == (architecture("laptop/thin_sdxl"), with_edits(architecture("laptop/dit"), {"depth": 1}))
    assert rung.against == "unet"

"""Adding a kind of a knob is one file and one registration: a toy attention, from YAML to counts and export."""

from dataclasses import dataclass
from typing import Literal

import pytest
from torch import nn

from harness.architecture import knobs
from harness.architecture.catalogue import architecture, to_yaml
from harness.architecture.config import ArchitectureConfig
from harness.architecture.difference import difference
from harness.architecture.edits import with_edits
from harness.architecture.kinds import kind_of
from harness.commands.space import census
from harness.coreml.config import Mlprogram
from harness.coreml.preflight import preflight
from harness.models.attention import SharedHeadAttention
from harness.models.build import build, example_inputs
from harness.records.errors import UserError
from harness.records.plain import from_plain, to_plain
from harness.search.space import space
from harness.trials.costs import cost_of

LAPTOP = architecture("laptop/thin_sdxl")


class MeanAttention(nn.Module):
    """Attends to everything alike: the mean of the source, through one linear layer."""

    def __init__(self, spec, place):
        super().__init__()
        self.sharpness = spec.sharpness
        self.value = nn.Linear(place.source_width, place.width)

    def forward(self, x, source, **_):
        return self.sharpness * self.value(source).mean(1, keepdim=True).expand_as(x)


@pytest.fixture
def mean_kind(monkeypatch):
    monkeypatch.setattr(knobs.Attention, "forms", dict(knobs.Attention.forms))

    @kind_of(knobs.Attention, built_by=MeanAttention)
    @dataclass(frozen=True, kw_only=True, slots=True)
    class Mean(knobs.Attention):
        sharpness: float = 1.0
        kind: Literal["mean"] = "mean"

        def groups_of(self, heads):
            return heads

    return Mean


def test_a_registered_kind_is_a_knob_value_everywhere(mean_kind, tmp_path):
    config = with_edits(LAPTOP, {"self_attention": {"kind": "mean", "sharpness": 0.5}})
    assert config.self_attention == mean_kind(sharpness=0.5)
    (tmp_path / "mean.yaml").write_text(to_yaml(config))
    assert architecture(str(tmp_path / "mean.yaml")) == config == from_plain(ArchitectureConfig, to_plain(config))
    assert config.fingerprint != with_edits(config, {"self_attention.sharpness": 1}).fingerprint
    assert "self_attention.kind: mhsa -> mean" in map(str, difference(LAPTOP, config))
    module = build(config)
    assert isinstance(module.down[1].attention[0].layer[0].self_attention, MeanAttention)
    inputs = example_inputs(config, latent=8)
    assert module(*inputs).shape == inputs[0].shape


def test_a_registered_kind_is_in_spaces_counts_and_the_export_preflight(mean_kind):
    knob = {"path": "self_attention", "choices": ["mhsa", "mqa", "mean"]}
    whole = space({"base": "laptop/thin_sdxl", "knobs": {"attention": knob}})
    assert (census(whole).distinct, census(whole).refused) == (3, 0)
    config = whole.architecture({"attention": "mean"})
    assert isinstance(config.self_attention, mean_kind)
    places = cost_of(config, 8).by_place()
    toy = places["down.2.attention.0.layer.0.self_attention.value"]
    assert (toy.params, toy.macs) == (48 * 48 + 48, 2 * 2 * 48 * 48)
    checked = preflight(build(config), example_inputs(config, latent=8), Mlprogram())
    assert checked.not_laid_out == ("MeanAttention",)
    assert checked.params == cost_of(config, 8).params


def test_without_its_registration_the_kind_is_refused_with_those_that_exist():
    with pytest.raises(UserError, match=r"'self_attention\.kind': 'mean'; choose one of: (?!.*mean)"):
        with_edits(LAPTOP, {"self_attention": "mean"})


class OwnRow(SharedHeadAttention):
    """Every token attends to its row."""

    def __init__(self, _spec, attention, place):
        super().__init__(attention, place)

    def forward(self, x, source, *, rotation=None, size=None, **_):  # noqa: ARG002
        rows = x.reshape(-1, size[1], x.shape[-1])
        return super().forward(rows, rows).reshape(x.shape)


def test_a_span_is_one_registration(monkeypatch):
    monkeypatch.setattr(knobs.AttentionSpan, "forms", dict(knobs.AttentionSpan.forms))

    @kind_of(knobs.AttentionSpan, built_by=OwnRow)
    @dataclass(frozen=True, kw_only=True, slots=True)
    class Row(knobs.AttentionSpan):
        kind: Literal["row"] = "row"

        @property
        def multiple(self):
            return 3

    config = with_edits(LAPTOP, {"stages.1.block.span": "row", "self_attention": "mqa"})
    assert (LAPTOP.latent_multiple, config.latent_multiple) == (4, 12)
    module, inputs = build(config), example_inputs(config, latent=12)
    assert module(*inputs).shape == inputs[0].shape
    counts = [cost_of(each, 12) for each in (with_edits(config, {"stages.1.block.span": None}), config)]
    assert counts[0].params == counts[1].params
    scores = 2 * 16 * (36 * 36 - 6 * 6 * 6)  # of a head, in a map of 6 x 6; two heads, in one layer down and two up
    assert counts[0].macs - counts[1].macs == 3 * 2 * scores
    assert preflight(module, inputs, Mlprogram()).not_laid_out == ("OwnRow",)


def scaled(_spec, channels, _eps=0.0):
    return nn.Conv2d(channels, channels, 1, groups=channels)


def dilated(spec, c_in, c_out, stride=1):
    return nn.Conv2d(c_in, c_out, spec.kernel_size, stride, padding=spec.kernel_size - 1, dilation=2)


def test_a_norm_and_a_convolution_are_each_one_registration(monkeypatch):
    for knob in (knobs.MapNorm, knobs.Convolution):
        monkeypatch.setattr(knob, "forms", dict(knob.forms))

    @kind_of(knobs.MapNorm, built_by=scaled)
    @dataclass(frozen=True, kw_only=True, slots=True)
    class Scale(knobs.MapNorm):
        kind: Literal["scale"] = "scale"

    @kind_of(knobs.Convolution, built_by=dilated)
    @dataclass(frozen=True, kw_only=True, slots=True)
    class Dilated(knobs.Convolution):
        kernel_size: int = 3
        kind: Literal["dilated"] = "dilated"

        def hidden_width(self, c_in, c_out):  # noqa: ARG002
            return c_out

        def for_resampling(self, direction):  # noqa: ARG002
            return knobs.Regular()

    config = with_edits(LAPTOP, {"norm": "scale", "convolution": "dilated"})
    module, inputs = build(config), example_inputs(config, latent=8)
    assert module(*inputs).shape == inputs[0].shape
    assert module.down[0].block[0].conv1.dilation == (2, 2)
    assert module.down[0].downsample.dilation == (1, 1)
    assert module.norm_out.groups == 32
    assert config.fingerprint not in {LAPTOP.fingerprint, with_edits(config, {"norm": "rms"}).fingerprint}

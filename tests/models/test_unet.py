"""The whole network: names, shapes, gradients, checkpointing, random configurations."""

from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.architecture.ladder import Ladder
from harness.models.build import build, example_inputs
from harness.records.errors import UserError
from harness.records.plain import from_plain

LAPTOP = architecture("laptop/thin_sdxl")
SWEEP = Path(__file__).parents[2] / "sweeps" / "fig3.yaml"
RUNGS = from_plain(Ladder, yaml.safe_load(SWEEP.read_text())["architecture"]).architectures()
EACH_RUNG = pytest.mark.parametrize("config", [c for _, c in RUNGS], ids=[rung.name for rung, _ in RUNGS])


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_children_are_named_by_place():
    names = dict(build(RUNGS[-1][1]).named_modules())
    for place in ("conv_in", "down.0.block.0", "down.1.attention.0", "down.1.downsample", "middle.block.0"):
        assert place in names
    for place in ("middle.attention.0", "middle.block.1", "up.2.attention.1", "up.1.upsample.conv", "conv_out"):
        assert place in names
    assert type(names["down.0.block.0"]).__name__ == "BareTransformer"
    assert type(names["down.1.block.0"]).__name__ == "ResidualBlock"
    assert "down.1.attention.0.layer.0.self_attention" not in names
    assert "down.2.attention.0.layer.1.self_attention.key_value" in names


@EACH_RUNG
def test_rungs_fit_a_laptop(config):
    with torch.device("meta"):
        assert parameters(build(config)) <= 1.5e6


@EACH_RUNG
def test_every_parameter_moves_within_two_steps(config):
    torch.manual_seed(0)
    module = build(config)
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    optimiser = torch.optim.SGD(module.parameters(), lr=10.0)
    x, time, context = example_inputs(config, latent=8, batch=2)
    for _ in range(2):
        optimiser.zero_grad()
        (module(x, time, context) - x).square().mean().backward()
        optimiser.step()
    assert [name for name, parameter in module.named_parameters() if torch.equal(parameter, before[name])] == []


def test_an_untrained_network_predicts_zero():
    module = build(LAPTOP)
    assert not module(*example_inputs(LAPTOP, latent=8)).any()


@EACH_RUNG
def test_samples_of_a_batch_do_not_see_each_other(config):
    module = _awake(config).double()
    inputs = [part.double() for part in example_inputs(config, latent=8, batch=3)]
    alone = module(*(part[1:2] for part in inputs))
    torch.testing.assert_close(module(*inputs)[1:2], alone, rtol=0, atol=1e-12)


def test_time_text_and_image_matter():
    module = _awake(RUNGS[-1][1])
    inputs = example_inputs(RUNGS[-1][1], latent=8, batch=2)
    for index in range(3):
        changed = [part.roll(1, 0) if i == index else part for i, part in enumerate(inputs)]
        assert not torch.allclose(module(*inputs), module(*changed), atol=1e-5)


def test_positions_matter_only_with_rope():
    """With RoPE a constant image's tokens differ by their place in self-attention; norms and convs aside."""
    with_rope = RUNGS[-1][1]
    torch.manual_seed(0)
    rope = _awake(with_rope)
    bare = _awake(with_edits(with_rope, {"position": None}))
    bare.load_state_dict(rope.state_dict())
    inputs = example_inputs(with_rope, latent=16)
    assert not torch.allclose(rope(*inputs), bare(*inputs), atol=1e-6)


def test_checkpointing_changes_memory_not_gradients():
    config = RUNGS[-1][1]
    torch.manual_seed(0)
    plain, again = build(config), build(config, checkpointing=True)
    torch.nn.init.normal_(plain.conv_out.weight)
    again.load_state_dict(plain.state_dict())
    inputs = example_inputs(config, latent=8, batch=2)
    kept = []
    for module in (plain, again):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=sizes: (s.append(x.numel()), x)[1], lambda x: x):
            loss = module(*inputs).square().mean()
        loss.backward()
        kept.append(sum(sizes))
    for a, b in zip(plain.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    assert kept[1] < kept[0] / 5


def test_any_size_that_halves_and_no_other():
    module = _awake(RUNGS[-1][1])
    for size in (4, 8, 12, 32):
        inputs = example_inputs(LAPTOP, latent=size)
        assert module(*inputs).shape == inputs[0].shape
    with pytest.raises(UserError, match="multiples of 4: they are 10 x 10"):
        module(*example_inputs(LAPTOP, latent=10))


def test_example_inputs_repeat_and_fit_the_meta_device():
    first, second = example_inputs(LAPTOP, latent=8), example_inputs(LAPTOP, latent=8)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with torch.device("meta"):
        module = build(LAPTOP)
    assert module(*example_inputs(LAPTOP, latent=128, device="meta")).shape == (1, 1, 128, 128)


WIDTHS = st.sampled_from([16, 32, 48])
BLOCKS = st.one_of(
    st.just({"kind": "residual"}),
    st.builds(
        lambda kind, depth, attends: {"kind": kind, "depth": depth, "self_attention": attends},
        st.sampled_from(["residual_transformer", "transformer"]),
        st.integers(1, 2),
        st.booleans(),
    ),
)
ATTENTIONS = st.sampled_from(["mhsa", "mqa", {"kind": "gqa", "groups": 2}])
CONVOLUTIONS = st.one_of(
    st.builds(lambda k: {"kind": "regular", "kernel_size": k}, st.sampled_from([1, 3, 5])),
    st.builds(
        lambda *v: dict(zip(("kind", "kernel_size", "expansion", "relative_to", "resampling"), v, strict=True)),
        st.just("separable"),
        st.sampled_from([3, 5]),
        st.sampled_from([0.5, 1, 2]),
        st.sampled_from(["output", "widest"]),
        st.sampled_from(["none", "up", "down", "both"]),
    ),
)


@st.composite
def edits(draw):
    stages = [
        {"channels": draw(WIDTHS), "down_blocks": draw(st.integers(1, 2)), "up_blocks": draw(st.integers(1, 4))}
        | {"block": draw(BLOCKS)}
        for _ in range(draw(st.integers(2, 3)))
    ]
    chosen = {
        "stages": stages,
        "middle": draw(st.one_of(st.none(), BLOCKS)),
        "head_dim": 8,
        "self_attention": draw(ATTENTIONS),
        "cross_attention": draw(ATTENTIONS),
        "qk_norm": draw(st.sampled_from([None, "rms", "layer"])),
        "position": draw(st.sampled_from([None, "rope_2d"])),
        "feed_forward": {"kind": draw(st.sampled_from(["geglu", "swiglu", "gelu"])), "ratio": 2},
        "convolution": draw(CONVOLUTIONS),
        "upsample": draw(st.sampled_from(["nearest", "pixel_shuffle"])),
        "downsample": draw(st.sampled_from(["strided", "pixel_unshuffle"])),
        "norm": draw(st.sampled_from([{"kind": "group", "groups": 4}, "layer", "rms"])),
        "token_norm": draw(st.sampled_from(["layer", "rms"])),
        "latent_channels": draw(st.integers(1, 4)),
    }
    kinds = {block["kind"] for block in [*(s["block"] for s in stages), chosen["middle"]] if block}
    if kinds in ({"residual"}, {"transformer"}):  # the text needs a transformer, the time a residual block
        chosen["middle"] = {"kind": "residual_transformer", "depth": 1, "self_attention": False}
    return chosen


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(edits())
def test_random_configurations_build_run_and_agree_with_meta(chosen):
    config = with_edits(LAPTOP, chosen)
    with torch.device("meta"):
        meta = build(config)
    module = _awake(config)
    assert parameters(module) == parameters(meta)
    inputs = example_inputs(config, latent=8)
    mask = torch.ones(1, config.context_length, dtype=torch.bool)
    out = module(*inputs)
    assert out.shape == inputs[0].shape == meta(*example_inputs(config, latent=8, device="meta")).shape
    assert out.isfinite().all()
    torch.testing.assert_close(module(*inputs, mask), out, rtol=1e-4, atol=1e-4)


def _awake(config):
    """A network whose output is not zero."""
    module = build(config).eval()
    torch.nn.init.normal_(module.conv_out.weight)
    return module

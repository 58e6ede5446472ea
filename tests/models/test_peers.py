"""The peers are what their papers describe: equal to diffusers or to a plain rewriting with the same weights."""

import pytest
import torch
from diffusers import DiTTransformer2DModel, UNet2DConditionModel
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from torch.nn import functional as F

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.architecture.peers import DiTConfig
from harness.coreml.export import export_package
from harness.models.build import build, example_inputs
from harness.models.peers import dit
from harness.records.errors import UserError

CLASSES = 5
DIT = with_edits(
    architecture("laptop/dit"),
    {"width": 32, "depth": 2, "heads": 4, "latent_channels": 3, "context_width": CLASSES + 1, "context_length": 1},
)
UVIT = with_edits(
    architecture("uvit_l"),
    {"width": 32, "depth": 4, "heads": 4, "latent_size": 8, "context_width": 6, "context_length": 3},
)
LDM = with_edits(
    architecture("ldm_4"),
    {"channels": [16, 32], "attention": [False, True], "norm_groups": 8, "context_width": 12, "context_length": 4},
)
SMALL = {"dit": DIT, "uvit": UVIT, "ldm": LDM}


def randomised(config):
    """The network in float64 with weights that leave nothing at zero."""
    torch.manual_seed(0)
    module = build(config).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.2)
    return module.eval()


def doubles(config, batch=2):
    return tuple(part.double() for part in example_inputs(config, latent=8, batch=batch))


# DiT


def dit_twin(config):
    """diffusers' DiT with what it does otherwise made as published: one embedding for all blocks, n / 2 frequencies.

    Its sinusoids are rounded to float32, which is 5e-5 in the output: here they are not.
    """
    twin = DiTTransformer2DModel(
        num_attention_heads=config.heads,
        attention_head_dim=config.width // config.heads,
        in_channels=config.latent_channels,
        out_channels=config.latent_channels * (2 if config.predicts_variance else 1),
        num_layers=config.depth,
        sample_size=8,
        patch_size=config.patch_size,
        num_embeds_ada_norm=CLASSES,
        norm_eps=1e-6,
    )
    shared = twin.transformer_blocks[0].norm1.emb
    shared.time_proj = Sinusoids(config.time_features)
    shared.timestep_embedder.linear_1 = torch.nn.Linear(config.time_features, config.width)
    for block in twin.transformer_blocks:
        block.norm1.emb = shared
    grid = 8 // config.patch_size
    twin = twin.double().eval()
    twin.pos_embed.pos_embed = get_2d_sincos_pos_embed(config.width, grid, base_size=grid)[None]
    return twin


class Sinusoids(torch.nn.Module):
    def __init__(self, features):
        super().__init__()
        self.half = features // 2

    def forward(self, timestep):
        angles = timestep[:, None] * 10000.0 ** (-torch.arange(self.half, dtype=timestep.dtype) / self.half)
        return torch.cat([angles.cos(), angles.sin()], -1)


WORDS = (
    ("pos_embed.proj", "patches"),
    ("transformer_blocks.0.norm1.emb.timestep_embedder.linear_1", "time.0"),
    ("transformer_blocks.0.norm1.emb.timestep_embedder.linear_2", "time.2"),
    ("transformer_blocks.", "block."),
    ("norm1.linear", "modulation"),
    ("attn1.to_out.0", "attention.out"),
    ("ff.net.0.proj", "feed_forward.expand"),
    ("ff.net.2", "feed_forward.contract"),
    ("proj_out_1", "modulation_out"),
    ("proj_out_2", "out"),
)
TABLE = "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"


def dit_renamed(theirs):
    """Their state dict under our names. The table of classes becomes the linear layer of a one-hot token."""
    width = theirs[TABLE].shape[1]
    ours = {"text.linear.weight": theirs[TABLE].T, "text.linear.bias": torch.zeros(width, dtype=torch.float64)}
    for key, value in theirs.items():
        if key.startswith("pos_embed.pos") or "class_embedder" in key or (".emb." in key and ".0.norm1." not in key):
            continue
        name = key
        for before, after in WORDS:
            name = name.replace(before, after)
        ours[name] = value
    for query in [key for key in ours if "attn1.to_q" in key]:
        parts = [ours.pop(query.replace("to_q", f"to_{part}")) for part in "qkv"]
        ours[query.replace("attn1.to_q", "attention.query_key_value")] = torch.cat(parts)
    return ours


def dit_outputs(config):
    torch.manual_seed(1)
    twin, ours = dit_twin(config), build(config).double().eval()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.normal_(std=0.2)
    ours.load_state_dict(dit_renamed(twin.state_dict()))
    x, time, _ = doubles(config)
    labels = torch.tensor([1, 4])
    context = F.one_hot(labels, CLASSES + 1).double()[:, None]
    with torch.no_grad():
        return ours(x, time, context), twin(x, 1000 * time, labels).sample[:, : config.latent_channels]


@pytest.mark.parametrize("predicts_variance", [False, True])
@pytest.mark.parametrize("patch_size", [1, 2])
def test_dit_equals_diffusers_with_its_weights(predicts_variance, patch_size):
    ours, theirs = dit_outputs(with_edits(DIT, {"predicts_variance": predicts_variance, "patch_size": patch_size}))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        ("positions_2d", lambda rows, columns, width, like: torch.zeros(rows * columns, width, dtype=like.dtype)),
        ("_modulated", lambda x, shift, scale: x * scale + shift),
        ("_gelu_tanh", F.gelu),
        ("to_map", lambda tokens, rows, patch: dit_to_map_transposed(tokens, rows, patch)),
    ],
)
def test_a_wrong_part_of_dit_is_seen(monkeypatch, what, wrong):
    monkeypatch.setattr(dit, what, wrong)
    ours, theirs = dit_outputs(DIT)
    assert (ours - theirs).abs().max() > 1e-6


def dit_to_map_transposed(tokens, rows, patch):
    from harness.models.peers.vit import to_map

    return to_map(tokens, rows, patch).transpose(2, 3)


def test_diffusers_own_dit_would_be_larger_than_the_published_one():
    """Why DiT is written out here: an embedding of time and class in every block."""
    with torch.device("meta"):
        whole = DiTTransformer2DModel()  # its defaults are DiT-XL/2's
    assert sum(parameter.numel() for parameter in whole.parameters()) / 1e6 > 1.05 * 675


def test_an_untrained_dit_predicts_nothing_and_its_blocks_are_the_identity():
    config = with_edits(architecture("laptop/dit"), {"width": 32})
    module = build(config)
    tokens, condition = torch.randn(2, 4, 32), torch.randn(2, 32)
    assert torch.equal(module.block[0](tokens, condition), tokens)
    assert not module(*example_inputs(config, latent=8)).any()


def test_dit_runs_at_every_size_and_aspect():
    config = architecture("laptop/dit")
    module = build(config)
    _, time, context = example_inputs(config, latent=8)
    assert module(torch.zeros(1, 1, 4, 12), time, context).shape == (1, 1, 4, 12)


# U-ViT


def uvit_reference(state, config, x, time, context):
    """U-ViT from its paper, written plainly: functions of a state dict."""

    def linear(name, h):
        return F.linear(h, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(name, h):
        return F.layer_norm(h, h.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

    def block(name, h, skip=None):
        if skip is not None:
            h = linear(f"{name}.join", torch.cat([h, skip], -1))
        q, k, v = linear(f"{name}.attention.query_key_value", norm(f"{name}.norm1", h)).chunk(3, -1)
        q, k, v = (part.reshape(*part.shape[:2], config.heads, -1).transpose(1, 2) for part in (q, k, v))
        weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)
        h = h + linear(f"{name}.attention.out", (weights @ v).transpose(1, 2).reshape(h.shape))
        inner = F.gelu(linear(f"{name}.feed_forward.expand", norm(f"{name}.norm2", h)))
        return h + linear(f"{name}.feed_forward.contract", inner)

    size = config.patch_size
    patches = F.conv2d(x, state["patches.weight"], state["patches.bias"], stride=size)
    half = config.width // 2
    angles = 1000 * time[:, None] * 10000.0 ** (-torch.arange(half, dtype=x.dtype) / half)
    moment = torch.cat([angles.cos(), angles.sin()], -1)
    label = linear("text.linear", context.mean(1))
    h = torch.cat([moment[:, None], label[:, None], patches.flatten(2).mT], 1) + state["positions"]
    skips = []
    for index in range(config.depth // 2):
        h = block(f"down.{index}", h)
        skips.append(h)
    h = block("middle", h)
    for index in range(config.depth // 2):
        h = block(f"up.{index}", h, skips.pop())
    h = linear("out", norm("norm_out", h)[:, 2:])
    image = torch.zeros_like(x)
    for token in range(h.shape[1]):
        row, column = divmod(token, patches.shape[-1])
        patch = h[:, token].reshape(-1, size, size, x.shape[1]).permute(0, 3, 1, 2)
        image[:, :, row * size : (row + 1) * size, column * size : (column + 1) * size] = patch
    return F.conv2d(image, state["conv_out.weight"], state["conv_out.bias"], padding=1)


def test_uvit_equals_a_plain_rewriting_with_its_weights():
    module, inputs = randomised(UVIT), doubles(UVIT)
    with torch.no_grad():
        expected = uvit_reference(module.state_dict(), UVIT, *inputs)
        torch.testing.assert_close(module(*inputs), expected, rtol=0, atol=1e-10)
        module.up[0], module.up[1] = module.up[1], module.up[0]
        assert (module(*inputs) - expected).abs().max() > 1e-6


def test_uvit_takes_the_latent_that_it_learns_positions_for_and_says_so():
    with pytest.raises(UserError, match=r"8 x 8 latent, so it takes no other size: this one is 16 x 16"):
        build(UVIT)(*example_inputs(UVIT, latent=16))


# LDM


def test_ldm_is_diffusers_unet_called_like_ours():
    module, (x, time, context) = randomised(LDM), doubles(LDM)
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    twin = UNet2DConditionModel.from_config(module.unet.config).double().eval()
    twin.load_state_dict(module.unet.state_dict())
    with torch.no_grad():
        expected = twin(x, 1000 * time, context, encoder_attention_mask=mask).sample
        assert torch.equal(module(x, time, context, mask), expected)


# All of them


@pytest.mark.parametrize("name", SMALL)
def test_masked_tokens_say_nothing(name):
    config = SMALL[name]
    if config.context_length < 2:
        config = with_edits(config, {"context_length": 3})
    module, (x, time, context) = randomised(config), doubles(config)
    mask = torch.ones(context.shape[:2], dtype=torch.bool)
    mask[:, -1] = False
    other = context.clone()
    other[:, -1] += 1
    with torch.no_grad():
        assert (module(x, time, context) - module(x, time, other)).abs().max() > 1e-6
        torch.testing.assert_close(module(x, time, context, mask), module(x, time, other, mask), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_moves_within_three_steps(name):
    """Three, for DiT: its output starts at zero, then its gates do, then what they let through moves."""
    config = SMALL[name]
    torch.manual_seed(0)
    module = build(config)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2, weight_decay=0)
    x, time, context = example_inputs(config, latent=8, batch=2)
    for _ in range(3):
        optimizer.zero_grad()
        (module(x, time, context) - x).square().mean().backward()
        optimizer.step()
    assert [key for key, value in module.state_dict().items() if torch.equal(value, before[key])] == []


def test_patches_must_cover_the_latent():
    assert isinstance(DIT, DiTConfig)
    with pytest.raises(UserError, match=r"so 2 divides height and width: they are 7 x 7"):
        build(DIT)(*example_inputs(DIT, latent=7))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["laptop/dit", "laptop/uvit"])
def test_the_laptop_peers_export_to_core_ml(name, tmp_path):
    config = architecture(name)
    summary = export_package(build(config), example_inputs(config, latent=8), tmp_path / "peer.mlpackage")
    assert summary.bytes > 2 * 1e6  # 16 bits a parameter

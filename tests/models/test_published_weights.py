"""Weights of others' networks, in the form that they publish them: converted, they compute what the originals do.

DiT is held against diffusers' own, alone and through its whole pipeline; SiT and U-ViT against references written here
from their papers' equations, on state dicts of their names and shapes.
"""

import io
import json
from argparse import Namespace

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch.nn import functional as F

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.cli import main
from harness.data.prompts import class_table
from harness.diffusion.config import SamplingConfig
from harness.diffusion.sampling import sample_batches
from harness.models.build import build
from harness.models.convert import converted
from harness.models.convert_peers import DIT_NAMES, UVIT_NAMES, from_dit, from_uvit, original
from harness.models.peers.vit import positions_2d
from harness.models.weights import read_identity, read_weights
from harness.records.errors import UserError

CLASSES, SIZE = 1000, 8
SMALL = {"width": 32, "depth": 2, "heads": 4, "latent_size": SIZE}
DIT = with_edits(architecture("published/dit_xl_2"), SMALL)
SIT = with_edits(architecture("published/sit_xl_2"), SMALL)
UVIT_L = with_edits(architecture("published/uvit_l"), SMALL)
UVIT_H = with_edits(architecture("published/uvit_h"), SMALL)


def dit_state(width=32, depth=2, hidden=128, classes=CLASSES, channels=4, seed=0, size=SIZE):
    """A state dict with the names and shapes of facebookresearch/DiT's and willisma/SiT's models.py."""
    shapes = {
        "x_embedder.proj.weight": (width, channels, 2, 2), "x_embedder.proj.bias": (width,),
        "t_embedder.mlp.0.weight": (width, 256), "t_embedder.mlp.0.bias": (width,),
        "t_embedder.mlp.2.weight": (width, width), "t_embedder.mlp.2.bias": (width,),
        "y_embedder.embedding_table.weight": (classes + 1, width),
        "final_layer.linear.weight": (4 * 2 * channels, width), "final_layer.linear.bias": (4 * 2 * channels,),
        "final_layer.adaLN_modulation.1.weight": (2 * width, width),
        "final_layer.adaLN_modulation.1.bias": (2 * width,),
    }  # fmt: skip
    for index in range(depth):
        block = f"blocks.{index}"
        shapes |= {
            f"{block}.attn.qkv.weight": (3 * width, width), f"{block}.attn.qkv.bias": (3 * width,),
            f"{block}.attn.proj.weight": (width, width), f"{block}.attn.proj.bias": (width,),
            f"{block}.mlp.fc1.weight": (hidden, width), f"{block}.mlp.fc1.bias": (hidden,),
            f"{block}.mlp.fc2.weight": (width, hidden), f"{block}.mlp.fc2.bias": (width,),
            f"{block}.adaLN_modulation.1.weight": (6 * width, width), f"{block}.adaLN_modulation.1.bias": (6 * width,),
        }  # fmt: skip
    positions = positions_2d(size // 2, size // 2, width, torch.empty(0))[None]
    return {"pos_embed": positions, **drawn(shapes, seed)}


def drawn(shapes, seed):
    torch.manual_seed(seed)
    return {name: 0.2 * torch.randn(shape) for name, shape in shapes.items()}


def uvit_state(*, convolution, width=32, depth=2, hidden=128, classes=CLASSES, channels=4, size=SIZE):
    """A state dict with the names and shapes of baofff/U-ViT's libs/uvit.py."""
    shapes = {
        "pos_embed": (1, 2 + (size // 2) ** 2, width),
        "patch_embed.proj.weight": (width, channels, 2, 2), "patch_embed.proj.bias": (width,),
        "label_emb.weight": (classes + 1, width), "norm.weight": (width,), "norm.bias": (width,),
        "decoder_pred.weight": (4 * channels, width), "decoder_pred.bias": (4 * channels,),
    }  # fmt: skip
    if convolution:
        shapes |= {"final_layer.weight": (channels, channels, 3, 3), "final_layer.bias": (channels,)}
    inside = [f"in_blocks.{i}" for i in range(depth // 2)]
    outside = [f"out_blocks.{i}" for i in range(depth // 2)]
    for block in (*inside, "mid_block", *outside):
        shapes |= {f"{block}.{norm}.{part}": (width,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
        shapes |= {
            f"{block}.attn.qkv.weight": (3 * width, width),
            f"{block}.attn.proj.weight": (width, width), f"{block}.attn.proj.bias": (width,),
            f"{block}.mlp.fc1.weight": (hidden, width), f"{block}.mlp.fc1.bias": (hidden,),
            f"{block}.mlp.fc2.weight": (width, hidden), f"{block}.mlp.fc2.bias": (width,),
        }  # fmt: skip
    for block in outside:
        shapes |= {f"{block}.skip_linear.weight": (width, 2 * width), f"{block}.skip_linear.bias": (width,)}
    return drawn(shapes, 1)


# References: functions of a state dict, from the papers' equations


def linear(state, name, h):
    return F.linear(h, state[f"{name}.weight"], state.get(f"{name}.bias"))


def attention(state, name, h, heads):
    q, k, v = linear(state, f"{name}.qkv", h).chunk(3, -1)
    q, k, v = (part.reshape(*part.shape[:2], heads, -1).transpose(1, 2) for part in (q, k, v))
    weights = torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1)
    return linear(state, f"{name}.proj", (weights @ v).transpose(1, 2).reshape(h.shape))


def sines(times, features):
    angles = times[:, None].double() * 10000.0 ** (-torch.arange(features // 2).double() / (features // 2))
    return torch.cat([angles.cos(), angles.sin()], -1)


def from_patches(tokens, channels):
    """Patches of 2 x 2, each (row, column, channel), to a map."""
    side = round(tokens.shape[1] ** 0.5)
    made = torch.zeros(len(tokens), channels, 2 * side, 2 * side, dtype=tokens.dtype)
    for token in range(tokens.shape[1]):
        row, column = 2 * (token // side), 2 * (token % side)
        patch = tokens[:, token].reshape(-1, 2, 2, channels).permute(0, 3, 1, 2)
        made[:, :, row : row + 2, column : column + 2] = patch
    return made


def dit_reference(state, x, times, labels, heads=4, depth=2):
    """`times` as its sinusoids see them; the first half of the channels."""
    h = F.conv2d(x, state["x_embedder.proj.weight"], state["x_embedder.proj.bias"], stride=2).flatten(2).mT
    h = h + state["pos_embed"]
    moment = linear(state, "t_embedder.mlp.2", F.silu(linear(state, "t_embedder.mlp.0", sines(times, 256))))
    c = F.silu(moment + state["y_embedder.embedding_table.weight"][labels])

    def modulated(h, shift, scale):
        return F.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]

    for block in (f"blocks.{index}" for index in range(depth)):
        shift1, scale1, gate1, shift2, scale2, gate2 = linear(state, f"{block}.adaLN_modulation.1", c).chunk(6, 1)
        h = h + gate1[:, None] * attention(state, f"{block}.attn", modulated(h, shift1, scale1), heads)
        inner = F.gelu(linear(state, f"{block}.mlp.fc1", modulated(h, shift2, scale2)), approximate="tanh")
        h = h + gate2[:, None] * linear(state, f"{block}.mlp.fc2", inner)
    shift, scale = linear(state, "final_layer.adaLN_modulation.1", c).chunk(2, 1)
    return from_patches(linear(state, "final_layer.linear", modulated(h, shift, scale)), 8)[:, :4]


def uvit_reference(state, x, times, labels, heads=4, depth=2):
    def norm(name, h):
        return F.layer_norm(h, h.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

    def block(name, h, skip=None):
        if skip is not None:
            h = linear(state, f"{name}.skip_linear", torch.cat([h, skip], -1))
        h = h + attention(state, f"{name}.attn", norm(f"{name}.norm1", h), heads)
        return h + linear(state, f"{name}.mlp.fc2", F.gelu(linear(state, f"{name}.mlp.fc1", norm(f"{name}.norm2", h))))

    patches = F.conv2d(x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=2).flatten(2).mT
    moment, label = sines(times, patches.shape[-1]), state["label_emb.weight"][labels]
    h = torch.cat([label[:, None], moment[:, None], patches], 1) + state["pos_embed"]
    skips = []
    for index in range(depth // 2):
        h = block(f"in_blocks.{index}", h)
        skips.append(h)
    h = block("mid_block", h)
    for index in range(depth // 2):
        h = block(f"out_blocks.{index}", h, skips.pop())
    made = from_patches(linear(state, "decoder_pred", norm("norm", h))[:, 2:], 4)
    if "final_layer.weight" in state:
        made = F.conv2d(made, state["final_layer.weight"], state["final_layer.bias"], padding=1)
    return made


def loaded(state, config, folder):
    torch.save(state, folder / "theirs.pt")
    converted(folder / "theirs.pt", config, folder / "ours.safetensors")
    return read_weights(folder / "ours.safetensors", config).network()


CASES = {
    "dit": (DIT, dit_state(), dit_reference),
    "sit": (SIT, dit_state(seed=3), dit_reference),
    "uvit_h": (UVIT_H, uvit_state(convolution=False), uvit_reference),
    "uvit_l": (UVIT_L, uvit_state(convolution=True), uvit_reference),
}


@pytest.mark.parametrize("name", CASES)
def test_converted_weights_compute_what_the_paper_says(name, tmp_path):
    config, state, reference = CASES[name]
    network = loaded(state, config, tmp_path).double()
    x, labels = torch.randn(3, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(5)).double(), [3, 998, CLASSES]
    one_hot = F.one_hot(torch.tensor(labels), CLASSES + 1)[:, None].double()
    times = torch.tensor([0.25, 0.5, 1.0]) if name == "sit" else torch.tensor([0.0, 500.0, 999.0])
    exact = {key: tensor.double() for key, tensor in state.items()}
    with torch.no_grad():
        found = network(x, times.double() / 1000, one_hot)
        torch.testing.assert_close(found, reference(exact, x, times, labels), rtol=0, atol=1e-5)
        other = reference({**exact, "pos_embed": exact["pos_embed"].flip(1)}, x, times, labels)
        assert (found - other).abs().max() > 1e-3  # a wrong order of positions is seen


@pytest.mark.parametrize("name", ["dit_xl_2", "sit_xl_2", "uvit_h", "uvit_l"])
def test_parameters_are_the_published_ones(name):
    """DiT's code prints 675,129,632, 256 positions of 1,152 among them; the others by their layers' arithmetic."""
    with torch.device("meta"):
        network = build(architecture(f"published/{name}"))
    counted = sum(parameter.numel() for parameter in network.parameters())
    if name.endswith("xl_2"):
        assert counted + 256 * 1152 == 675_129_632
    else:
        width, depth = (1152, 28) if name == "uvit_h" else (1024, 20)
        block = 4 * width * width + width + 8 * width * width + 5 * width + 4 * width  # attention, feed-forward, norms
        skips = depth // 2 * (2 * width * width + width)
        ends = 16 * width + width + 258 * width + 1001 * width + 2 * width + 16 * width + 16
        convolution = 0 if name == "uvit_h" else 4 * 4 * 9 + 4
        assert counted == (depth + 1) * block + skips + ends + convolution
        assert counted / 1e6 == pytest.approx({"uvit_h": 501, "uvit_l": 287}[name], rel=0.005)


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("dit_xl_2", {"width": 1152, "depth": 28, "hidden": 4608}),
        ("uvit_h", {"width": 1152, "depth": 28, "hidden": 4608, "convolution": False}),
        ("uvit_l", {"width": 1024, "depth": 20, "hidden": 4096, "convolution": True}),
    ],
)
def test_at_full_size_every_name_and_shape_has_its_place(name, state):
    """Without memory: 32 x 32 latents, as published."""
    config, rename = architecture(f"published/{name}"), from_dit if name == "dit_xl_2" else from_uvit
    with torch.device("meta"):
        theirs = dit_state(**state, size=32) if name == "dit_xl_2" else uvit_state(**state, size=32)
        shapes = {key: tensor.shape for key, tensor in build(config).state_dict().items()}
    if name == "dit_xl_2":
        theirs["pos_embed"] = positions_2d(16, 16, config.width, torch.empty(0))[None]
    assert {key: tensor.shape for key, tensor in rename(theirs, config).items()} == shapes


def diffusers_dit():
    """diffusers' own, small and random; its frequencies and its eps made those that DiT was trained with."""
    torch.manual_seed(2)
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=4, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2, sample_size=SIZE,
        patch_size=2, num_embeds_ada_norm=CLASSES, norm_eps=1e-6,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    first = model.transformer_blocks[0].norm1.emb
    first.time_proj.downscale_freq_shift = 0
    for block in model.transformer_blocks[1:]:
        block.norm1.emb = first
    return model.eval()


def test_diffusers_dit_pipeline_and_ours_make_the_same_latents(tmp_path, monkeypatch):
    """Its DiTPipeline, with guidance and DDIM, against our Euler on the straight path."""
    transformer = diffusers_dit()
    save_file({k: v.clone() for k, v in transformer.state_dict().items()}, tmp_path / "theirs.safetensors")
    converted(tmp_path / "theirs.safetensors", DIT, tmp_path / "ours.safetensors")
    scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing", beta_start=1e-4, beta_end=0.02)
    vae = diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4, scaling_factor=0.5)
    pipeline = diffusers.DiTPipeline(transformer=transformer, vae=vae, scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    noise, labels = torch.randn(3, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(1)), [7, 42, 999]
    decoded = []
    decode = vae.decode
    monkeypatch.setattr(vae, "decode", lambda z: decoded.append(z) or decode(z))
    monkeypatch.setattr("diffusers.pipelines.dit.pipeline_dit.randn_tensor", lambda **_: noise)
    pipeline(class_labels=labels, guidance_scale=2.5, num_inference_steps=10, output_type="np")
    monkeypatch.setattr("harness.diffusion.sampling.sample_noise", lambda *_: noise)
    network = read_weights(tmp_path / "ours.safetensors").network()
    config = SamplingConfig(solver="euler", steps=10, guidance_scale=2.5, micro_batch=3)
    prompts = class_table([str(number) for number in range(CLASSES)])
    made = []
    batches = sample_batches(
        network, prompts, torch.tensor(labels), config, shape=(4, SIZE, SIZE), decode=lambda z: made.append(z) or z
    )
    list(batches)
    theirs = 0.5 * decoded[0]
    assert theirs.std() > 0.1
    torch.testing.assert_close(made[0], theirs, rtol=2e-4, atol=2e-4 * float(theirs.abs().max()))


def test_a_training_checkpoint_gives_its_averaged_weights(tmp_path):
    state, other = dit_state(), dit_state(seed=9)
    torch.save({"model": other, "ema": state, "opt": {}, "args": Namespace(model="DiT")}, tmp_path / "theirs.pt")
    converted(tmp_path / "theirs.pt", DIT, tmp_path / "ours.safetensors")
    tensors = read_weights(tmp_path / "ours.safetensors").tensors
    assert torch.equal(tensors["text.rows"], state["y_embedder.embedding_table.weight"])


def without(state, name):
    return {key: tensor for key, tensor in state.items() if key != name}


NOT_FINITE = "'x_embedder.proj.bias' has values that are no number; give another checkpoint"
DAMAGED = {
    "missing": (
        DIT,
        without(dit_state(), "blocks.1.attn.qkv.bias"),
        "'blocks.1.attn.qkv.bias' is missing; name the architecture that the weights are of",
    ),
    "left over": (
        DIT,
        {**dit_state(), "blocks.2.attn.qkv.bias": torch.zeros(96)},
        "'blocks.2.attn.qkv.bias' is none of its",
    ),
    "another shape": (
        DIT,
        {**dit_state(), "blocks.0.mlp.fc1.bias": torch.zeros(5)},
        r"'blocks.0.mlp.fc1.bias' is \(5,\), and \(128,\) is right",
    ),
    "another table": (
        DIT,
        dit_state(classes=10),
        r"'y_embedder.embedding_table.weight' is \(11, 32\), and \(1001, 32\) is right: a table of 10 classes and a "
        r"row for none is .* `edits: \{context_width: 11\}` .* --names",
    ),
    "no positions": (DIT, without(dit_state(), "pos_embed"), "'pos_embed' is missing"),
    "odd positions": (DIT, {**dit_state(), "pos_embed": torch.zeros(1, 15, 32)}, r"'pos_embed' is \(1, 15, 32\)"),
    "other positions": (DIT, {**dit_state(), "pos_embed": torch.zeros(1, 16, 32)}, "are not the sines and cosines"),
    "not finite": (DIT, {**dit_state(), "x_embedder.proj.bias": torch.full((32,), torch.nan)}, NOT_FINITE),
    "text": (architecture("laptop/dit"), dit_state(), "with a table of classes, and the architecture is none"),
    "another family": (UVIT_H, dit_state(), "weights of a DiT with a table of classes"),
    "unknown": (DIT, {"a": torch.zeros(1)}, "no program that is known"),
    "no convolution": (UVIT_L, uvit_state(convolution=False), "'final_layer.bias' is missing"),
    "one convolution more": (UVIT_H, uvit_state(convolution=True), "'final_layer.bias' is none of its"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_does_not_fit_is_one_sentence(name, tmp_path):
    config, state, sentence = DAMAGED[name]
    torch.save(state, tmp_path / "theirs.pt")
    with pytest.raises(UserError, match=sentence) as refused:
        converted(tmp_path / "theirs.pt", config, tmp_path / "ours.safetensors")
    assert "\n" not in str(refused.value)
    assert "theirs.pt" in str(refused.value)
    assert "ours.safetensors" not in str(refused.value)
    assert not (tmp_path / "ours.safetensors").exists()


@pytest.mark.parametrize(
    ("names", "state", "rename", "config"),
    [(DIT_NAMES, dit_state(), from_dit, DIT), (UVIT_NAMES, uvit_state(convolution=True), from_uvit, UVIT_L)],
    ids=["dit", "uvit"],
)
def test_every_name_of_ours_is_told_back_as_theirs(names, state, rename, config):
    kept = state.keys() - {"pos_embed"} if config is DIT else state.keys()
    assert {original(name, names) for name in rename(state, config)} == kept
    assert original("something.else", names) == "something.else"


def saved(content, **how):
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


def npz():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


WHOLE = {"a": torch.zeros(1000)}
BAD_FILES = {
    "junk.pt": (b"hello world" * 50, "it is no file of torch.save"),
    "words.pt": (b"base: published/dit_xl_2\nedits: {}\n", "it is no file of torch.save"),
    "empty.pt": (b"", "it is empty; fetch it again"),
    "empty.safetensors": (b"", "it is empty; fetch it again"),
    "cut.pt": (saved(WHOLE)[:2000], "it is cut off, or damaged; fetch it again"),
    "old.pt": (saved(WHOLE, _use_new_zipfile_serialization=False)[:2000], "it is cut off; fetch it again"),
    "arrays.npz": (npz(), "it is an .npz of NumPy's arrays; give a file of safetensors"),
    "module.pt": (saved(torch.nn.Linear(2, 2)), r"it holds Python objects \(torch.nn.modules.linear.Linear\)"),
    "numbers.pt": (saved({"a": 1}), "is no mapping from names to tensors"),
    "cut.safetensors": (save(WHOLE)[:2000], r"it is cut off: 2,000 of 4,\d\d\d bytes are there; fetch it again"),
    "text.safetensors": (b"hello, these are no weights", "it is no safetensors file; fetch it again, or give"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_holds_no_weights_says_why_and_what_to_do(name, tmp_path):
    content, sentence = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence) as refused:
        converted(tmp_path / name, DIT, tmp_path / "ours.safetensors")
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_code_in_a_pickle_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"x_embedder.proj.weight": Evil()}, tmp_path / "theirs.pt")
    with pytest.raises(UserError, match="cannot read the weights"):
        converted(tmp_path / "theirs.pt", DIT, tmp_path / "ours.safetensors")


def test_blocks_that_embed_on_their_own_are_no_dit(tmp_path):
    state = {k: v.clone() for k, v in diffusers_dit().state_dict().items()}
    state["transformer_blocks.1.norm1.emb.class_embedder.embedding_table.weight"] += 1
    save_file(state, tmp_path / "theirs.safetensors")
    with pytest.raises(UserError, match="each block embeds time and class in its own way"):
        converted(tmp_path / "theirs.safetensors", DIT, tmp_path / "ours.safetensors")


@pytest.fixture
def vae(tmp_path):
    """A folder of diffusers' AutoencoderKL, small and random, without a scale."""
    torch.manual_seed(0)
    diffusers.AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4).save_pretrained(
        tmp_path / "vae"
    )
    config = json.loads((tmp_path / "vae" / "config.json").read_text())
    del config["scaling_factor"]
    (tmp_path / "vae" / "config.json").write_text(json.dumps(config))
    return tmp_path / "vae"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A small DiT's YAML and its published file, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    edits = ", ".join(f"{name}: {value}" for name, value in SMALL.items())
    (tmp_path / "small.yaml").write_text(f"base: published/dit_xl_2\nedits: {{{edits}}}\n")
    torch.save(dit_state(), tmp_path / "theirs.pt")
    return ["convert", "small.yaml", "--weights", "theirs.pt", "--to", "dit.safetensors"]


def test_converted_weights_are_sampled_by_their_class(small, vae, tmp_path, capsys):
    decoder = ["autoencoder=kl", f"autoencoder.name={vae}"]
    assert main([*small, *decoder, "--latent-scale", "0.18215"]) == 0
    config, training = read_identity(tmp_path / "dit.safetensors")
    assert config == DIT
    assert training.text["prompts"][:2] == ["tench", "goldfish"]
    assert training.autoencoder["scale"] == [0.18215] * 4
    words = ["dit.safetensors", "--classes", "tench", "999", "--count", "4", *decoder, "out=runs", "recipe.device=cpu"]
    guided = ["sampling.steps=2", "sampling.solver=euler", "sampling.guidance_scale=2", "sampling.rounding=dit"]
    for name in ("a.npz", "b.npz"):
        assert main(["sample", *words, *guided, "--to", name]) == 0
    assert "of no trial: others trained it" in capsys.readouterr().err
    with np.load("a.npz") as images:
        assert images["arr_0"].shape == (4, 16, 16, 3)
        assert images["arr_1"].tolist() == [0, 999, 0, 999]
    assert main(["sample", *words, "sampling.legacy_guided_channels=3", *guided, "--to", "c.npz"]) == 0
    with np.load("a.npz") as one, np.load("c.npz") as other:
        assert not np.array_equal(one["arr_0"], other["arr_0"])


def test_without_the_data_classes_are_asked_for_by_name_or_all_alike(small, vae, tmp_path, capsys):
    decoder = ["autoencoder=kl", f"autoencoder.name={vae}"]
    assert main([*small, *decoder, "--latent-scale", "0.18215"]) == 0
    words = ["sample", "dit.safetensors", *decoder, "out=runs", "recipe.device=cpu", "--to", "a.npz", "--count", "2"]
    assert main(words) == 2
    printed = capsys.readouterr().err
    assert "whose classes are not those of dit.safetensors, which others trained; give sampling.labels=bal" in printed
    assert "trained on" not in printed
    assert main([*words, "sampling.labels=balanced", "sampling.steps=1", "sampling.solver=euler"]) == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "makes latents of 4 channels, which an autoencoder decodes; say which, autoencoder=kl"),
        (["autoencoder=kl", "autoencoder.name=vae"], "is in none of its files; give --latent-scale"),
        (["recipe.steps=3"], "converting depends on autoencoder=... alone, not on recipe.steps"),
        (["--latent-scale", "1"], "makes latents of 4 channels"),
        (["--names", "names.txt"], "names.txt has 2 different names, and the table 1000 classes"),
        (["--names", "none.txt"], "cannot read --names none.txt"),
    ],
)
def test_a_mistake_in_converting_is_one_sentence(words, sentence, small, vae, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    assert main([*small, *words]) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "dit.safetensors").exists()


def test_a_file_in_place_of_ours_is_refused(small, capsys):
    assert main([*small[:-1], "dit.pt"]) == 2
    assert "--to names a .safetensors file, not dit.pt" in capsys.readouterr().err

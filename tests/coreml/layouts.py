"""Small networks of every rung and knob, with random weights everywhere."""

from pathlib import Path

import torch
import yaml
from torch import nn

from harness.architecture.edits import with_edits
from harness.architecture.ladder import Ladder
from harness.models.build import build, example_inputs
from harness.records.plain import from_plain

SWEEP = Path(__file__).parents[2] / "sweeps" / "fig3.yaml"
RUNGS = {
    rung.name: config
    for rung, config in from_plain(Ladder, yaml.safe_load(SWEEP.read_text())["architecture"]).architectures()
}
SMALL = {"stages.2.block.depth": 1, "stages.*.up_blocks": 1, "middle": None}
GQA = {"kind": "gqa", "groups": 2}
SPARSE = {"kind": "assa", "blocks": 4}
KNOBS = {
    "gqa": {"self_attention": GQA, "cross_attention": GQA, "head_dim": 8, "qk_norm": "rms", "position": "rope_2d"},
    "swiglu": {"feed_forward": "swiglu"},
    "gelu": {"feed_forward": "gelu"},
    "map layer norm": {"norm": "layer"},
    "map rms norm": {"norm": "rms"},
    "token rms norm": {"token_norm": "rms"},
    "qk layer norm": {"qk_norm": "layer"},
    "mqa, qk layer norm, rope": {"self_attention": "mqa", "qk_norm": "layer", "position": "rope_2d"},
    "rope alone": {"position": "rope_2d"},
    "transformer with linears": {"stages.0.block": {"kind": "transformer", "depth": 1}},
    "no middle": {"middle": None},
    "sparse": {"stages.1.block.span": SPARSE},
    "sparse, gqa, qk norm, rope": {
        "stages.1.block.span": SPARSE,
        "self_attention": GQA,
        "head_dim": 8,
        "qk_norm": "rms",
        "position": "rope_2d",
    },
    "a ratio a stage": {"feed_forward.ratio": [4, 4, 3, 2]},
    "shuffled": {"upsample": "pixel_shuffle", "downsample": "pixel_unshuffle"},
}


def small(name: str):
    """A rung with one transformer layer a stage: it converts in seconds."""
    return with_edits(RUNGS[name], SMALL)


def random_network(config) -> nn.Module:
    """Every parameter drawn: zero-initialised outputs and unit scales would hide mistakes."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = build(config).double().eval()
        for parameter in network.parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3
            nn.init.normal_(parameter, mean=0.0 if parameter.dim() > 1 else 0.7, std=scale)
    return network


def inputs_of(config, *, batch: int = 2, latent: int | None = None):
    return tuple(x.double() for x in example_inputs(config, latent=latent or config.native_latent or 8, batch=batch))

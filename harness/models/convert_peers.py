"""What DiT, SiT, U-ViT and diffusers' DiT call the tensors of our DiT and U-ViT. They differ in names and in layout:

    facebookresearch/DiT, willisma/SiT (the same names)   positions are stored, which are computed here: held against
                                                           the formula, then left out
    baofff/U-ViT                                           the class's token stands before the time's
    diffusers' DiTTransformer2DModel                       query, key and value apart; time and class embedded once a
                                                           block, which all are copies of one

Which parameters there must be, and of which shapes, `harness.models.weights` checks for every file.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.architecture.config import ArchitectureConfig
from harness.architecture.peers import DiTConfig, UViTConfig
from harness.models.peers.vit import positions_2d
from harness.records.errors import UserError

POSITIONS_WITHIN = 1e-5
"""Of sines and cosines that were stored in float32."""

DIT_NAMES = (
    ("x_embedder.proj", "patches"),
    ("t_embedder.mlp", "time"),
    ("y_embedder.embedding_table.weight", "text.rows"),
    ("blocks.", "block."),
    ("final_layer.adaLN_modulation.1", "modulation_out"),
    ("final_layer.linear", "out"),
    ("adaLN_modulation.1", "modulation"),
    ("attn.qkv", "attention.query_key_value"),
    ("attn.proj", "attention.out"),
    ("mlp.fc1", "feed_forward.expand"),
    ("mlp.fc2", "feed_forward.contract"),
)
UVIT_NAMES = (
    ("patch_embed.proj", "patches"),
    ("label_emb.weight", "text.rows"),
    ("pos_embed", "positions"),
    ("in_blocks.", "down."),
    ("mid_block", "middle"),
    ("out_blocks.", "up."),
    ("skip_linear", "join"),
    ("attn.qkv", "attention.query_key_value"),
    ("attn.proj", "attention.out"),
    ("mlp.fc1", "feed_forward.expand"),
    ("mlp.fc2", "feed_forward.contract"),
    ("decoder_pred", "out"),
    ("final_layer", "conv_out"),
)
DIFFUSERS_DIT_NAMES = (
    ("pos_embed.proj", "patches"),
    ("transformer_blocks.0.norm1.emb.timestep_embedder.linear_1", "time.0"),
    ("transformer_blocks.0.norm1.emb.timestep_embedder.linear_2", "time.2"),
    ("transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight", "text.rows"),
    ("transformer_blocks.", "block."),
    ("norm1.linear", "modulation"),
    ("attn1.to_out.0", "attention.out"),
    ("ff.net.0.proj", "feed_forward.expand"),
    ("ff.net.2", "feed_forward.contract"),
    ("proj_out_1", "modulation_out"),
    ("proj_out_2", "out"),
)


def from_dit(theirs: Mapping[str, Tensor], architecture: ArchitectureConfig) -> dict[str, Tensor]:
    """facebookresearch/DiT's and willisma/SiT's."""
    config = _with_table(architecture, DiTConfig, "DiT")
    _check_positions(theirs.get("pos_embed"), config)
    return {_renamed(name, DIT_NAMES): tensor for name, tensor in theirs.items() if name != "pos_embed"}


def from_uvit(theirs: Mapping[str, Tensor], architecture: ArchitectureConfig) -> dict[str, Tensor]:
    """baofff/U-ViT's, class-conditional."""
    _with_table(architecture, UViTConfig, "U-ViT")
    ours = {_final_norm(_renamed(name, UVIT_NAMES)): tensor for name, tensor in theirs.items()}
    if (positions := ours.get("positions")) is not None and positions.dim() == 3 and positions.shape[1] > 1:
        ours["positions"] = torch.cat([positions[:, 1:2], positions[:, :1], positions[:, 2:]], dim=1)
    return ours


def from_diffusers_dit(theirs: Mapping[str, Tensor], architecture: ArchitectureConfig) -> dict[str, Tensor]:
    """diffusers' DiTTransformer2DModel. It spaces the time's frequencies over n / 2 - 1 steps and not n / 2, by which
    DiT was trained; here they are DiT's."""
    _with_table(architecture, DiTConfig, "DiT")
    _check_copies(theirs)
    ours = {
        _renamed(name, DIFFUSERS_DIT_NAMES): tensor
        for name, tensor in theirs.items()
        if ".norm1.emb." not in name or name.startswith("transformer_blocks.0.")
    }
    for name in [name for name in ours if ".attn1.to_q." in name]:
        parts = [ours.pop(name.replace("to_q", f"to_{part}"), None) for part in "qkv"]
        if any(part is None for part in parts):
            raise UserError(f"the weights lack the key or the value beside '{name}'; fetch them again")
        ours[name.replace("attn1.to_q", "attention.query_key_value")] = torch.cat([p for p in parts if p is not None])
    return ours


def _with_table(architecture: ArchitectureConfig, family: type[Any], name: str) -> Any:
    if not isinstance(architecture, family) or architecture.condition != "class_table":
        has = "takes text" if isinstance(architecture, DiTConfig | UViTConfig) else type(architecture).__name__
        raise UserError(
            f"these are weights of a {name} with a table of classes, and the architecture is none ({has}); name one of "
            "published/, or one with condition=class_table"
        )
    return architecture


def _renamed(name: str, names: Sequence[tuple[str, str]]) -> str:
    for theirs, ours in names:
        name = name.replace(theirs, ours)
    return name


def original(name: str, names: Sequence[tuple[str, str]]) -> str:
    """What a tensor that is called `name` here is called there, as far as that is the renaming's way back: itself
    where it is not."""
    theirs = "norm." + name.removeprefix("norm_out.") if name.startswith("norm_out.") else name
    for there, here in sorted(names, key=lambda pair: -len(pair[1])):  # `attention.out` before `out`
        theirs = re.sub(rf"\b{re.escape(here.rstrip('.'))}\b", there.rstrip("."), theirs)
    return theirs if name in (_renamed(theirs, names), _final_norm(_renamed(theirs, names))) else name


def _final_norm(name: str) -> str:
    """U-ViT's last norm is `norm`, beside `norm1` and `norm2` in its blocks."""
    return name.replace("norm.", "norm_out.", 1) if name.startswith("norm.") else name


def _check_positions(stored: Tensor | None, config: DiTConfig) -> None:
    """Stored positions, (1, h w, D), are the sines and cosines that are computed here."""
    if stored is None:
        raise UserError("'pos_embed' is missing, the positions that DiT's files hold; give a whole state dict")
    side = round(stored.shape[1] ** 0.5) if stored.dim() == 3 else 0
    if tuple(stored.shape) != (1, side**2, config.width):
        raise UserError(f"'pos_embed' is {tuple(stored.shape)}, and (1, patches of a square, {config.width}) is right")
    if not torch.allclose(stored[0].double(), _positions(side, config.width), rtol=0, atol=POSITIONS_WITHIN):
        raise UserError(
            "'pos_embed' are not the sines and cosines of DiT's positions, which are computed here; these weights are "
            "of another network"
        )


def _positions(side: int, width: int) -> Tensor:
    return positions_2d(side, side, width, torch.empty(0, dtype=torch.float64))


def _check_copies(theirs: Mapping[str, Tensor]) -> None:
    """diffusers gives every block its own embedding of time and class; of converted weights all are the first's."""
    for name, tensor in theirs.items():
        if ".norm1.emb." not in name:
            continue
        first = theirs.get(".".join(["transformer_blocks.0", *name.split(".")[2:]]))
        if first is None or not torch.equal(tensor, first):
            raise UserError(
                f"'{name}' is not block 0's: each block embeds time and class in its own way, and DiT has one "
                "embedding for all; these weights are of another network"
            )

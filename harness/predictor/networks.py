"""Networks by name on the meta device, with inputs that fit: the catalogue's, timm's, and the published ones.

snapgen            an architecture of the catalogue, or a YAML file
timm:repvit_m1_0   a timm model, folded into its inference form where it has one
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from harness.architecture.catalogue import architecture
from harness.measure.cost import count
from harness.models.build import build, example_inputs
from harness.predictor.operators import Operators, operators_of
from harness.predictor.published import PublishedRow
from harness.records.errors import UserError
from harness.records.eta import with_eta

TIMM = "timm:"
Network = tuple[nn.Module, tuple[Tensor, ...]]


def catalogue_network(name: str, latent: int, batch: int = 1) -> Network:
    config = architecture(name)
    with torch.device("meta"):
        return build(config), example_inputs(config, latent=latent, batch=batch, device="meta")


def timm_network(name: str, shape: Sequence[int], batch: int = 1, *, folded: bool = True) -> Network:
    """shape: channels, height, width. folded: as it is deployed, with the branches of its training merged."""
    import timm
    from timm.utils.model import reparameterize_model

    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=8, cutoff=0.4)  # of more than a thousand
        nearest = f"; the nearest: {', '.join(near)}" if near else ""
        raise UserError(f"unknown timm model '{name}'{nearest}; timm.list_models() has them all")
    with torch.device("meta"):
        module = timm.create_model(name, pretrained=False).eval()
        if folded:
            module = reparameterize_model(module)
        return module, (torch.empty(batch, *shape),)


def published_network(row: PublishedRow) -> Network:
    """The network behind a row of the published table, at its input and batch."""
    if row.rebuildable == "timm":
        return timm_network(row.model, (3, row.input_px, row.input_px), row.batch, folded=row.folded)
    if row.rebuildable == "catalogue":
        name = "decoder/tiny" if row.family == "decoder" else "snapgen_t2i"
        return catalogue_network(name, row.input_px // 8, row.batch)
    return _stable_diffusion(row)


def counted_networks(rows: Sequence[PublishedRow]) -> dict[str, Operators]:
    """The operator lists of the rows that calibrate, by `PublishedRow.network`; seconds to a minute."""
    networks = {row.network: row for row in rows if row.exclusion is None}
    shown = with_eta(networks.items(), "counting published networks", len(networks))
    return {name: operators_of(count(*published_network(row)).rows) for name, row in shown}


class DiffusersUNet(nn.Module):
    """diffusers' UNet, called with tensors alone: x, time, context, and SDXL's pooled text and sizes."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, time: Tensor, context: Tensor, *added: Tensor) -> Tensor:
        names = ("text_embeds", "time_ids")
        more = {"added_cond_kwargs": dict(zip(names, added, strict=True))} if added else {}
        out: Tensor = self.unet(x, time, context, return_dict=False, **more)[0]
        return out


# unet/config.json of stabilityai's stable-diffusion-2-1-base and stable-diffusion-xl-base-1.0.
SD21: dict[str, Any] = {
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
SDXL: dict[str, Any] = {
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
TOKENS = 77


def _stable_diffusion(row: PublishedRow) -> Network:
    from diffusers import UNet2DConditionModel

    is_xl, side = row.model.startswith("SDXL"), row.input_px // 8
    config = SDXL if is_xl else SD21
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(sample_size=side, **config)  # type: ignore[no-untyped-call]
        module = DiffusersUNet(unet).eval()
        context = torch.empty(row.batch, TOKENS, config["cross_attention_dim"])
        added = (torch.empty(row.batch, 1280), torch.empty(row.batch, 6)) if is_xl else ()
        return module, (torch.empty(row.batch, 4, side, side), torch.empty(row.batch), context, *added)

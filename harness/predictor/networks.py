"""Networks by name on the meta device, with inputs that fit: the catalogue's, timm's, and the published ones.

snapgen            an architecture of the catalogue, or a YAML file
timm:repvit_m1_0   a timm model, folded into its inference form where it has one
diffusers:sdxl     a UNet of Stable Diffusion: sd1.5, sd2.1, sdxl
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from harness.architecture.catalogue import architecture
from harness.measure.cost import count
from harness.models.build import build, example_inputs
from harness.predictor.operators import Operators, operators_of
from harness.predictor.published import PublishedRow
from harness.predictor.rebuilt import Network, described_network
from harness.records.errors import UserError, unknown_name
from harness.records.eta import with_eta

TIMM, DIFFUSERS = "timm:", "diffusers:"


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
    side = row.input_px or 0
    if row.rebuildable == "timm":
        return timm_network(row.model, (3, side, side), row.batch, folded=row.folded)
    if row.rebuildable == "catalogue":
        name = "decoder/tiny" if row.family == "decoder" else "snapgen_t2i"
        return catalogue_network(name, side // 8, row.batch)
    if row.rebuildable == "diffusers":
        return diffusers_network(OF_ROWS[row.model.partition(" UNet")[0]], side // 8, row.batch)
    return described_network(row.model, side)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffusersKind:
    """A UNet of Stable Diffusion by its settings: those of the unet/config.json beside its weights."""

    settings: Mapping[str, Any]
    latent: int  # its own
    source: str
    added: tuple[int, ...] = ()  # widths of SDXL's pooled text and sizes


DIFFUSERS_UNETS: Mapping[str, DiffusersKind] = {
    "sd1.5": DiffusersKind(
        settings={"attention_head_dim": 8, "cross_attention_dim": 768}, latent=64, source="stable-diffusion-v1-5"
    ),
    "sd2.1": DiffusersKind(
        settings={
            "attention_head_dim": (5, 10, 20, 20),  # diffusers' name for the number of heads
            "cross_attention_dim": 1024,
            "use_linear_projection": True,
        },
        latent=64,
        source="stabilityai/stable-diffusion-2-1-base",
    ),
    "sdxl": DiffusersKind(
        settings={
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
        },
        latent=128,
        source="stabilityai/stable-diffusion-xl-base-1.0",
        added=(1280, 6),
    ),
}
OF_ROWS = {"SD 1": "sd1.5", "SD 2.1-base": "sd2.1", "SDXL": "sdxl"}
"""What published.csv calls them before " UNet"; all of version 1 have one UNet."""
TOKENS = 77


def diffusers_network(name: str, latent: int | None = None, batch: int = 1) -> Network:
    """latent: its side; the UNet's own by default."""
    from diffusers import UNet2DConditionModel

    if name not in DIFFUSERS_UNETS:
        raise unknown_name("UNet of Stable Diffusion", name, DIFFUSERS_UNETS)
    kind = DIFFUSERS_UNETS[name]
    side = latent or kind.latent
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(sample_size=side, **kind.settings)  # type: ignore[no-untyped-call]
        context = torch.empty(batch, TOKENS, kind.settings["cross_attention_dim"])
        added = (torch.empty(batch, width) for width in kind.added)
        inputs = (torch.empty(batch, 4, side, side), torch.empty(batch), context, *added)
        return DiffusersUNet(unet).eval(), inputs

"""flops_fvcore is fvcore's own total to the unit; macs are half of what torch's FlopCounterMode counts."""

import logging

import pytest
import torch
import torchvision
from diffusers import AutoencoderKL, DiTTransformer2DModel, UNet2DConditionModel
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from harness.architecture.catalogue import architecture, catalogue_names
from harness.measure import cost_formulas
from harness.measure.cost import count
from harness.models.build import build, example_inputs

logging.getLogger("fvcore").setLevel(logging.ERROR)


class Written(nn.Module):
    """Operators that come in pairs of fused and written out, and what fvcore makes of each."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8))
        self.same = nn.Conv2d(4, 8, 3, padding="same")
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm, self.plain = nn.LayerNorm(8), nn.LayerNorm(8, elementwise_affine=False)

    def forward(self, x):
        x = F.instance_norm(F.interpolate(self.same(x), scale_factor=2, mode="bilinear"))
        x = F.adaptive_avg_pool2d(F.group_norm(x, 2), 6).flatten(2).transpose(1, 2)
        x = self.norm(x) + self.plain(x) + F.rms_norm(x, (8,)) + x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        x = x @ self.weight + torch.addmm(x[0], x[0], self.weight) + torch.baddbmm(x, x, self.weight.expand(2, 8, 8))
        heads = x.unflatten(-1, (2, 4)).transpose(1, 2)
        x = x + (heads @ heads[:, :1].transpose(-1, -2)).softmax(-1).mean(1) @ x
        scores = torch.einsum("bic,bjc->bij", x, x) + torch.einsum("bhic,bhjc->bij", heads, heads)
        return self.attention(x, x, x)[0] + scores @ torch.einsum("btc->btc", x)


def unet() -> tuple[nn.Module, tuple]:
    net = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        transformer_layers_per_block=(1, 2),
        attention_head_dim=4,
        cross_attention_dim=24,
        norm_num_groups=8,
        use_linear_projection=True,
    )
    return net, (torch.randn(2, 4, 16, 16), torch.rand(2), torch.randn(2, 5, 24))


def decoder() -> tuple[nn.Module, tuple]:
    net = AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=2,
        norm_num_groups=8,
    )
    return net.decoder, (torch.randn(1, 4, 16, 16),)


def dit() -> tuple[nn.Module, tuple]:
    net = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, num_layers=2, sample_size=8, norm_num_groups=8
    )
    return net, (torch.randn(1, 4, 8, 8), torch.rand(1), torch.zeros(1, dtype=torch.long))


def vit() -> tuple[nn.Module, tuple]:
    net = torchvision.models.VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32)
    return net, (torch.randn(2, 3, 32, 32),)


def from_torchvision(name: str, training: bool):
    net = torchvision.models.get_model(name, weights=None)
    return lambda: (net.train(training), (torch.randn(2, 3, 64, 64),))


MODELS = {
    "written": lambda: (Written(), (torch.randn(2, 4, 8, 8),)),
    "diffusers_unet": unet,
    "diffusers_decoder": decoder,
    "diffusers_dit": dit,
    "vit": vit,
    "resnet18": from_torchvision("resnet18", training=False),
    "resnet18_training": from_torchvision("resnet18", training=True),
    "mobilenet_v3_small": from_torchvision("mobilenet_v3_small", training=False),
    "efficientnet_b0": from_torchvision("efficientnet_b0", training=True),
    "convnext_tiny": from_torchvision("convnext_tiny", training=False),
}


def laptop(name: str) -> tuple[nn.Module, tuple]:
    config = architecture(name)
    return build(config), example_inputs(config, latent=config.latent_multiple * 4)


MODELS |= {name: (lambda name=name: laptop(name)) for name in catalogue_names() if name.startswith("laptop/")}


def fvcore_total(net: nn.Module, inputs: tuple) -> float:
    return FlopCountAnalysis(net, inputs).uncalled_modules_warnings(False).total()


@pytest.mark.parametrize("model", MODELS)
def test_flops_fvcore_is_fvcores_total_to_the_unit(model):
    net, inputs = MODELS[model]()
    assert count(net, inputs).flops_fvcore == fvcore_total(net, inputs)


@pytest.mark.parametrize("model", sorted(MODELS.keys() - {"written"}))  # einsum there is two-step in torch
def test_macs_are_half_of_torchs_flops(model):
    net, inputs = MODELS[model]()
    net, inputs = net.to("meta"), tuple(x.to("meta") for x in inputs)
    with torch.no_grad(), FlopCounterMode(display=False) as torchs:
        net(*inputs)
    assert 2 * count(net, inputs).macs == torchs.get_total_flops()


def test_places_are_fvcores_modules():
    net, inputs = unet()
    theirs = FlopCountAnalysis(net, inputs).uncalled_modules_warnings(False).by_module()
    ours = {place: tally.flops_fvcore for place, tally in count(net, inputs).by_place(2).items()}
    assert {place: flops for place, flops in ours.items() if place.count(".") == 1 and flops} == {
        place: flops for place, flops in theirs.items() if place.count(".") == 1 and flops
    }


@pytest.mark.parametrize("operator", ["group_norm", "conv2d", "upsample_nearest2d"])
def test_the_comparison_sees_a_wrong_formula(operator, monkeypatch):
    monkeypatch.setitem(
        cost_formulas.FORMULAS,
        operator,
        lambda call, right=cost_formulas.FORMULAS[operator]: right(call)._replace(flops_fvcore=0),
    )
    net, inputs = unet()
    assert count(net, inputs).flops_fvcore != fvcore_total(net, inputs)

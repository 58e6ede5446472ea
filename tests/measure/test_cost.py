"""Counts against arithmetic and published numbers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.measure import cost_formulas
from harness.measure.cost import Cost, count, quantities
from harness.records.errors import UserError

MACS_ONLY = {"conv2d", "linear", "matmul", "scaled_dot_product_attention"}


class Apply(nn.Module):
    """A module whose forward is a function of its inputs and, where given, a weight."""

    def __init__(self, function, *weight_shape: int) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.empty(weight_shape, device="meta")) if weight_shape else None

    def forward(self, *inputs):
        return self.function(*inputs) if self.weight is None else self.function(*inputs, self.weight)


def on_meta(*shapes: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.empty(shape, device="meta") for shape in shapes)


def cost_of_function(function, *shapes: tuple[int, ...], weight: tuple[int, ...] = ()) -> Cost:
    return count(Apply(function, *weight), on_meta(*shapes))


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Linear(6, 10), (2, 7, 6), 2 * 7 * 6 * 10),
        (nn.Linear(6, 10, bias=False), (6,), 6 * 10),
        (nn.Conv2d(3, 8, 3, padding=1), (2, 3, 5, 4), 2 * 5 * 4 * 8 * 3 * 9),
        (nn.Conv2d(3, 8, 3, padding="same"), (2, 3, 5, 4), 2 * 5 * 4 * 8 * 3 * 9),
        (nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), (1, 8, 8, 8), 4 * 4 * 8 * 9),
        (nn.Conv2d(8, 4, 1, groups=2), (1, 8, 3, 3), 9 * 4 * 4),
        (nn.Conv1d(4, 6, 5), (3, 4, 9), 3 * 5 * 6 * 4 * 5),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 5, 5), 25 * 4 * 6 * 4),
        (nn.Conv2d(3, 8, 3), (3, 5, 5), 9 * 8 * 3 * 9),
        (nn.GroupNorm(2, 8), (1, 8, 4, 4), 0),
        (nn.Upsample(scale_factor=2), (1, 8, 4, 4), 0),
        (nn.Sequential(nn.SiLU(), nn.Dropout(), nn.Softmax(-1), nn.RMSNorm(4)), (2, 4), 0),
    ],
    ids=repr,
)
def test_macs_of_a_layer_are_its_arithmetic(layer, shape, macs):
    cost = count(layer, on_meta(shape))
    assert cost.macs == cost.macs_without_attention == macs
    assert cost.params == sum(p.numel() for p in layer.parameters())


def test_attention_is_two_matmuls_a_head_and_fvcore_leaves_it_out():
    b, heads, t, s, d, e = 2, 3, 5, 7, 4, 6
    cost = cost_of_function(F.scaled_dot_product_attention, (b, heads, t, d), (b, heads, s, d), (b, heads, s, e))
    assert cost.macs == b * heads * (t * s * d + t * s * e)
    assert cost.macs_without_attention == cost.flops_fvcore == 0


def test_shared_keys_cost_as_many_multiply_adds_as_own_ones():
    fused = cost_of_function(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        (1, 8, 5, 4),
        (1, 2, 7, 4),
        (1, 2, 7, 4),
    )
    broadcast = cost_of_function(
        lambda q, k, v: (q @ k.transpose(-1, -2)).softmax(-1) @ v, (1, 8, 5, 4), (1, 1, 7, 4), (1, 1, 7, 4)
    )
    assert fused.macs == broadcast.macs == 2 * 8 * 5 * 7 * 4
    assert broadcast.macs_without_attention == 0


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: x @ w,
        lambda x, w: torch.einsum("btc,cd->btd", x, w),
        lambda x, w: x @ w.t().t(),
        lambda x, w: torch.addmm(x[0, :, :4], x[0], w),
    ],
)
def test_a_matmul_with_a_parameter_is_a_linear_layer_not_attention(function):
    cost = cost_of_function(function, (1, 5, 6), weight=(6, 4))
    assert cost.macs == cost.macs_without_attention == 5 * 6 * 4


@pytest.mark.parametrize("function", [torch.bmm, torch.matmul, lambda a, b: torch.einsum("bij,bjk->bik", a, b)])
def test_a_matmul_of_two_activations_is_attention(function):
    cost = cost_of_function(function, (2, 5, 6), (2, 6, 4))
    assert (cost.macs, cost.macs_without_attention) == (2 * 5 * 6 * 4, 0)


def test_an_unknown_operator_is_an_error_that_says_what_to_do():
    with pytest.raises(UserError, match=r"'cdist' has no cost formula; add one with @formula\(\"cdist\"\)"):
        cost_of_function(torch.cdist, (3, 4), (5, 4))


def test_an_operator_is_added_by_one_registration(monkeypatch):
    monkeypatch.setattr(cost_formulas, "FORMULAS", dict(cost_formulas.FORMULAS))

    @cost_formulas.formula("cdist")
    def cdist(call: cost_formulas.Call) -> cost_formulas.OpCost:
        return cost_formulas.OpCost(macs=call.out.numel() * call.args[0].shape[-1])

    assert cost_of_function(torch.cdist, (3, 4), (5, 4)).macs == 3 * 5 * 4


def test_no_operator_is_in_both_tables():
    assert not cost_formulas.ZERO_COST & cost_formulas.FORMULAS.keys()


def small_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU(), nn.Sequential(nn.Conv2d(8, 8, 1), nn.Dropout(0.5))
    )


def test_places_and_operators_both_sum_to_the_total():
    cost = count(small_net(), on_meta((1, 3, 8, 8)))
    for sums in (cost.by_place(), cost.by_place(1), cost.by_operator()):
        assert sum(t.macs for t in sums.values()) == cost.macs
        assert sum(t.macs_without_attention for t in sums.values()) == cost.macs_without_attention
        assert sum(t.flops_fvcore for t in sums.values()) == cost.flops_fvcore
    for depth in (None, 1, 0):
        assert sum(t.params for t in cost.by_place(depth).values()) == cost.params
    assert cost.by_place()["3.0"].macs == cost.by_place(1)["3"].macs == 64 * 64
    assert list(cost.by_place(0)) == [""]


def test_a_shared_layer_counts_its_parameters_once_and_its_work_each_time():
    shared = nn.Linear(4, 4, bias=False)
    cost = count(nn.Sequential(shared, nn.ReLU(), shared), on_meta((1, 4)))
    assert (cost.params, cost.macs) == (16, 32)


def test_the_device_of_the_module_does_not_matter_and_the_module_stays_as_it_was():
    real = small_net().train()
    parameters, running_mean = list(real.parameters()), real[1].running_mean.clone()
    with torch.device("meta"):
        bare = small_net().train()
    inputs = (torch.ones(2, 3, 8, 8),)
    assert count(real, inputs).rows == count(bare, on_meta((2, 3, 8, 8))).rows
    assert all(a is b and a.device.type == "cpu" for a, b in zip(real.parameters(), parameters, strict=True))
    assert torch.equal(real[1].running_mean, running_mean)
    assert all(part.training and "forward" not in vars(part) for part in real.modules())


def test_a_failing_forward_leaves_the_module_as_it_was():
    net = small_net()
    with pytest.raises(RuntimeError):
        count(net, on_meta((1, 5, 8, 8)))
    assert all("forward" not in vars(part) for part in net.modules())


def test_nothing_is_allocated():
    """A layer of 4 TB on an input of 4 GB."""
    with torch.device("meta"):
        layer = nn.Linear(10**6, 10**6, bias=False)
    assert count(layer, on_meta((1000, 10**6))).macs == 10**15


def test_quantities_carry_what_they_depend_on():
    cost = count(small_net(), on_meta((1, 3, 8, 8)))
    counted = quantities(cost, latent=8, context_length=77)
    assert set(counted) == {"params", "macs", "macs_without_attention", "flops_fvcore"}
    assert {name: q.value for name, q in counted.items()} == {name: getattr(cost, name) for name in counted}
    assert counted["macs"].conditions == {"latent": 8, "context_length": 77, "batch": 1}


def test_sdxl_decoder_is_the_published_one_to_the_digit():
    """49.49 M and 4970 G (Hu et al. 2024, Tab. 2): fvcore's rule, attention left out."""
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        decoder = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
        ).decoder
    cost = count(decoder, on_meta((1, 4, 128, 128)))
    assert (round(cost.params / 1e6, 2), round(cost.flops_fvcore / 1e9, 1)) == (49.49, 4969.9)
    # One head of 512 channels over 128 * 128 tokens.
    assert cost.macs - cost.macs_without_attention == 2 * 512 * (128 * 128) ** 2
    assert round(cost.macs / 1e9) == 5235


def test_dit_xl_2_has_its_published_multiply_adds():
    """119 G at the 32x32 latent (Peebles and Xie 2023, Tab. 4): multiply-adds, with attention."""
    from diffusers import DiTTransformer2DModel

    with torch.device("meta"):
        dit = DiTTransformer2DModel(
            num_attention_heads=16, attention_head_dim=72, in_channels=4, out_channels=8, num_layers=28, sample_size=32
        )
    inputs = (*on_meta((1, 4, 32, 32), (1,)), torch.empty(1, dtype=torch.long, device="meta"))
    assert round(count(dit, inputs).macs / 1e9, 2) == 118.67


def test_sdxl_unet_has_its_published_size():
    """2.6 B (Podell et al. 2023, Tab. 1); 2562.2 M without the added size embedding."""
    from harness.architecture.catalogue import architecture
    from harness.models.build import build, example_inputs

    config = architecture("sdxl")
    with torch.device("meta"):
        net = build(config)
    cost = count(net, example_inputs(config, latent=128, device="meta"))
    assert round(cost.params / 1e6, 1) == 2562.2
    assert {operator for operator, tally in cost.by_operator().items() if tally.macs} <= MACS_ONLY


@pytest.mark.parametrize(
    ("function", "written"),
    [
        (lambda x: F.silu(x), 24),
        (lambda x: F.silu(x, inplace=True), 0),
        (lambda x: x.view(4, 6).t().unsqueeze(0)[:, :2], 0),
        (lambda x: x.transpose(0, 1).contiguous(), 24),
        (lambda x: torch.cat([x, x]) + 1, 48 + 48),
        (lambda x: x.chunk(2, dim=-1)[0] * 2, 12),
        (lambda x: F.softmax(x @ x.transpose(1, 2), -1), 2 * 2 * 3 * 3),
    ],
)
def test_activations_are_what_is_written_and_views_are_not(function, written):
    assert cost_of_function(function, (2, 3, 4)).activations == written

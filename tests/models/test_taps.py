"""A network's features by their place: the same however it is run, and gradients go through them."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.models.build import build, example_inputs
from harness.models.parameters import filled_copy
from harness.models.taps import Tap, taps_of
from harness.training import device as devices
from harness.training.device import compile_blocks
from harness.training.parallel import wrapped
from harness.training.parallel_config import DdpParallel, FsdpParallel

TINY = {"stages.*.channels": 16, "stages.*.up_blocks": 1, "stages.2.block.depth": 1, "head_dim": 8, "time_width": 16}
UNET = with_edits(architecture("laptop/thin_sdxl"), TINY)
DIT, UVIT = (
    with_edits(architecture(f"laptop/{name}"), {"depth": 2, "width": 16, "heads": 2}) for name in ("dit", "uvit")
)
LDM = with_edits(architecture("ldm_4"), {"channels": [32, 64], "attention": [False, True], "heads": 2})
LAST = "up.1.attention.0"
FAMILIES = {"unet": UNET, "dit": DIT, "uvit": UVIT}


def network_of(config, **how):
    torch.manual_seed(0)
    return filled_copy(build(config, **how)).train()


def pass_over(network, config, place, called=None):
    """(feature, gradients of the network by a loss of the feature and the output)."""
    tap, inputs = Tap(network, place), example_inputs(config, latent=8, batch=2)
    with tap.open():
        out = (called or network)(*inputs)
    feature = tap.take(inputs[0])
    (out.square().mean() + feature.square().mean()).backward()
    gradients = {name: each.grad for name, each in network.named_parameters() if each.grad is not None}
    return feature.detach(), gradients


def test_places_are_the_transformers_in_forward_order_with_their_channels():
    config = architecture("laptop/thin_sdxl")
    assert list(taps_of(config).items()) == [
        ("down.1.attention.0", 32), ("down.2.attention.0", 48), ("middle.attention.0", 48), ("up.2.attention.0", 48),
        ("up.2.attention.1", 48), ("up.1.attention.0", 32), ("up.1.attention.1", 32),
    ]  # fmt: skip
    assert taps_of(DIT) == {"block.0": 16, "block.1": 16}
    assert list(taps_of(UVIT)) == ["down.0", "middle", "up.0"]
    assert list(taps_of(LDM).items())[-1] == ("unet.up_blocks.0.attentions.2", 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_feature_is_a_map_of_what_the_module_gave(family):
    config = FAMILIES[family]
    network = network_of(config)
    for place, channels in taps_of(config).items():
        given = []
        handle = network.get_submodule(place).register_forward_hook(lambda _m, _i, out, to=given: to.append(out))
        feature, _ = pass_over(network, config, place)
        handle.remove()
        assert feature.shape[:2] == (2, channels)
        rows, columns = feature.shape[2:]
        pixel = feature[1, :, rows - 1, 0]
        whole = given[0]
        if whole.ndim == 3:
            assert (rows, columns) == (8 // config.patch_size, 8 // config.patch_size)
            assert torch.equal(pixel, whole[1, whole.shape[1] - columns])
        else:
            assert torch.equal(pixel, whole[1, :, rows - 1, 0])


def test_it_keeps_while_it_is_open_and_gives_once():
    network, inputs = network_of(UNET), example_inputs(UNET, latent=8)
    tap = Tap(network, LAST)
    network(*inputs)
    with pytest.raises(RuntimeError, match="did not run"):
        tap.take(inputs[0])
    with tap.open():
        network(*inputs)
    tap.take(inputs[0])
    with pytest.raises(RuntimeError, match="did not run"):
        tap.take(inputs[0])


def test_blocks_that_are_computed_again_give_the_same_gradients():
    plain, again = network_of(UNET), network_of(UNET, checkpointing=True)
    assert_alike(pass_over(plain, UNET, LAST), pass_over(again, UNET, LAST))


def test_compiled_blocks_are_tapped_too(monkeypatch):
    """By the compiler's front end, of DiT, whose tapped blocks are the compiled ones; what it made of the first pass
    taps the second, of other numbers, too."""
    monkeypatch.setattr(devices, "COMPILER", "aot_eager")
    torch.compiler.reset()
    config, place = DIT, "block.1"
    plain, compiled = network_of(config), network_of(config)
    compile_blocks(compiled)
    expected, found = Tap(plain, place), Tap(compiled, place)
    x, *condition = example_inputs(config, latent=8, batch=2)
    for given in (x, 2 * x, x):
        results = []
        for network, tap in ((plain, expected), (compiled, found)):
            network.zero_grad()
            with tap.open():
                network(given, *condition)
            feature = tap.take(given)
            feature.square().mean().backward()
            gradients = {name: each.grad for name, each in network.named_parameters() if each.grad is not None}
            results.append((feature.detach(), gradients))
        assert_alike(*results)
    torch.compiler.reset()


@pytest.mark.parametrize("config", [DdpParallel(), FsdpParallel()], ids=["ddp", "fsdp"])
def test_it_is_tapped_inside_ddp_and_fsdp(config):
    """Of one process; `tests/training/test_parallel.py` has two."""
    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        plain, shared = network_of(UNET), network_of(UNET)
        called = wrapped(shared, config)
        found = pass_over(shared if called is shared else called.module, UNET, LAST, called)
        whole = {name: each.full_tensor() if hasattr(each, "full_tensor") else each for name, each in found[1].items()}
        assert_alike(pass_over(plain, UNET, LAST), (found[0], whole))
    finally:
        dist.destroy_process_group()


def assert_alike(expected, found):
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-6)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_of_a_wrapped_network_the_inner_ones_place_is_meant():
    inner = nn.Sequential(nn.Conv2d(1, 2, 1))
    outer = nn.Module()
    outer.module = inner
    tap = Tap(outer, "0")
    with tap.open():
        inner(torch.ones(1, 1, 2, 2))
    assert tap.take(torch.ones(1, 1, 2, 2)).shape == (1, 2, 2, 2)

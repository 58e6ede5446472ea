"""Decoding in tiles: the whole picture where the decoder sees no further than what is left out of a tile, and only
there; and what a setting of it is part of."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.measure.reconstruction import tiled_psnr
from harness.models.autoencoder_config import Tiles
from harness.models.build import build
from harness.models.tiling import decode_in_tiles
from harness.records.errors import UserError

NO_NORM = {"stages.*.norm": False, "norm_out": False, "norm": "group", "norm.groups": 4}
PLAIN = with_edits(
    architecture("laptop/decoder"),
    {"stages.*.channels": 8, "stages.*.blocks": 1, "middle": None, **NO_NORM},
)  # fmt: skip
MIDDLE = {"blocks": 1, "attention": False, "norm": False}
FORMS = {
    "no middle": {},
    "pixel shuffle": {"upsample": "pixel_shuffle"},
    "middle, separable": {"middle": MIDDLE, "convolution": {"kind": "separable"}},
    "a norm of each pixel": {"stages.*.norm": True, "norm": "layer"},
}


def decoder(**edits):
    torch.manual_seed(0)
    config = with_edits(PLAIN, edits)
    return config, build(config).eval().requires_grad_(False)


def latents(height=24, width=24):
    return torch.randn(1, 8, height, width, generator=torch.Generator().manual_seed(1))


def exact_tiles(reach):
    return Tiles(side=2 * reach + 4, overlap=2 * reach + 2, blend=2)


@pytest.mark.parametrize("form", FORMS)
def test_tiles_are_the_whole_where_a_decoder_sees_no_further_than_what_is_left_out(form):
    config, network = decoder(**FORMS[form])
    assert config.sees_all == ()
    seen, tiles = latents(31, 24), exact_tiles(config.reach)
    assert tiles.side < 24
    assert tiled_psnr(decode_in_tiles(network, tiles, seen), network(seen)) > 120


@pytest.mark.parametrize("form", FORMS)
def test_a_decoders_reach_is_what_it_sees(form):
    config, network = decoder(**FORMS[form])
    seen, middle = latents(33, 33).requires_grad_(), 16
    f, reached = config.upsampling, 0
    picture = network(seen)
    for y, x in ((0, 0), (f - 1, f - 1), (1, f - 2)):
        (gradient,) = torch.autograd.grad(picture[..., f * middle + y, f * middle + x].sum(), seen, retain_graph=True)
        cells = gradient.abs().sum((0, 1)).nonzero() - middle
        reached = max(reached, int(cells.abs().max()))
    assert reached == config.reach


def test_less_left_out_shows():
    config, network = decoder()
    by_overlap = []
    for overlap in (0, 4, 8, 2 * config.reach):
        tiles, seen = Tiles(side=16, overlap=overlap, blend=0), latents(16, 32 - overlap)  # two tiles share just that
        by_overlap.append(tiled_psnr(decode_in_tiles(network, tiles, seen), network(seen)))
    assert by_overlap == sorted(by_overlap)
    assert by_overlap[0] < 60 < 120 < by_overlap[-1]


@pytest.mark.parametrize(
    ("edits", "named"),
    [
        ({"norm_out": True}, ("group norm",)),
        ({"stages.0.norm": True}, ("group norm",)),
        ({"middle": MIDDLE | {"attention": True}}, ("attention", "group norm")),
    ],
)
def test_what_sees_the_whole_latent_is_told_and_shows(edits, named):
    config, network = decoder(**edits)
    assert config.sees_all == named
    seen = latents() * torch.linspace(0.2, 2, 24)  # other statistics here than there
    assert tiled_psnr(decode_in_tiles(network, exact_tiles(config.reach), seen), network(seen)) < 80


@pytest.mark.parametrize("size", [(7, 7), (16, 16), (17, 40), (23, 9), (64, 33)])
@pytest.mark.parametrize("tiles", [(8, 0, 0), (8, 4, 4), (9, 7, 3), (16, 5, 0), (3, 2, 2)])
def test_every_pixel_is_there_once(size, tiles):
    """Whatever is cut: a decoder that sees a cell alone makes the same of each."""
    side, overlap, blend = tiles
    seen = torch.rand(2, 3, *size, dtype=torch.float64)
    double = partial(F.interpolate, scale_factor=2.0, mode="nearest")
    torch.testing.assert_close(
        decode_in_tiles(double, Tiles(side=side, overlap=overlap, blend=blend), seen), double(seen)
    )


def test_no_more_than_a_tile_is_decoded_at_once():
    sizes = []

    def decode(part):
        sizes.append(tuple(part.shape[2:]))
        return part

    decode_in_tiles(decode, Tiles(side=8, overlap=4, blend=2), torch.zeros(1, 1, 20, 6))
    assert sizes == [(8, 6)] * 4


@pytest.mark.parametrize("values", [(4, 4, 0), (8, 2, 3), (8, -1, 0), (8, 2, -1)])
def test_tiles_that_cannot_be_are_refused(values):
    side, overlap, blend = values
    with pytest.raises(UserError, match="0 <= blend <= overlap < side, not"):
        Tiles(side=side, overlap=overlap, blend=blend)

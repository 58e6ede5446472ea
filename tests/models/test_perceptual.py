"""How unlike two pictures look, against torchvision's VGG16 and the formula, and against the package's own code."""

import sys
from functools import partial
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.vgg import cfgs, make_layers

from harness.models.perceptual import SCALE, SHIFT, _unit, check_perceptual, load_perceptual
from harness.models.perceptual_config import Lpips, StLpips, perceptual_identity, perceptual_name, smallest_side
from harness.records.errors import UserError

CPU = torch.device("cpu")
HAS_ST_LPIPS = find_spec("stlpips_pytorch") is not None
BEHIND = (3, 8, 15, 22, 29)
"""Of torchvision's layers, the ReLUs whose features are compared."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Trunk and heads with random weights, as torchvision and lpips store them; and the trunk."""
    folder = tmp_path_factory.mktemp("lpips")
    torch.manual_seed(0)
    trunk = make_layers(cfgs["D"]).eval()
    torch.save({f"features.{name}": tensor for name, tensor in trunk.state_dict().items()}, folder / "trunk.pth")
    heads = {f"lin{depth}.model.1.weight": torch.rand(1, width, 1, 1)
             for depth, width in enumerate((64, 128, 256, 512, 512))}  # fmt: skip
    torch.save(heads, folder / "heads.pth")
    return Lpips(trunk=folder / "trunk.pth", heads=folder / "heads.pth"), trunk, list(heads.values())


def written_out(trunk, heads, x, y):
    shift, scale = (torch.tensor(each).view(1, 3, 1, 1) for each in (SHIFT, SCALE))
    total, maps = 0.0, [(each - shift) / scale for each in (x, y)]
    for number, layer in enumerate(trunk[: BEHIND[-1] + 1]):
        maps = [layer(each) for each in maps]
        if number in BEHIND:
            units = [each / (each.square().sum(1, keepdim=True).sqrt() + 1e-10) for each in maps]
            total = total + F.conv2d((units[0] - units[1]) ** 2, heads[BEHIND.index(number)]).mean((1, 2, 3))
    return total


def pictures(side, seed):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@torch.no_grad()
def test_lpips_is_torchvisions_features_and_the_formula(files):
    config, trunk, heads = files
    x, y = pictures(20, 0), pictures(20, 1)
    distance = load_perceptual(config, CPU)
    torch.testing.assert_close(distance(x, y), written_out(trunk, heads, x, y))
    assert torch.equal(distance(x, x), torch.zeros(2))
    grey = x[:, :1]
    torch.testing.assert_close(distance(grey, y), distance(grey.expand(-1, 3, -1, -1), y))


def test_gradients_go_to_the_first_alone_and_are_numbers_where_nothing_is_felt(files):
    distance = load_perceptual(files[0], CPU)
    x, y = pictures(16, 0).requires_grad_(), pictures(16, 1).requires_grad_()
    distance(x, y).sum().backward()
    assert float(x.grad.abs().sum()) > 0
    assert y.grad is None
    dead = torch.zeros(1, 4, 2, 2, requires_grad=True)
    _unit(dead).square().sum().backward()
    assert torch.equal(dead.grad, torch.zeros_like(dead))


def test_other_weights_have_another_name_and_identity(files, tmp_path):
    config = files[0]
    assert perceptual_name(config).startswith("LPIPS-VGG with other weights (")
    assert perceptual_name(StLpips()) == "ST-LPIPS-VGG"
    moved = Lpips(trunk=tmp_path / "elsewhere.pth", heads=config.heads)
    moved.trunk.write_bytes(config.trunk.read_bytes())
    assert perceptual_identity(moved) == perceptual_identity(config)
    heads = torch.load(config.heads, weights_only=True)
    torch.save({name: 2 * tensor for name, tensor in heads.items()}, tmp_path / "heads.pth")
    assert perceptual_identity(Lpips(trunk=config.trunk, heads=tmp_path / "heads.pth")) != perceptual_identity(config)


def test_files_that_are_missing_or_of_another_network_are_a_sentence(files, tmp_path):
    with pytest.raises(UserError, match=r"lpips needs torchvision's vgg16-397923af\.pth, and it is not named; give"):
        check_perceptual(Lpips())
    with pytest.raises(UserError, match=r"of the package lpips, and .* is no file; give its path as perceptual.heads"):
        check_perceptual(Lpips(trunk=files[0].trunk, heads=tmp_path / "none.pth"))
    other = tmp_path / "wider.pth"
    tensors = torch.load(files[0].trunk, weights_only=True)
    torch.save({**tensors, "features.2.weight": torch.zeros(64, 32, 3, 3)}, other)
    for trunk in (files[0].heads, other):
        for refuse in (check_perceptual, partial(load_perceptual, device=CPU)):
            with pytest.raises(UserError, match="no VGG16 with heads of LPIPS"):
                refuse(Lpips(trunk=trunk, heads=files[0].heads))


@pytest.mark.parametrize("is_of_files", [True, pytest.param(False, marks=pytest.mark.skipif(
    not HAS_ST_LPIPS, reason="needs the package stlpips-pytorch"))])  # fmt: skip
def test_the_smallest_picture_is_one_that_it_takes(files, is_of_files):
    config = files[0] if is_of_files else StLpips()
    side, distance = smallest_side(config), load_perceptual(config, CPU)
    assert bool(torch.isfinite(distance(pictures(side, 0), pictures(side, 1))).all())
    with pytest.raises(RuntimeError):
        distance(pictures(side - 1, 0), pictures(side - 1, 1))


@pytest.mark.skipif(not HAS_ST_LPIPS, reason="needs the package stlpips-pytorch")
@torch.no_grad()
def test_st_lpips_is_what_the_packages_own_code_computes():
    """Numbers of its stlpips.LPIPS(net="vgg", variant="shift_tolerant"), computed once."""
    distance, ramp = load_perceptual(StLpips(), CPU), torch.linspace(-1, 1, 32)
    columns, rows = (ramp.view(shape).expand(1, 3, 32, 32) for shape in ((1, 1, 1, -1), (1, 1, -1, 1)))
    assert float(distance(columns, rows)) == pytest.approx(0.158715, abs=2e-6)
    torch.testing.assert_close(distance(pictures(18, 0), pictures(18, 1)), torch.tensor([0.0700861, 0.0773043]))


def test_without_its_package_it_is_a_sentence(monkeypatch):
    monkeypatch.setattr("harness.models.weights.find_spec", lambda _: None)
    with pytest.raises(
        UserError, match="'stlpips_pytorch' is not installed; run `pip install --force-reinstall stlpips-py"
    ):
        check_perceptual(StLpips())


@pytest.mark.skipif(not HAS_ST_LPIPS, reason="needs the package stlpips-pytorch")
def test_the_packages_file_is_held_against_its_hash_and_its_code_is_not_imported(monkeypatch):
    check_perceptual(StLpips())
    load_perceptual(StLpips(), CPU)
    assert "stlpips_pytorch" not in sys.modules
    monkeypatch.setattr("harness.models.perceptual.ST_LPIPS_SHA256", "0" * 64)
    with pytest.raises(UserError, match=r"tolerant\.pth is not the weight file meant: its sha256 begins 44597da6"):
        check_perceptual(StLpips())

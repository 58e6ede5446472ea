"""From a network to its operator list: what is counted, what Core ML's compiler removes, what costs traffic only."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.measure.cost import count
from harness.predictor.operators import COLUMNS, operators_of

MAP = (1, 8, 6, 6)
ELEMENTS = 8 * 6 * 6


class Apply(nn.Module):
    def __init__(self, function, *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, *inputs):
        return self.function(*self.layers, *inputs)


def listed(function, *layers: nn.Module, shapes=(MAP,)):
    """Totals by column of a network in evaluation mode on the meta device."""
    inputs = [torch.empty(shape, device="meta") for shape in shapes]
    operators = operators_of(count(Apply(function, *layers).eval().to("meta"), inputs).rows)
    return dict(zip(COLUMNS, operators[:, 0] @ operators[:, 1:], strict=True))


def conv(groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(8, 8, 3, padding=1, groups=groups, bias=False)


def test_a_convolution_is_its_multiply_adds_weights_and_two_maps():
    row = listed(lambda layer, x: layer(x), conv())
    assert row == {
        **dict.fromkeys(COLUMNS, 0),
        "dense": 36 * 8 * 8 * 9,
        "weights": 8 * 8 * 9,
        "activations": 2 * ELEMENTS,
        "launches": 1,
    }


@pytest.mark.parametrize(
    ("layer", "shape", "kind"),
    [
        (conv(groups=8), MAP, "depthwise"),
        (conv(groups=2), MAP, "dense"),
        (nn.Conv2d(1, 8, 3), (1, 1, 6, 6), "dense"),
        (nn.Linear(8, 4), (1, 5, 8), "dense"),
        (nn.GroupNorm(2, 8), MAP, "norm"),
        (nn.LayerNorm(8), (1, 5, 8), "norm"),
        (nn.Softmax(-1), (1, 5, 8), "vector"),
        (nn.AvgPool2d(2), MAP, "vector"),
    ],
    ids=repr,
)
def test_the_kind_of_an_operator(layer, shape, kind):
    row = listed(lambda layer, x: layer(x), layer, shapes=(shape,))
    kinds = {name for name in ("dense", "depthwise", "attention", "norm", "vector") if row[name]}
    if layer.__class__ is nn.Conv2d and layer.in_channels == 1:
        kind = "depthwise"  # one input channel: every output reads one, as in a depthwise convolution
    assert kinds == {kind}


def test_attention_is_two_matmuls_and_a_score_for_every_two_tokens_of_a_head():
    heads, t, s, d = 2, 5, 7, 4
    row = listed(F.scaled_dot_product_attention, shapes=((1, heads, t, d), (1, heads, s, d), (1, heads, s, d)))
    assert row["attention"] == 2 * heads * t * s * d
    assert row["scores"] == heads * t * s
    assert row["weights"] == row["dense"] == 0


@pytest.mark.parametrize(
    ("function", "layers"),
    [
        (lambda layer, norm, x: norm(layer(x)), (conv(), nn.BatchNorm2d(8))),
        (lambda layer, x: F.relu(layer(x)), (conv(),)),
        (lambda layer, norm, x: F.silu(norm(layer(x))), (conv(), nn.BatchNorm2d(8))),
    ],
    ids=["batch norm", "activation", "both"],
)
def test_what_is_folded_into_a_convolution_is_free(function, layers):
    alone = listed(lambda layer, *rest: layer(rest[-1]), *layers)
    assert listed(function, *layers) == alone


def test_adding_to_a_convolutions_result_reads_the_other_map_only():
    alone, added = listed(lambda layer, x: layer(x), conv()), listed(lambda layer, x: layer(x) + x, conv())
    assert added == alone | {"activations": alone["activations"] + ELEMENTS}


def test_an_activation_that_follows_nothing_it_could_be_part_of_is_work_a_launch_and_traffic():
    row = listed(F.silu)
    assert row == {**dict.fromkeys(COLUMNS, 0), "vector": ELEMENTS, "activations": 2 * ELEMENTS, "launches": 1}


def test_a_concatenation_is_traffic_and_a_launch():
    row = listed(lambda x, y: torch.cat([x, y], 1), shapes=(MAP, MAP))
    assert row == {**dict.fromkeys(COLUMNS, 0), "activations": 4 * ELEMENTS, "launches": 1}


def test_views_and_constants_are_nothing():
    row = listed(lambda x: (x.permute(0, 2, 3, 1).unsqueeze(0), torch.arange(5)))
    assert row == dict.fromkeys(COLUMNS, 0)


def test_no_operators_make_an_empty_list():
    assert operators_of([]).shape == (0, 1 + len(COLUMNS))


def test_equal_operators_are_listed_once_with_their_number():
    layer = nn.Linear(4, 4, bias=False, device="meta")
    net = nn.Sequential(*(nn.Sequential(layer, nn.Softmax(-1)) for _ in range(3)))
    operators = operators_of(count(net, (torch.empty(2, 4, device="meta"),)).rows)
    assert sorted(operators[:, 0]) == [3, 3]

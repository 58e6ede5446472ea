"""A repeated block may stand for another only if both cost the same: memoised and unmemoised counts are equal."""

import dataclasses
import functools
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from harness.architecture.catalogue import architecture, catalogue_names
from harness.measure import cost_structure
from harness.measure.cost import count
from harness.models.build import build, example_inputs

X = torch.empty(2, 6, 8, device="meta")


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    times: int


class Block(nn.Module):
    """Applies its layer as often as `times` says, wherever that is written."""

    def __init__(self, times, read=lambda times: times) -> None:
        super().__init__()
        self.layer, self.times, self.read = nn.Linear(8, 8), times, read

    def forward(self, x, more=0, factor=None):
        for _ in range(self.read(self.times) + more):
            x = self.layer(x)
        return x if factor is None else x @ factor


class Chain(nn.Module):
    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def macs(net: nn.Module, x: torch.Tensor = X) -> tuple[int, int]:
    """Memoised and not."""
    net = net.to("meta")
    return count(net, (x,)).macs, count(net, (x,), memoise=False).macs


def both_equal(net: nn.Module, x: torch.Tensor = X) -> bool:
    memoised, run = macs(net, x)
    return memoised == run


PLACES_OF_A_NUMBER = {
    "number": (lambda n: n, lambda v: v),
    "tuple": (lambda n: (0, n), lambda v: v[1]),
    "list in a dict": (lambda n: {"a": [n]}, lambda v: v["a"][0]),
    "dataclass": (Settings, lambda v: v.times),
    "object": (lambda n: SimpleNamespace(n=n), lambda v: v.n),
    "partial": (lambda n: functools.partial(int, n), lambda v: v()),
    "closure": (lambda n: lambda: n, lambda v: v()),
    "iterator": (lambda n: iter([n] * 9), next),
    "module outside the tree": (lambda n: [nn.Sequential(*[nn.ReLU()] * n)], lambda v: len(v[0])),
    "tensor": (lambda n: torch.tensor(n), int),
    "string": (lambda n: "x" * n, len),
    "type": (lambda n: type("Times", (), {"n": n}), lambda v: v.n),
}


@pytest.mark.parametrize("place", PLACES_OF_A_NUMBER)
def test_blocks_that_differ_in_an_attribute_are_not_confused(place):
    make, read = PLACES_OF_A_NUMBER[place]
    net = Chain(*(Block(make(n), read) for n in (1, 2, 1, 3)))
    assert count(net, (X,)).macs == 7 * 2 * 6 * 8 * 8


def test_the_same_block_twice_runs_once():
    calls = []

    class Counting(nn.Linear):
        def forward(self, x):
            calls.append(1)
            return super().forward(x)

    net = Chain(*(Chain(Counting(8, 8), nn.ReLU()) for _ in range(5))).to("meta")
    memoised = count(net, (X,))
    assert len(calls) == 1
    assert memoised.rows == count(net, (X,), memoise=False).rows
    linears = [row.place for row in memoised.rows if row.operator == "linear"]
    assert linears == [f"blocks.{i}.blocks.0" for i in range(5)]


class Caller(nn.Module):
    """Calls twin blocks with arguments that differ."""

    def __init__(self, call) -> None:
        super().__init__()
        self.call, self.a, self.b = call, Block(1), Block(1)
        self.weight = nn.Parameter(torch.empty(8, 8))

    def forward(self, x):
        return self.call(self, x)


ARGUMENTS_THAT_DIFFER = {
    "shape": lambda m, x: (m.a(x), m.b(x[:, :3]))[0],
    "number": lambda m, x: (m.a(x), m.b(x, 2))[0],
    "keyword": lambda m, x: (m.a(x, more=1), m.b(x, more=2))[0],
    "a weight or an activation": lambda m, x: (m.a(x, factor=m.weight), m.b(x, factor=x[0, :1].expand(8, 8)))[0],
    "None": lambda m, x: (m.a(x), m.b(x, factor=x.transpose(1, 2)))[0],
}


@pytest.mark.parametrize("call", ARGUMENTS_THAT_DIFFER.values(), ids=list(ARGUMENTS_THAT_DIFFER))
def test_calls_that_differ_are_not_confused(call):
    net = Caller(call).to("meta")
    memoised, run = count(net, (X,)), count(net, (X,), memoise=False)
    assert memoised.rows == run.rows


def test_one_tensor_given_twice_is_not_two_tensors():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x, y):
            return self.layer(x) + (0 if x is y else self.layer(y))

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = Pair(), Pair()

        def forward(self, x):
            return self.a(x, x) + self.b(x, x + 1)

    assert macs(Both()) == (3 * 2 * 6 * 64,) * 2


def test_a_hook_runs_every_time():
    def twice(module, args, output):
        return module[0](output)

    net = Chain(nn.Sequential(nn.Linear(8, 8)), nn.Sequential(nn.Linear(8, 8)))
    net.blocks[1].register_forward_hook(twice)
    assert macs(net) == (3 * 2 * 6 * 64,) * 2


class Stateful(nn.Module):
    """Costs more with every call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(8, 8), 0

    def forward(self, x):
        self.calls += 1
        for _ in range(self.calls):
            x = self.layer(x)
        return x


def test_a_module_that_changes_itself_is_run_every_time():
    shared = Stateful()
    assert count(Chain(shared, shared, shared).to("meta"), (X,)).macs >= 6 * 2 * 6 * 64


class Toggle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.on = nn.Linear(8, 8), False

    def forward(self, x):
        self.on = not self.on
        return self.layer(self.layer(x)) if self.on else self.layer(x)


def test_a_module_that_changes_itself_and_back_is_run_every_time():
    shared = Toggle()
    assert both_equal(Chain(shared, shared, nn.ReLU(), shared, shared))


def test_a_module_that_another_one_changes_is_run_every_time():
    class Changes(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = Block(1), Block(1)

        def forward(self, x):
            x = self.a(x)
            self.b.times = 5
            return self.b(x)

    assert count(Changes().to("meta"), (X,)).macs == 6 * 2 * 6 * 64


def test_results_of_every_kind_come_back():
    class Results(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.layer, self.kind = nn.Linear(8, 8), kind

        def forward(self, x):
            y = self.layer(x)
            return {"tensor": y, "tuple": (y, None), "list": [y, x], "dict": {"y": y}}[self.kind]

    class Takes(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.a, self.b, self.kind = Results(kind), Results(kind), kind

        def forward(self, x):
            for part in (self.a, self.b):
                out = part(x)
                x = {"tensor": lambda o: o, "tuple": lambda o: o[0], "list": lambda o: o[0], "dict": lambda o: o["y"]}[
                    self.kind
                ](out)
            return x

    for kind in ("tensor", "tuple", "list", "dict"):
        assert macs(Takes(kind)) == (2 * 2 * 6 * 64,) * 2


def test_a_recorded_result_is_not_handed_out_twice():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            first = self.a(x)
            first.unsqueeze_(0)
            return self.c(x) + self.b(x)

    assert both_equal(InPlace())


BETWEEN = {"no_high_res_sa", "sepconv", "expanded_sepconv", "ffn3", "mqa", "first_stage_ca", "qknorm_rope"}
BETWEEN |= {"high_res_sa", "assa", "kv_groups"}
"""Rungs whose layers the first or the last one of their ladder has."""
NETWORKS = [name for name in catalogue_names() if name not in BETWEEN]
TRAINED = [(name, True) for name in NETWORKS if name.startswith("laptop/")]
"""With dropout: of all the layers that there are, and of few sizes."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "trains"), [(name, False) for name in NETWORKS] + TRAINED)
def test_the_catalogue_counts_the_same_with_and_without(name, trains):
    config = architecture(name)
    with torch.device("meta"):
        net = build(config).train(trains)
    inputs = example_inputs(config, latent=config.native_latent or config.latent_multiple * 4, device="meta")
    assert count(net, inputs).rows == count(net, inputs, memoise=False).rows


def test_these_tests_see_a_structure_that_ignores_attributes(monkeypatch):
    monkeypatch.setattr(cost_structure, "own_structure", type)
    memoised, run = macs(Chain(Block(1), Block(2)))
    assert memoised != run

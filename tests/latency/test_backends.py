"""One contract for every latency backend, and the CPU's own properties."""

import time
from dataclasses import fields

import pytest
import torch
from torch import nn

from harness.latency.config import LatencyBackend, LatencyConfig
from harness.latency.cpu import CpuLatency
from harness.records.errors import UserError
from harness.records.plain import from_plain, to_plain
from harness.records.provenance import processor_name
from harness.records.quantity import Failed, Measured, Predicted, Unavailable
from harness.records.record import TrialRecord
from harness.trials.compose import compose_plain

FIELDS = [field.name for field in fields(LatencyConfig) if field.name != "latent"]
QUICK = {"cpu": {"iterations": 5, "warm_up": 2}}


def backend(name: str) -> LatencyBackend:
    return from_plain(LatencyConfig, {name: QUICK.get(name, {})}).backends[0]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.dropout = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5)

    def forward(self, x, time, context):
        return self.dropout(self.norm(self.conv(x))) + time[:, None, None, None] + context.mean()


def example() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    net = Net().train()
    net.dropout.eval()
    return net, (torch.randn(1, 4, 8, 8), torch.rand(1), torch.randn(1, 3, 5))


@pytest.mark.parametrize("name", FIELDS)
class TestEveryBackend:
    def test_has_the_name_of_its_setting_and_a_quantity_of_its_own(self, name):
        assert backend(name).name == name
        assert backend(name).quantity == f"latency_{name}"

    def test_gives_milliseconds_above_zero_or_says_why_not(self, name):
        quantity = backend(name).measure(*example())
        assert isinstance(quantity, Measured | Predicted | Unavailable | Failed)
        if isinstance(quantity, Measured | Predicted):
            assert quantity.unit == "ms"
            assert 0 < quantity.low <= quantity.value <= quantity.high
            assert {"device", "latent", "batch"} <= quantity.conditions.keys()
        elif isinstance(quantity, Unavailable):
            assert quantity.reason.startswith("needs ")

    def test_leaves_the_module_and_the_process_as_they_were(self, name):
        net, inputs = example()
        before = {key: value.clone() for key, value in net.state_dict().items()}
        modes, threads = [part.training for part in net.modules()], torch.get_num_threads()
        backend(name).measure(net, inputs)
        assert [part.training for part in net.modules()] == modes
        assert torch.get_num_threads() == threads
        assert torch.is_grad_enabled()
        assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
        assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())

    def test_fits_a_record(self, name):
        quantity = backend(name).measure(*example())
        record = TrialRecord(
            name="a",
            architecture={},
            architecture_fingerprint="a",
            protocol={},
            protocol_fingerprint="p",
            seed=0,
            state="complete",
            quantities={backend(name).quantity: quantity},
        )
        assert from_plain(TrialRecord, to_plain(record)) == record


class Sleeps(nn.Module):
    def __init__(self, *milliseconds: float) -> None:
        super().__init__()
        self.milliseconds, self.calls = list(milliseconds), 0

    def forward(self, x):
        time.sleep(self.milliseconds[min(self.calls, len(self.milliseconds) - 1)] / 1000)
        self.calls += 1
        return x


def test_the_time_is_the_time_of_one_run():
    found = CpuLatency(iterations=7, warm_up=1).measure(Sleeps(20), (torch.zeros(2, 4, 8, 8),))
    assert 20 <= found.value < 40
    assert (found.conditions["latent"], found.conditions["batch"], found.conditions["iterations"]) == (8, 2, 7)
    assert found.spread == "interquartile range of 7 runs"


def test_slow_first_runs_do_not_count():
    net = Sleeps(60, 60, 5)
    found = CpuLatency(iterations=5, warm_up=30).measure(net, (torch.zeros(1, 4, 8, 8),))
    assert found.value < 30
    assert found.conditions["warm_up"] >= 10


def test_warm_up_ends_when_times_agree_and_says_when_they_never_do():
    steady, restless = Sleeps(10), Sleeps(*(10 * 1.3**i for i in range(12)))
    inputs = (torch.zeros(1, 4, 8, 8),)
    calm = CpuLatency(iterations=5, warm_up=60).measure(steady, inputs).conditions
    wild = CpuLatency(iterations=5, warm_up=11).measure(restless, inputs).conditions
    assert calm["warm_up_stable"]
    assert (wild["warm_up"], wild["warm_up_stable"]) == (11, False)


def test_a_slow_model_gets_fewer_runs_but_never_under_five():
    net = Sleeps(30)
    found = CpuLatency(iterations=1000, warm_up=2, seconds=0.01).measure(net, (torch.zeros(1, 4, 8, 8),))
    assert found.conditions["iterations"] == 5


def test_the_median_ignores_one_disturbed_run():
    net = Sleeps(5, 5, 300, 5)
    found = CpuLatency(iterations=9, warm_up=1).measure(net, (torch.zeros(1, 4, 8, 8),))
    assert found.value < 50


def test_threads_are_set_during_the_run():
    seen = []

    class Asks(nn.Module):
        def forward(self, _):
            seen.append((torch.get_num_threads(), self.training, torch.is_inference_mode_enabled()))

    CpuLatency(threads=2, iterations=5, warm_up=1).measure(Asks(), (torch.zeros(1, 4, 8, 8),))
    assert set(seen) == {(2, False, True)}


def test_the_label_says_this_cpu_and_which():
    conditions = CpuLatency(iterations=5, warm_up=1).measure(*example()).conditions
    assert conditions["device"] == "this CPU"
    assert conditions["processor"] == processor_name() != ""
    assert conditions["torch"] == torch.__version__
    assert conditions["threads"] == 1
    assert conditions["load_average_before"] >= 0


def test_a_failing_module_fails_and_settings_come_back():
    net, threads = Net().train(), torch.get_num_threads()
    with pytest.raises(RuntimeError):
        CpuLatency(threads=threads + 1, iterations=5).measure(net, (torch.zeros(1, 3, 8, 8),) * 3)
    assert torch.get_num_threads() == threads
    assert net.training


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"cpu": {"threads": 0}}, "threads must be at least 1, not 0"),
        ({"cpu": {"iterations": 1}}, "iterations must be at least 5, not 1"),
        ({"cpu": {"warm_up": 0}}, "warm_up must be at least 1, not 0"),
        ({"cpu": {"seconds": 0}}, "seconds must be above 0, not 0"),
        ({"latent": 0}, "latent must be at least 1, not 0"),
        ({"gpu": {}}, "unknown setting 'gpu'; choose one of: .*cpu"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(wrong, sentence):
    with pytest.raises(UserError, match=sentence):
        from_plain(LatencyConfig, wrong)


def test_a_module_without_weights_cannot_be_timed():
    with pytest.raises(UserError, match="real parameters"):
        CpuLatency().measure(Net().to("meta"), ())


@pytest.mark.parametrize(("option", "quantities"), [("cpu", ["latency_cpu", "latency_iphone"]), ("none", [])])
def test_the_yaml_options_build(option, quantities):
    plain = compose_plain([f"latency={option}"])["latency"]
    assert [found.quantity for found in from_plain(LatencyConfig, plain).backends] == quantities

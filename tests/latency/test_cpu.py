"""Timing on this CPU: one run's time, a warm-up that ends, and a machine that is left as it was."""

import time

import pytest
import torch
from torch import nn

from harness.latency.cpu import CpuLatency
from harness.records.errors import UserError
from harness.records.provenance import processor_name


class Sleeps(nn.Module):
    def __init__(self, *milliseconds: float) -> None:
        super().__init__()
        self.milliseconds, self.calls = list(milliseconds), 0

    def forward(self, x):
        time.sleep(self.milliseconds[min(self.calls, len(self.milliseconds) - 1)] / 1000)
        self.calls += 1
        return x


def test_the_time_is_the_time_of_one_run():
    timed = CpuLatency(iterations=7, warm_up=1).measure(Sleeps(20), (torch.zeros(2, 4, 8, 8),))
    assert 20 <= timed.value < 40
    assert (timed.conditions["latent"], timed.conditions["batch"], timed.conditions["iterations"]) == (8, 2, 7)
    assert timed.spread == "interquartile range of 7 runs"


def test_slow_first_runs_do_not_count():
    net = Sleeps(60, 60, 5)
    timed = CpuLatency(iterations=5, warm_up=30).measure(net, (torch.zeros(1, 4, 8, 8),))
    assert timed.value < 30
    assert timed.conditions["warm_up"] >= 10


def test_warm_up_ends_when_times_agree_and_says_when_they_never_do():
    steady, restless = Sleeps(10), Sleeps(*(10 * 1.3**i for i in range(12)))
    inputs = (torch.zeros(1, 4, 8, 8),)
    calm = CpuLatency(iterations=5, warm_up=60).measure(steady, inputs).conditions
    wild = CpuLatency(iterations=5, warm_up=11).measure(restless, inputs).conditions
    assert calm["warm_up_stable"]
    assert (wild["warm_up"], wild["warm_up_stable"]) == (11, False)


def test_a_slow_model_gets_fewer_runs_but_never_under_five():
    net = Sleeps(30)
    timed = CpuLatency(iterations=1000, warm_up=2, seconds=0.01).measure(net, (torch.zeros(1, 4, 8, 8),))
    assert timed.conditions["iterations"] == 5


def test_the_median_ignores_one_disturbed_run():
    net = Sleeps(5, 5, 300, 5)
    timed = CpuLatency(iterations=9, warm_up=1).measure(net, (torch.zeros(1, 4, 8, 8),))
    assert timed.value < 50


def test_threads_are_set_during_the_run():
    seen = []

    class Asks(nn.Module):
        def forward(self, _):
            seen.append((torch.get_num_threads(), self.training, torch.is_inference_mode_enabled()))

    CpuLatency(threads=2, iterations=5, warm_up=1).measure(Asks(), (torch.zeros(1, 4, 8, 8),))
    assert set(seen) == {(2, False, True)}


def test_the_label_says_this_cpu_and_which(net, inputs):
    conditions = CpuLatency(iterations=5, warm_up=1).measure(net, inputs).conditions
    assert conditions["device"] == "this CPU"
    assert conditions["processor"] == processor_name() != ""
    assert conditions["torch"] == torch.__version__
    assert conditions["threads"] == 1
    assert conditions["load_average_before"] >= 0


def test_a_failing_module_fails_and_settings_come_back(net):
    threads = torch.get_num_threads()
    with pytest.raises(RuntimeError):
        CpuLatency(threads=threads + 1, iterations=5).measure(net, (torch.zeros(1, 3, 8, 8),) * 3)
    assert torch.get_num_threads() == threads
    assert net.training


def test_a_module_without_weights_cannot_be_timed(net):
    with pytest.raises(UserError, match="real parameters"):
        CpuLatency().measure(net.to("meta"), ())

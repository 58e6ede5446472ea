"""Counting an SDXL-sized UNet at the 128x128 latent, against torch's FlopCounterMode and fvcore."""

import logging
import resource
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch.utils.flop_counter import FlopCounterMode

from harness.architecture.catalogue import architecture
from harness.measure.cost import count
from harness.models.build import build, example_inputs

from .interleaved import ratio_of_times, report, seconds

pytestmark = pytest.mark.benchmark(group="counting")
LATENT = 128
GIGABYTES = 17  # what fvcore may use: SDXL's weights in float32 are 10
SPARE_GIGABYTES = 2  # what others on the machine keep


@pytest.fixture(scope="module")
def sdxl():
    config = architecture("sdxl")
    with torch.device("meta"):
        net = build(config)
    return net, example_inputs(config, latent=LATENT, device="meta")


def flop_counter_mode(net, inputs) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(*inputs)
    return counter.get_total_flops()


def fvcore_total(net, inputs) -> float:
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    with torch.no_grad():  # else the trace keeps every activation for a backward pass
        return FlopCountAnalysis(net, inputs).uncalled_modules_warnings(False).total()


def available_gigabytes() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) / 2**20


@contextmanager
def memory_limit(gigabytes: int):
    """Inside, an allocation beyond it fails here, rather than the kernel ending some process of the machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (gigabytes * 2**30, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def test_counting_is_faster_than_flop_counter_mode(benchmark, sdxl):
    ratio = ratio_of_times(
        benchmark, lambda: count(*sdxl), lambda: flop_counter_mode(*sdxl), name="counting SDXL / FlopCounterMode: time"
    )
    assert ratio.median < 1
    assert 2 * count(*sdxl).macs == flop_counter_mode(*sdxl)


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="reads free memory from Linux's /proc")
def test_counting_is_30_times_faster_than_fvcore(benchmark, sdxl):
    """fvcore computes for minutes: it runs once, ours before and after it."""
    available = available_gigabytes()
    if available < GIGABYTES + SPARE_GIGABYTES:
        pytest.skip(f"fvcore needs SDXL's weights in memory: {GIGABYTES + SPARE_GIGABYTES} GB, not {available:.0f}")
    config = architecture("sdxl")
    with torch.device("meta"):
        net = build(config)
    for parameter in net.to_empty(device="cpu").parameters():
        torch.nn.init.zeros_(parameter)
    real = net, example_inputs(config, latent=LATENT)
    totals: list[float] = []
    ours = [seconds(lambda: count(*sdxl)) for _ in range(5)]
    with memory_limit(GIGABYTES):
        peer = seconds(lambda: totals.append(fvcore_total(*real)))
    benchmark.pedantic(lambda: count(*sdxl), rounds=5)
    ours.extend(benchmark.stats.stats.data)
    report(benchmark, [median(ours)], [peer], name="counting SDXL / fvcore (once): time", unit="s")
    assert peer >= 30 * median(ours)
    assert totals == [count(*sdxl).flops_fvcore]


def test_counting_a_laptop_rung_is_faster_than_fvcore(benchmark):
    config = architecture("laptop/thin_sdxl")
    net, inputs = build(config), example_inputs(config, latent=16)
    name = "counting a laptop rung / fvcore: time"
    ratio = ratio_of_times(benchmark, lambda: count(net, inputs), lambda: fvcore_total(net, inputs), name=name)
    assert ratio.median < 1

"""The iPhone's backend and the Mac's: what they export and ask for, and that they never wait nor stop a study."""

import asyncio
import shutil
import sys
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from harness.coreml.config import Mlprogram
from harness.device.apple import NO_MAC
from harness.device.queue import FolderQueue
from harness.device.request import BenchmarkProtocol, package_hash
from harness.device.targets import Identity
from harness.latency import exported as exported_module
from harness.latency import mac as mac_module
from harness.latency.backend import QueuedBackend
from harness.latency.config import LatencyConfig
from harness.latency.exported import exported
from harness.latency.iphone import IphoneLatency
from harness.latency.mac import MacLatency
from harness.records.errors import UserError
from harness.records.plain import from_plain, identity
from harness.records.quantity import Failed, Measured, Unavailable

PHONE = Identity(device="iPhone", id="aaaa", os_version="18.1", os_build="22B83", chip="A17 Pro")
NUMBER = Measured(value=12.0, unit="ms", low=11.0, high=13.0, conditions={"device": "iPhone"})


@pytest.fixture
def queue(tmp_path):
    folder = tmp_path / "queue"
    folder.mkdir()
    return FolderQueue(folder)


@pytest.fixture
def backend(queue):
    return IphoneLatency(queue=queue.root, chip="A17 Pro")


def test_the_queue_is_no_part_of_the_identity_but_chip_protocol_and_export_are(backend, tmp_path):
    assert identity(replace(backend, queue=tmp_path)) == identity(backend)
    others = (
        {"chip": "A15"},
        {"protocol": BenchmarkProtocol(compute_unit="ALL")},
        {"export": Mlprogram(bits=8)},
    )
    assert all(identity(replace(backend, **other)) != identity(backend) for other in others)


def test_it_asks_and_answers_without_waiting(backend, queue, net, inputs):
    quantity = backend.measure(net, inputs)
    assert isinstance(quantity, Unavailable)
    assert f"request {quantity.awaits} waits for A17 Pro in the queue {queue.root} since" in quantity.reason
    entry = queue.claim("agent", "A17 Pro")
    assert "is being measured" in backend.collect(entry.request.id).reason
    assert (entry.request.conditions["latent"], entry.request.conditions["batch"]) == (8, 1)
    assert entry.request.conditions["weight_bits"] == 16
    queue.finish(entry, PHONE, NUMBER)
    assert backend.measure(net, inputs) == NUMBER
    assert backend.collect(entry.request.id) == NUMBER
    assert backend.collect("unknown") is None


def test_what_the_agent_says_is_in_the_reason(backend, queue, net, inputs):
    queue.post_status("unavailable: needs an iPhone: connect one")
    assert "unavailable: needs an iPhone" in backend.measure(net, inputs).reason


def test_a_queue_out_of_reach_stops_nothing(backend, queue, net, inputs):
    shutil.rmtree(queue.root)
    for quantity in (backend.measure(net, inputs), backend.collect("any")):
        assert isinstance(quantity, Unavailable)
        assert "there is no queue folder" in quantity.reason


def test_without_a_queue_nothing_is_exported(net, inputs, monkeypatch):
    monkeypatch.setattr(exported_module, "export_package", None)
    assert "set latency.iphone.queue=FOLDER" in IphoneLatency().measure(net, inputs).reason


class Undecided(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_what_does_not_convert_is_failed_and_not_asked_for(backend, queue):
    quantity = backend.measure(Undecided(), (torch.randn(1, 4, 8, 8),))
    assert isinstance(quantity, Failed)
    assert quantity.phase == "coreml"
    assert not list(queue.entries())


def test_the_same_architecture_is_the_same_package_whatever_its_weights(net, inputs):
    """Zeros at initialisation neither: parity with an output of zeros would prove nothing."""
    other = type(net)()
    hashes = []
    for module in (net, other):
        with exported(module, inputs, Mlprogram()) as package:
            hashes.append(package_hash(package.package))
            (reference,) = package.reference.values()
    assert hashes[0] == hashes[1]
    assert abs(reference).max() > 0
    assert list(package.inputs) == ["x", "time", "context"]


def test_a_palettized_package_is_compared_with_what_its_tables_stand_for(net, inputs):
    """Four bits are far from the module; the device must not be blamed for it."""
    references = []
    for bits in (16, 4):
        with exported(net, inputs, Mlprogram(bits=bits, target="iOS18")) as package:
            references += package.reference.values()
    assert references[0].shape == references[1].shape
    assert (references[0] != references[1]).any()


@pytest.mark.parametrize("name", ["iphone", "mac"])
def test_a_latent_of_the_exports_own_is_refused(name):
    with pytest.raises(
        UserError, match=rf"latency.{name}.export.latent is for coreml.latent alone; set latency.latent=8"
    ):
        from_plain(LatencyConfig, {name: {"export": {"latent": 8}}})


def test_only_the_iphone_answers_later(backend):
    assert isinstance(backend, QueuedBackend)
    assert not isinstance(MacLatency(), QueuedBackend)


def test_no_mac_is_a_sentence(net, inputs):
    assert MacLatency().measure(net, inputs) == Unavailable(reason=NO_MAC)


@pytest.fixture
def on_a_mac(monkeypatch):
    """Until the moment when Core ML would run."""
    monkeypatch.setattr(sys, "platform", "darwin")

    def arrange(outcome):
        async def benchmark(_target, package, inputs, reference, _protocol):
            await asyncio.sleep(0)
            assert package.is_dir()
            assert inputs
            assert reference
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(mac_module, "benchmark", benchmark)

    return arrange


def test_on_a_mac_the_number_comes_at_once(on_a_mac, net, inputs):
    on_a_mac(NUMBER)
    quantity = MacLatency().measure(net, inputs)
    assert (quantity.value, quantity.conditions["latent"], quantity.conditions["device"]) == (12.0, 8, "iPhone")


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Failed(phase="latency", message="drifted"), Failed),
        (RuntimeError("Core ML ended"), Failed),
        (UserError("needs coremltools"), Unavailable),
    ],
)
def test_on_a_mac_every_trouble_is_a_quantity(on_a_mac, net, inputs, outcome, kind):
    on_a_mac(outcome)
    assert isinstance(MacLatency().measure(net, inputs), kind)


def test_collecting_takes_no_time(backend, net, inputs):
    request = backend.measure(net, inputs).awaits
    started = time.perf_counter()
    backend.collect(request)
    assert time.perf_counter() - started < 0.5

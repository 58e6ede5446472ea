"""The benchmark on a double of the phone: what counts, what is refused, and every mistake in a sentence."""

import asyncio
import subprocess
from dataclasses import replace

import fake_coremltools
import numpy as np
import pytest
from requests_for_tests import QUICK, arrays, package

from harness.device import apple
from harness.device.apple import NoDeviceError
from harness.device.benchmark import benchmark
from harness.device.targets import Iphone, Mac, Signing, device_hash
from harness.records.errors import UserError
from harness.records.plain import to_plain
from harness.records.quantity import Failed, Measured

TEAM = Signing(team="ABCDE12345")


@pytest.fixture
def phone(tmp_path):
    return Iphone(signing=TEAM, working_directory=tmp_path / "work", chip="A17 Pro", starting_s=0)


@pytest.fixture
def run(tmp_path, world, phone):
    reference = {"out": np.linspace(-1, 1, 8, dtype=np.float32)}
    path = package(tmp_path)
    np.savez(path.parent / "reference.npz", **reference)

    def run(protocol=QUICK, target=phone):
        return asyncio.run(benchmark(target, path, arrays(), reference, protocol))

    return run


def test_the_number_says_under_what_it_was_taken(run, world):
    latency = run()
    assert isinstance(latency, Measured)
    assert latency.value == pytest.approx(12.1)
    assert latency.low <= latency.value <= latency.high
    conditions = {
        "device": "iPhone",
        "device_id": device_hash("00008130-0001"),
        "chip": "A17 Pro",
        "os_version": "18.1",
        "os_build": "22B83",
        "compute_unit": "CPU_AND_NE",
        "coremltools": "9.0",
        "first_load_ms": 900.0,
        "load_ms": 40.0,
        "iterations": 15,
        "parity_db": "equal",
        "placement": {
            "operators": {"NeuralEngine": {"conv": 2, "softmax": 1}, "CPU": {"gather": 1}},
            "cost": {"NeuralEngine": 0.96, "CPU": 0.04},
            "without_cost": 0,
        },
        "on_engine": True,
        "qos": "not told: the model runs in coremltools' app on the iPhone",
        "thermal_state": "not told: coremltools reads none from an iPhone",
        "protocol": to_plain(QUICK),
    }
    assert conditions.items() <= latency.conditions.items()
    assert "engine_doubt" not in latency.conditions


def test_a_time_that_left_the_engine_is_not_called_its(run, world):
    """It stands, with the share that left and what runs there; the share that is asked is the protocol's."""
    world.placement = {"NeuralEngine": {"conv": 2}, "GPU": {"softmax": 1}, "CPU": {"gather": 1}}
    latency = run()
    assert isinstance(latency, Measured)
    assert latency.conditions["on_engine"] is False
    assert latency.conditions["engine_doubt"] == (
        "80% of the planned cost is on it and 90% are asked; 16% on the GPU (softmax 1), 4% on the CPU (gather 1)"
    )
    assert run(replace(QUICK, engine_share=0.8)).conditions["on_engine"] is True
    unused = run(replace(QUICK, compute_unit="CPU_ONLY"))
    assert unused.conditions["engine_doubt"] == "compute_unit=CPU_ONLY leaves it out"


def test_neither_the_udid_nor_the_owners_name_is_written_down(run):
    assert "00008130" not in str(run())
    assert "Somebody" not in str(run())


def test_outputs_are_compared_before_any_time_counts(run, world):
    world.scale = 1.1
    failure = run()
    assert isinstance(failure, Failed)
    assert "below 35 dB; no time counts" in failure.message
    assert not [line for line in world.log if line.startswith("predict")]
    assert world.log[-1] == "stop"


def test_the_gate_is_the_protocols(run, world):
    world.scale = 1.001  # 60 dB of the largest value
    assert isinstance(run(), Measured)
    assert isinstance(run(replace(QUICK, parity_db=90.0)), Failed)


def test_a_phone_that_heats_up_gives_no_number(run, world):
    world.times = lambda run: 12.0 if run < 10 else 12.0 * 1.02**run
    assert "drifted by" in run().message


def test_times_that_never_settle_give_no_number(run, world):
    world.times = lambda run: 10.0 * 1.1**run
    assert "did not settle within 20 warm-up runs" in run().message


def test_slow_first_runs_are_warm_up(run, world):
    world.times = lambda run: 80.0 - 10 * run if run < 7 else 12.0
    latency = run()
    assert latency.conditions["warm_up"] >= 8
    assert latency.value == 12.0


def test_every_model_gets_a_fresh_app_and_leaves_none(run, world):
    run()
    run()
    assert [line for line in world.log if line in ("prepare", "stop")] == ["prepare", "stop"] * 2


def test_a_plan_that_cannot_be_had_costs_no_number(run, world):
    world.placement = None
    latency = run()
    assert isinstance(latency, Measured)
    assert latency.conditions["placement"].startswith("no compute plan: AttributeError")
    assert latency.conditions["on_engine"] is False
    assert latency.conditions["engine_doubt"] == latency.conditions["placement"]


def test_the_mac_itself_is_a_device_too(run, world, monkeypatch):
    build = subprocess.CompletedProcess([], 0, stdout="24B83\n")
    monkeypatch.setattr("harness.device.targets.subprocess.run", lambda *_, **__: build)
    monkeypatch.setattr("harness.device.targets.processor_name", lambda: "Apple M2")
    states = iter([{"qos": "default", "thermal_state": "nominal"}, {"qos": "default", "thermal_state": "fair"}])
    monkeypatch.setattr("harness.device.targets.of_this_mac", lambda: next(states))
    latency = run(target=Mac())
    assert isinstance(latency, Measured)
    assert (latency.conditions["device"], latency.conditions["chip"], latency.conditions["os_build"]) == (
        "Mac",
        "M2",
        "24B83",
    )
    assert (latency.conditions["qos"], latency.conditions["thermal_state"]) == ("default", "nominal, then fair")
    assert "prepare" not in world.log


class DeviceCtlError(Exception):
    """As coremltools raises it: the message is devicectl's bytes."""

    def __init__(self, message, error_code=1):
        self.message, self.error_code = message, error_code
        super().__init__(message)


def fails(error):
    def fail():
        raise error

    return fail


def build_error():
    return type("Error", (Exception,), {"__qualname__": "_AppBuilder.Error"})()


SITUATIONS = {
    "no phone": (lambda world: world.phones.clear(), NoDeviceError, "needs an iPhone: connect one by cable"),
    "one that is not connected": (
        lambda world: (world.phones.clear(), world.others.append(
            fake_coremltools.Device(state=fake_coremltools.DeviceState.DISCONNECTED))),
        NoDeviceError, "needs an iPhone: .*Somebody's iPhone' is disconnected",
    ),
    "several": (
        lambda world: world.phones.append(fake_coremltools.Device(udid="other")),
        UserError, "several iPhones are connected; choose one with --device: ",
    ),
    "no developer mode": (
        lambda world: setattr(world.phones[0], "developer_mode_state", "disabled"),
        NoDeviceError, "needs the iPhone's developer mode",
    ),
    "no Xcode": (
        lambda world: setattr(world, "on_prepare", fails(ValueError("The 'xcodebuild' command is required. Please"))),
        UserError, "needs Xcode.*install Xcode 15 or later",
    ),
    "locked at the start": (
        lambda world: (setattr(world, "session_alive", False), setattr(
            world, "complaint", b"because the device was not, or could not be, unlocked. (FBSOpenApp.. error 7)")),
        NoDeviceError, "needs the iPhone unlocked: unlock it",
    ),
    "locked at the installation": (
        lambda world: setattr(world, "on_prepare", fails(DeviceCtlError(b"ERROR: The device is locked."))),
        NoDeviceError, "needs the iPhone unlocked",
    ),
    "an app that ends for no known reason": (
        lambda world: (setattr(world, "session_alive", False), setattr(world, "complaint", b"exit 9")),
        NoDeviceError, "unlocked.*ended at once .exit 9",
    ),
    "wrong team, at the build": (
        lambda world: setattr(world, "on_prepare", fails(build_error())), UserError, "could not sign .*--team",
    ),
    "wrong team, at the installation": (
        lambda world: setattr(world, "on_prepare", fails(DeviceCtlError(
            b"0xe8008015 (A valid provisioning profile for this executable was not found.)", 3002))),
        UserError, "could not sign .*0xe8008015",
    ),
    "a team that the phone does not trust": (
        lambda world: (setattr(world, "session_alive", False), setattr(
            world, "complaint", b"invalid code signature, or has not been explicitly trusted by the user")),
        UserError, "could not sign .*VPN & Device Management",
    ),
}  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_situation_is_one_sentence_with_the_next_step(situation, run, world):
    arrange, kind, sentence = SITUATIONS[situation]
    arrange(world)
    with pytest.raises(kind, match=sentence) as caught:
        run()
    assert "\n" not in str(caught.value)


def test_no_mac_is_a_sentence(run, monkeypatch):
    monkeypatch.setattr(apple.sys, "platform", "linux")
    with pytest.raises(UserError, match=r"needs a Mac: .*run this command on a Mac"):
        run()


def test_without_devicectl_there_is_no_xcode(run, world, monkeypatch):
    def missing(*_):
        raise ValueError("The 'devicectl' command is required. Please ensure that you have the latest version")

    monkeypatch.setattr(fake_coremltools.Device, "get_connected_devices", missing)
    with pytest.raises(UserError, match="needs Xcode"):
        run()


def test_an_old_or_absent_coremltools_is_a_sentence(world, monkeypatch, phone):
    monkeypatch.setitem(apple.sys.modules, f"{apple.EXPERIMENTAL}.remote_device", None)
    with pytest.raises(UserError, match=r"needs coremltools 9.0 or later, not 9.0.*pip install 'coremltools>=9.0'"):
        phone.identify()
    monkeypatch.setitem(apple.sys.modules, "coremltools", None)
    with pytest.raises(UserError, match=r"needs coremltools 9.0 or later .*pip install 'unet-harness\[agent\]'"):
        phone.identify()


def test_what_nobody_knows_passes_through(run, world):
    world.on_prepare = fails(RuntimeError("a new kind of trouble"))
    with pytest.raises(RuntimeError, match="a new kind of trouble"):
        run()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda _: Signing(), "must be signed: give --team"),
        (lambda _: Signing(profile="uuid"), "give --bundle beside --profile"),
        (
            lambda tmp: Iphone(signing=TEAM, working_directory=tmp / "my folder"),
            "path with spaces .*--working-directory",
        ),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(wrong, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        wrong(tmp_path)


def test_the_phone_that_was_asked_for_is_the_one_that_is_used(world, tmp_path):
    world.phones.append(fake_coremltools.Device(udid="other"))
    chosen = Iphone(signing=TEAM, working_directory=tmp_path, id=device_hash("other"))
    assert chosen.identify().id == device_hash("other")
    world.phones.pop()
    with pytest.raises(NoDeviceError, match="wanted: one with the id"):
        chosen.identify()

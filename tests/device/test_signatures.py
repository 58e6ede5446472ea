"""The doubles and the calls fit the coremltools that is installed: parameters, fields and what is relied on besides."""

import inspect

import fake_coremltools
import pytest

pytest.importorskip("coremltools")

from coremltools import ComputeUnit
from coremltools.models import MLModel, compute_device, compute_plan
from coremltools.models.ml_program.experimental import async_wrapper, perf_utils, remote_device

from harness.device.apple import explained
from harness.device.request import ComputeUnit as Unit
from harness.records.errors import UserError


def parameters(function):
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("double", "real"),
    [
        (fake_coremltools.Device.get_devices, remote_device.Device.get_devices),
        (fake_coremltools.Device.get_connected_devices, remote_device.Device.get_connected_devices),
        (fake_coremltools.Device.prepare_for_model_debugging, remote_device.Device.prepare_for_model_debugging),
        (fake_coremltools.Session.stop, remote_device._AppSession.stop),
        (fake_coremltools.Session.is_alive, remote_device._AppSession.is_alive),
        (fake_coremltools.AppSigningCredentials, remote_device.AppSigningCredentials),
        (fake_coremltools.MLModelBenchmarker, perf_utils.MLModelBenchmarker),
        (fake_coremltools.MLModelBenchmarker.benchmark_load, perf_utils.MLModelBenchmarker.benchmark_load),
        (fake_coremltools.MLModelBenchmarker.benchmark_predict, perf_utils.MLModelBenchmarker.benchmark_predict),
        (
            fake_coremltools.MLModelAsyncWrapper.from_spec_or_path,
            async_wrapper.MLModelAsyncWrapper.from_spec_or_path,
        ),
        (fake_coremltools.MLModelAsyncWrapper.load, async_wrapper.MLModelAsyncWrapper.load),
        (fake_coremltools.MLModelAsyncWrapper.predict, async_wrapper.MLModelAsyncWrapper.predict),
        (fake_coremltools.MLModelAsyncWrapper.unload, async_wrapper.MLModelAsyncWrapper.unload),
        (
            fake_coremltools.MLModelAsyncWrapper.retrieve_compute_plan,
            async_wrapper.MLModelAsyncWrapper.retrieve_compute_plan,
        ),
    ],
    ids=lambda each: getattr(each, "__qualname__", ""),
)
def test_a_double_takes_what_the_real_one_takes(double, real):
    assert parameters(double) == parameters(real)
    assert inspect.iscoroutinefunction(double) == inspect.iscoroutinefunction(real)


def test_a_device_has_the_fields_that_are_read():
    read = {"name", "type", "udid", "os_version", "os_build_number", "developer_mode_state", "state", "session"}
    assert read <= set(remote_device.Device.__dataclass_fields__)
    assert read <= set(vars(fake_coremltools.Device()))
    assert remote_device.DeviceType.IPHONE.value == "iphone"
    assert remote_device.DeviceState.CONNECTED.value == "connected"


def test_a_model_and_a_measurement_have_what_is_read():
    assert set(parameters(fake_coremltools.MLModel)) <= set(parameters(MLModel))
    assert isinstance(inspect.getattr_static(MLModel, "weights_dir"), property)
    assert "samples" in perf_utils.MLModelBenchmarker.Measurement.__dataclass_fields__
    for name in ("load_duration_in_nano_seconds", "last_predict_duration_in_nano_seconds"):
        assert isinstance(getattr(async_wrapper.MLModelAsyncWrapper, name), property)


def test_a_compute_plan_has_what_is_read():
    assert parameters(compute_plan.MLComputePlan.get_compute_device_usage_for_mlprogram_operation) == [
        "self", "operation",
    ]  # fmt: skip
    assert parameters(compute_plan.MLComputePlan.get_estimated_cost_for_mlprogram_operation) == ["self", "operation"]
    assert "weight" in compute_plan.MLComputePlanCost.__dataclass_fields__
    assert {"operator_name", "blocks"} <= set(compute_plan.MLModelStructureProgramOperation.__dataclass_fields__)
    assert "preferred_compute_device" in compute_plan.MLComputePlanDeviceUsage.__dataclass_fields__
    for unit in ("NeuralEngine", "CPU", "GPU"):
        assert hasattr(compute_device, f"ML{unit}ComputeDevice")


def test_the_compute_units_have_coremltools_names():
    assert {unit.name for unit in ComputeUnit} == set(Unit.__args__)


def test_errors_are_of_the_kind_that_is_explained():
    """Private names of 9.0: a new version that renames them shows here."""
    assert "'xcodebuild' command is required" in inspect.getsource(remote_device.Device)
    assert "'devicectl' command is required" in inspect.getsource(remote_device._DeviceCtl)
    signing = explained(remote_device._AppBuilder.Error(message=None, error_code=65))
    assert isinstance(signing, UserError)
    locked = explained(remote_device._DeviceCtlError(message=b"ERROR: The device is locked", error_code=1))
    assert "unlock it" in str(locked)
    assert "self._process = process" in inspect.getsource(remote_device._AppSession.__init__)

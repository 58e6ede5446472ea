# ruff: noqa: ARG002, ARG004, ARG005  signatures are coremltools'
"""Doubles of what the device room calls of coremltools; `test_signatures.py` holds them to the real ones.

`install()` puts them where `import coremltools` finds them, in this process only; `world` says how the phone behaves.
"""

import sys
import types
from enum import Enum
from pathlib import Path


class World:
    """The phone, and everything that happened to it."""

    def __init__(self):
        self.phones = [Device()]
        self.others = []  # paired, not connected
        self.scale = 1.0  # of its outputs: 1.0 is right
        self.run = None  # (package, inputs) -> outputs, where a phone is to compute
        self.times = lambda run: 12.0 + 0.1 * (run % 3)  # ms of the n-th prediction
        self.load_ms = [900.0, 40.0]
        self.placement = {"NeuralEngine": {"conv": 2, "softmax": 1}, "CPU": {"gather": 1}}
        self.cost = {"conv": 0.4, "softmax": 0.16, "gather": 0.04}  # of an operator
        self.on_predict = lambda: None  # raises what the phone raises
        self.on_prepare = lambda: None
        self.session_alive = True
        self.complaint = b""
        self.log = []


class ComputeUnit(Enum):
    ALL, CPU_AND_GPU, CPU_ONLY, CPU_AND_NE = 1, 2, 3, 4


class MLModel:
    def __init__(self, model, is_temp_package=False, mil_program=None, skip_model_load=False,
                 compute_units=ComputeUnit.ALL, weights_dir=None):  # fmt: skip
        assert skip_model_load, "loading here would run the model on this machine"
        assert Path(model).is_dir()
        self.path, self.compute_unit, self.weights_dir = model, compute_units, f"{model}/weights"


class DeviceType(Enum):
    IPHONE, IPAD, MAC = "iphone", "ipad", "mac"


class DeviceState(Enum):
    CONNECTED, DISCONNECTED = "connected", "disconnected"


class AppSigningCredentials:
    def __init__(self, development_team="", provisioning_profile_uuid=None, bundle_identifier=None):
        self.development_team = development_team


class Session:
    def __init__(self):
        self._process = types.SimpleNamespace(communicate=lambda: (b"", world.complaint))

    def stop(self):
        world.log.append("stop")

    def is_alive(self):
        return world.session_alive


class Device:
    def __init__(self, name="Somebody's iPhone", udid="00008130-0001", state=DeviceState.CONNECTED,
                 developer_mode_state="enabled"):  # fmt: skip
        self.name, self.type, self.udid, self.state = name, DeviceType.IPHONE, udid, state
        self.os_version, self.os_build_number = "18.1", "22B83"
        self.developer_mode_state, self.session = developer_mode_state, None

    @staticmethod
    def get_devices():
        return [*world.phones, *world.others]

    @staticmethod
    def get_connected_devices(device_type):
        return [device for device in world.phones if device.type == device_type]

    async def prepare_for_model_debugging(self, credentials=None, working_directory=None, clean=False):
        assert working_directory.is_dir()
        world.on_prepare()
        prepared = Device(self.name, self.udid)
        prepared.session = Session()
        world.log.append("prepare")
        return prepared


class MLModelAsyncWrapper:
    @staticmethod
    def from_spec_or_path(spec_or_path, weights_dir, compute_units=ComputeUnit.ALL, function_name=None,
                          optimization_hints=None, device=None):  # fmt: skip
        wrapper = MLModelAsyncWrapper()
        wrapper.path = spec_or_path
        return wrapper

    load_duration_in_nano_seconds = property(lambda self: int(world.load_ms[0] * 1e6))
    last_predict_duration_in_nano_seconds = property(lambda self: int(world.times(0) * 1e6))

    async def load(self):
        world.log.append("load")

    async def predict(self, inputs, state=None):
        """The reference of the request, scaled: what a right phone would give."""
        import numpy

        world.on_predict()
        if world.run is not None:
            return {name: values * world.scale for name, values in world.run(Path(self.path), inputs).items()}
        with numpy.load(Path(self.path).parent / "reference.npz") as file:
            return {name: file[name] * world.scale for name in file.files}

    async def retrieve_compute_plan(self):
        operations = [
            types.SimpleNamespace(operator_name=f"ios17.{name}", unit=unit, blocks=[])
            for unit, counts in world.placement.items() for name, count in counts.items() for _ in range(count)
        ]  # fmt: skip
        constant = types.SimpleNamespace(operator_name="const", unit=None, blocks=[])
        block = types.SimpleNamespace(operations=[*operations, constant])
        program = types.SimpleNamespace(functions={"main": types.SimpleNamespace(block=block)})
        return types.SimpleNamespace(
            model_structure=types.SimpleNamespace(program=program),
            get_compute_device_usage_for_mlprogram_operation=lambda operation: (
                operation.unit
                and types.SimpleNamespace(preferred_compute_device=type(f"ML{operation.unit}ComputeDevice", (), {})())
            ),
            get_estimated_cost_for_mlprogram_operation=lambda operation: types.SimpleNamespace(
                weight=world.cost[operation.operator_name.removeprefix("ios17.")]
            ),
        )

    async def unload(self):
        world.log.append("unload")


class Measurement:
    def __init__(self, samples):
        self.samples = samples


class MLModelBenchmarker:
    def __init__(self, model, device=None):
        self.model, self.device, self.runs = model, device, 0

    async def benchmark_load(self, iterations=1):
        return Measurement(world.load_ms[1:] * iterations)

    async def benchmark_predict(self, inputs=None, iterations=1, warmup=False):
        samples = []
        for _ in range(iterations):
            world.on_predict()
            samples.append(float(world.times(self.runs)))
            self.runs += 1
        world.log.append(f"predict {iterations}")
        return Measurement(samples)


world = World()


def modules(version="9.0"):
    """Name -> module, as `sys.modules` holds them."""
    base, experimental = "coremltools", "coremltools.models.ml_program.experimental"
    contents = {
        base: {"__version__": version, "ComputeUnit": ComputeUnit},
        f"{base}.models": {"MLModel": MLModel},
        f"{base}.models.ml_program": {},
        experimental: {},
        f"{experimental}.remote_device": {
            "Device": Device,
            "DeviceType": DeviceType,
            "AppSigningCredentials": AppSigningCredentials,
        },
        f"{experimental}.async_wrapper": {"MLModelAsyncWrapper": MLModelAsyncWrapper},
        f"{experimental}.perf_utils": {"MLModelBenchmarker": MLModelBenchmarker},
    }
    packages = {}
    for name, content in contents.items():
        packages[name] = types.ModuleType(name)
        packages[name].__path__ = []
        vars(packages[name]).update(content)
    packages[base].models = packages[f"{base}.models"]
    return packages


def install():
    sys.modules.update(modules())

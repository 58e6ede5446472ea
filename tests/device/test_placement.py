"""Where operators are planned to run, read from coremltools' own classes; and what a Mac says of its heat."""

import asyncio
import ctypes
import sys

import pytest

pytest.importorskip("coremltools")

from coremltools.models import compute_device, compute_plan

from harness.device.placement import Placement, engine_conditions, placement_of
from harness.device.surroundings import FOUNDATION, of_this_mac


def operation(name, blocks=()):
    return compute_plan.MLModelStructureProgramOperation(
        inputs={}, operator_name=f"ios17.{name}", outputs=[], blocks=list(blocks), __proxy__=None
    )


def block(*operations):
    return compute_plan.MLModelStructureProgramBlock(inputs=[], operations=list(operations), output_names=[])


class Wrapper:
    """A loaded package with a plan: (operation, unit or None, cost or None) in the real dataclasses."""

    def __init__(self, planned, main):
        self.planned = {id(each): (unit, cost) for each, unit, cost in planned}
        function = compute_plan.MLModelStructureProgramFunction(inputs=[], block=main)
        program = compute_plan.MLModelStructureProgram(functions={"main": function})
        self.model_structure = compute_plan.MLModelStructure(neuralnetwork=None, program=program, pipeline=None)

    async def retrieve_compute_plan(self):
        return self

    def get_compute_device_usage_for_mlprogram_operation(self, operation):
        unit = self.planned[id(operation)][0]
        if unit is None:
            return None
        kind = getattr(compute_device, f"ML{unit}ComputeDevice")
        device = kind.__new__(kind)
        return compute_plan.MLComputePlanDeviceUsage(
            preferred_compute_device=device, supported_compute_devices=[device]
        )

    def get_estimated_cost_for_mlprogram_operation(self, operation):
        cost = self.planned[id(operation)][1]
        return None if cost is None else compute_plan.MLComputePlanCost(weight=cost)


def test_shares_are_of_the_estimated_cost_not_of_the_number_of_operators():
    conv, gather, other = operation("conv"), operation("gather"), operation("gather")
    weight, inner = operation("const"), operation("softmax")
    loop = operation("while_loop", [block(inner)])
    several = [(conv, "NeuralEngine", 0.6), (gather, "CPU", 0.1), (other, "CPU", None), (weight, None, None),
               (loop, "CPU", 0.1), (inner, "GPU", 0.0)]  # fmt: skip
    placement = asyncio.run(placement_of(Wrapper(several, block(conv, gather, other, weight, loop))))
    assert placement == Placement(
        operators={"NeuralEngine": {"conv": 1}, "CPU": {"gather": 2, "while_loop": 1}, "GPU": {"softmax": 1}},
        cost={"NeuralEngine": 0.6, "CPU": 0.4, "GPU": 0.0},  # of 1.0: the one without counts 0.8 / 4
        without_cost=1,
    )


def test_operators_that_left_without_an_estimate_are_not_overlooked():
    """One convolution with all of the estimated cost on the engine, nine operators without one on the CPU."""
    conv, others = operation("conv"), [operation("gather") for _ in range(9)]
    planned = [(conv, "NeuralEngine", 1.0), *((each, "CPU", None) for each in others)]
    placement = asyncio.run(placement_of(Wrapper(planned, block(conv, *others))))
    told = engine_conditions({"": placement}, "CPU_AND_NE", 0.9)
    assert placement.without_cost == 9
    assert told["on_engine"] is False
    doubt = "10% of the planned cost is on it and 90% are asked; 90% on the CPU (gather 9)"
    assert told["engine_doubt"] == doubt


def test_without_an_estimate_of_costs_nothing_is_called_the_engines():
    conv = operation("conv")
    placement = asyncio.run(placement_of(Wrapper([(conv, "NeuralEngine", None)], block(conv))))
    told = engine_conditions({"": placement}, "ALL", 0.5)
    assert (told["on_engine"], told["engine_doubt"]) == (False, "the compute plan estimates no cost")


@pytest.mark.parametrize(("share", "is_called"), [(0.9, True), (0.8999, False), (0.0, False)])
def test_the_stated_share_decides(share, is_called):
    placement = Placement(operators={"CPU": {"gather": 1}}, cost={"NeuralEngine": share, "CPU": 1 - share})
    told = engine_conditions({"": placement}, "CPU_AND_NE", 0.9)
    assert told["on_engine"] is is_called
    assert ("engine_doubt" in told) is not is_called


def test_each_network_of_a_picture_has_its_share():
    right = Placement(operators={}, cost={"NeuralEngine": 1.0})
    wrong = Placement(operators={"GPU": {"conv": 7}}, cost={"GPU": 1.0})
    told = engine_conditions({"unet": right, "decoder": wrong}, "CPU_AND_NE", 0.9)
    assert told["on_engine"] is False
    assert (
        told["engine_doubt"] == "decoder: 0% of the planned cost is on it and 90% are asked; 100% on the GPU (conv 7)"
    )
    assert set(told["placement"]) == {"unet", "decoder"}


class Call:
    """A function of a C library: its types can be set, and it answers by its arguments."""

    def __init__(self, answer):
        self.answer, self.restype, self.argtypes = answer, ctypes.c_int, None

    def __call__(self, *arguments):
        return self.answer(self, *arguments)


def libraries(state, qos=0x15):
    """The system's, where the process is number 7 and every selector is its own name."""

    def send(call, receiver, selector):
        if selector == b"processInfo":
            assert (receiver, call.restype) == (b"NSProcessInfo", ctypes.c_void_p)
            return 7
        assert (receiver, selector, call.restype) == (7, b"thermalState", ctypes.c_long)
        return state

    opened = {
        FOUNDATION: object(),
        "/usr/lib/libSystem.dylib": type("System", (), {"qos_class_self": Call(lambda _: qos)}),
        "/usr/lib/libobjc.dylib": type("Objc", (), {
            "objc_getClass": Call(lambda _, name: name), "sel_registerName": Call(lambda _, name: name),
            "objc_msgSend": Call(send)}),
    }  # fmt: skip
    return opened.__getitem__


def test_a_mac_says_how_warm_it_is_and_how_urgent_its_thread():
    assert of_this_mac(libraries(2, qos=0x19)) == {"qos": "user initiated", "thermal_state": "serious"}
    assert of_this_mac(libraries(0)) == {"qos": "default", "thermal_state": "nominal"}


@pytest.mark.skipif(sys.platform == "darwin", reason="there it is told")
def test_what_the_system_does_not_have_is_said_and_stops_nothing():
    assert {each[:10] for each in of_this_mac().values()} == {"not told: "}


def test_one_of_the_two_may_be_missing():
    opened = libraries(1)
    told = of_this_mac(lambda name: object() if "System.dylib" in name else opened(name))
    assert told["qos"].startswith("not told: ")
    assert told["thermal_state"] == "fair"


@pytest.mark.skipif(sys.platform != "darwin", reason="needs a Mac's own libraries")
def test_the_macs_own_libraries_answer():
    assert of_this_mac()["thermal_state"] in ("nominal", "fair", "serious", "critical")

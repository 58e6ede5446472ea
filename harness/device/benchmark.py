"""One package on one device, under a protocol: load, compare outputs, load again, warm up, time, judge.

Times are coremltools' own: of the prediction call on the device, in nanoseconds, without the way to it. On an iPhone
each run is asked for over the cable, so the chip rests between runs for a second or so: a burst would be faster or,
once hot, slower.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy
import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles

from harness.device.apple import coremltools, experimental
from harness.device.placement import engine_conditions, placement_of
from harness.device.request import BenchmarkProtocol, Protocol
from harness.device.targets import Identity, Target
from harness.records.plain import to_plain
from harness.records.quantity import Failed, Measured

Arrays = Mapping[str, "numpy.ndarray[Any, Any]"]
"""Name of an input or output -> its values."""


def psnr_db(outputs: "numpy.ndarray[Any, Any]", reference: "numpy.ndarray[Any, Any]") -> float:
    """20 log10(max|reference| / root mean square error), as Apple's conversions are gated; inf where equal."""
    import numpy

    target = numpy.asarray(reference, dtype=numpy.float64)
    error = math.sqrt(float(numpy.mean((numpy.asarray(outputs, dtype=numpy.float64) - target) ** 2)))
    peak = float(numpy.abs(target).max())
    return math.inf if error == 0 else 20 * math.log10(peak / error) if peak > 0 else -math.inf


def disagreement(outputs: Arrays, reference: Arrays, least_db: float) -> tuple[float, str]:
    """The lowest PSNR of all outputs, and a sentence where it is too low; "" where the outputs agree.

    A reference of nothing but zeros proves nothing, so it does not pass; neither do NaN or another shape.
    """
    import numpy

    worst, problem = math.inf, ""
    for name, expected in reference.items():
        if name not in outputs:
            return -math.inf, f"the device gave no output '{name}', only {', '.join(sorted(outputs)) or 'none'}"
        output = outputs[name]
        if output.size != expected.size:
            return -math.inf, f"the device's '{name}' has the shape {output.shape}, not {expected.shape}"
        if not numpy.isfinite(output).all():
            return -math.inf, f"the device's '{name}' holds values that are not finite"
        if not numpy.abs(expected).max() > 0:
            return -math.inf, f"the reference of '{name}' is all zeros, so parity cannot be judged"
        decibels = psnr_db(output.reshape(expected.shape), expected)
        if decibels < worst:
            worst = decibels
            problem = f"the device's '{name}' reaches {decibels:.1f} dB of the module's outputs, below {least_db:g} dB"
    return worst, problem if worst < least_db else ""


PHASE = "latency"


def stable(times: Sequence[float], protocol: BenchmarkProtocol) -> bool:
    """Whether the medians of the last two windows of runs agree."""
    window = protocol.warm_up_window
    if len(times) < 2 * window:
        return False
    before, last = median(times[-2 * window : -window]), median(times[-window:])
    return abs(last - before) <= protocol.warm_up_tolerance * before


def drift(times: Sequence[float]) -> float:
    """By which part the last third's median differs from the first third's; above 0 is slower."""
    third = len(times) // 3
    first, last = median(times[:third]), median(times[-third:])
    return (last - first) / first


def measured(times: Sequence[float], protocol: BenchmarkProtocol, conditions: Mapping[str, Any]) -> Measured | Failed:
    """The median of the timed runs with their quartiles; Failed where they drift beyond the limit."""
    if len(times) != protocol.iterations or min(times) <= 0:
        return Failed(phase=PHASE, message=f"{len(times)} usable times came back for {protocol.iterations} runs")
    drifted = drift(times)
    if abs(drifted) > protocol.drift_limit:
        return Failed(
            phase=PHASE,
            message=f"the runs drifted by {drifted:+.0%} from the first third to the last, beyond the limit of "
            f"{protocol.drift_limit:.0%}; let the device cool, and raise protocol.cool_down_s",
        )
    low, middle, high = quantiles(times, n=4, method="inclusive")
    return Measured(
        value=middle,
        unit="ms",
        low=low,
        high=high,
        spread=f"interquartile range of {len(times)} runs",
        conditions={**conditions, "iterations": len(times), "minimum_ms": min(times), "drift": round(drifted, 4)},
    )


Report = Callable[[str], None]


async def benchmark(
    target: Target,
    package: Path,
    inputs: Arrays,
    reference: Arrays,
    protocol: BenchmarkProtocol,
    report: Report = lambda _line: None,
) -> Measured | Failed:
    """Milliseconds of one prediction, or why the number would mean nothing.

    `reference` are the outputs that the float32 module gives for `inputs`. What the device cannot do at present is
    NoDeviceError; what coremltools raises else passes through.
    """
    identity, before = target.identify(), target.surroundings()
    async with target.opened() as device:
        first_load, decibels, problem = await _compared(device, package, inputs, reference, protocol)
        report(problem or f"outputs agree to {decibels:.1f} dB")
        if problem:
            return Failed(phase=PHASE, message=f"{problem}; no time counts while the outputs are wrong")
        conditions = conditions_of(identity, protocol) | first_load
        timed = await _timed(device, package, inputs, protocol, conditions, report)
    if isinstance(timed, Failed):
        return timed
    return replace(timed, conditions={**timed.conditions, **seen_of(before, target.surroundings())})


def seen_of(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """The surroundings of a measurement: what they were, and what they became where that is something else."""
    return {name: value if after[name] == value else f"{value}, then {after[name]}" for name, value in before.items()}


def conditions_of(identity: Identity, protocol: Protocol) -> dict[str, Any]:
    """What a measurement on this device under this protocol is conditional on; plain."""
    return {
        "device": identity.device,
        "device_id": identity.id,
        "chip": identity.chip or "not named",
        "os_version": identity.os_version,
        "os_build": identity.os_build,
        "compute_unit": protocol.compute_unit,
        "coremltools": coremltools().__version__,
        "protocol": to_plain(protocol),
    }


async def _compared(
    device: Any, package: Path, inputs: Arrays, reference: Arrays, protocol: BenchmarkProtocol
) -> tuple[dict[str, Any], float, str]:
    """The first load, one prediction against the reference, and where the operators run.

    The benchmarker keeps predictions to itself, so this goes through the wrapper that it uses.
    """
    wrapper, first_load_ms = await loaded(device, package, protocol)
    decibels, problem = disagreement(await wrapper.predict(dict(inputs)), reference, protocol.parity_db)
    conditions = {
        "first_load_ms": first_load_ms,  # compiles for the device
        "parity_db": round(decibels, 1) if decibels < 1000 else "equal",
        **engine_conditions({"": await placement_of(wrapper)}, protocol.compute_unit, protocol.engine_share),
    }
    await wrapper.unload()
    del wrapper
    gc.collect()  # or the model stays in memory beside the one that is timed
    return conditions, decibels, problem


async def loaded(device: Any, package: Path, protocol: Protocol) -> tuple[Any, float]:
    """coremltools' wrapper of the package, loaded on the device, and how many milliseconds that took."""
    model = _model(package, protocol)
    wrapper = experimental("async_wrapper").MLModelAsyncWrapper.from_spec_or_path(
        spec_or_path=str(package),
        weights_dir=model.weights_dir,
        compute_units=model.compute_unit,
        device=device,
    )
    await wrapper.load()
    return wrapper, milliseconds(wrapper.load_duration_in_nano_seconds, "to load")


async def _timed(
    device: Any,
    package: Path,
    inputs: Arrays,
    protocol: BenchmarkProtocol,
    conditions: Mapping[str, Any],
    report: Report,
) -> Measured | Failed:
    benchmarker = experimental("perf_utils").MLModelBenchmarker(_model(package, protocol), device)
    load = await benchmarker.benchmark_load(iterations=1)
    warm_up: list[float] = []
    while not stable(warm_up, protocol):
        if len(warm_up) + protocol.warm_up_window > protocol.warm_up_most:
            return Failed(
                phase=PHASE,
                message=f"the times did not settle within {len(warm_up)} warm-up runs; close what else runs on the "
                "device, or raise protocol.warm_up_most",
            )
        window = await benchmarker.benchmark_predict(
            inputs=dict(inputs), iterations=protocol.warm_up_window, warmup=False
        )
        warm_up += window.samples
        report(f"warm-up: {len(warm_up)} runs, the last {warm_up[-1]:.2f} ms")
    timed = await benchmarker.benchmark_predict(inputs=dict(inputs), iterations=protocol.iterations, warmup=False)
    return measured(timed.samples, protocol, {**conditions, "load_ms": load.samples[0], "warm_up": len(warm_up)})


def _model(package: Path, protocol: Protocol) -> Any:
    """The package as coremltools' MLModel, not yet loaded anywhere."""
    package_of = coremltools()
    unit = package_of.ComputeUnit[protocol.compute_unit]
    return package_of.models.MLModel(str(package), compute_units=unit, skip_model_load=True)


def milliseconds(nanoseconds: int | None, what: str) -> float:
    if nanoseconds is None:
        raise ValueError(f"the device did not tell how long the model took {what}")
    return nanoseconds / 1e6

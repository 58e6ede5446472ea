"""The user's own measurements as points to fit: latencies in a store that were measured on a chip the predictor knows.

A latency names its architecture by fingerprint; the architecture itself is in the record of a trial of the same store,
or in the catalogue. A latency that cannot be used is named with the reason, never dropped in silence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from harness.architecture.catalogue import architecture, catalogue_names
from harness.architecture.config import ArchitectureConfig
from harness.measure.cost import count
from harness.models.build import build, example_inputs
from harness.predictor.chips import CHIPS
from harness.predictor.fit import Point
from harness.predictor.operators import Operators, operators_of
from harness.predictor.predict import NEURAL_ENGINE_UNITS
from harness.records.errors import UserError
from harness.records.plain import from_plain
from harness.records.quantity import Measured
from harness.records.record import Measurement
from harness.records.store import Store

SUBJECT = "latency"  # of the measurements that are looked at
FAMILY = "own"


@dataclass(frozen=True, kw_only=True, slots=True)
class Unused:
    """A measured latency that cannot be fitted to."""

    key: str  # of the measurement
    quantity: str
    why: str


def own_points(store: Store) -> tuple[list[Point], list[Unused]]:
    """The points, and the latencies of a chip that are none. Those that name no chip, a CPU's, are in neither."""
    architectures = _architectures(store)
    points: list[Point] = []
    unused: list[Unused] = []
    counts: dict[tuple[str, int], Operators] = {}
    for measurement in store.measurements():
        for name, latency in _on_a_chip(measurement).items():
            try:
                points.append(_point(measurement, latency, architectures, counts))
            except UserError as error:
                unused.append(Unused(key=measurement.key, quantity=name, why=str(error)))
    return points, unused


def _on_a_chip(measurement: Measurement) -> dict[str, Measured]:
    if measurement.subject != SUBJECT:
        return {}
    return {
        name: quantity
        for name, quantity in measurement.quantities.items()
        if isinstance(quantity, Measured)
        and quantity.unit == "ms"
        and {"chip", "compute_unit"} <= set(quantity.conditions)
    }


def _point(
    measurement: Measurement,
    latency: Measured,
    architectures: Mapping[str, ArchitectureConfig],
    counts: dict[tuple[str, int], Operators],
) -> Point:
    """UserError: why it is none."""
    chip, unit = str(latency.conditions["chip"]), latency.conditions["compute_unit"]
    if chip not in CHIPS:
        raise UserError(f"the chip '{chip}' is none of {', '.join(CHIPS)}; name it with the agent's --chip")
    if unit not in NEURAL_ENGINE_UNITS:
        raise UserError(f"measured under {unit}, and the predictor knows {', '.join(NEURAL_ENGINE_UNITS)}")
    if latency.conditions.get("on_engine") is not True:
        doubt = latency.conditions.get("engine_doubt", "its conditions do not say")
        raise UserError(f"not called the Neural Engine's, which the predictor is of: {doubt}")
    fingerprint, latent = (measurement.settings.get(name) for name in ("architecture", "latent"))
    if not isinstance(fingerprint, str) or fingerprint not in architectures or not isinstance(latent, int):
        raise UserError(f"its architecture {fingerprint} is neither in a trial of this store nor in the catalogue")
    if (fingerprint, latent) not in counts:
        counts[fingerprint, latent] = _operators(architectures[fingerprint], latent)
    return Point(
        model=fingerprint,
        network=f"{fingerprint} at latent {latent}",
        family=FAMILY,
        series=fingerprint,
        chip=chip,
        latency_ms=latency.value,
        weight_bits=float(latency.conditions.get("weight_bits", 16)),
        operators=counts[fingerprint, latent],
    )


def _operators(config: ArchitectureConfig, latent: int) -> Operators:
    with torch.device("meta"):
        return operators_of(count(build(config), example_inputs(config, latent=latent, device="meta")).rows)


def _architectures(store: Store) -> dict[str, ArchitectureConfig]:
    """By fingerprint: those of the store's trials that this version can read, and the catalogue's."""
    architectures = {config.fingerprint: config for config in map(architecture, catalogue_names())}
    for record in store.trials():
        if record.architecture_fingerprint in architectures:
            continue
        try:
            config = from_plain(ArchitectureConfig, record.architecture)
        except UserError:
            continue  # of another version: its latency is reported as one whose architecture is not known
        if config.fingerprint == record.architecture_fingerprint:
            architectures[config.fingerprint] = config
    return architectures


def described(published: Sequence[Point], own: Sequence[Point]) -> str:
    """What a calibration says that it was fitted on."""
    return f"{len(published)} published latencies" + (f" and {len(own)} of one's own" if own else "")

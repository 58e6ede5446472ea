"""Records of trials as a study stores them, of real architectures, with made-up scores."""

from pathlib import Path

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.records.manifest import Manifest, Rung, write_manifest
from harness.records.plain import to_plain
from harness.records.quantity import Counted, Measured, Unavailable
from harness.records.record import CurvePoint, Protocol, TrialRecord
from harness.trials.placed import placed_cost

BASE = architecture("laptop/thin_sdxl")
EDITED = with_edits(BASE, {"stages.1.block.self_attention": False})
PROTOCOL = {
    "task": {"kind": "denoise"},
    "data": {"kind": "digits", "size": 8},
    "recipe": {"steps": 600, "batch_size": 64},
    "sampling": {"solver": "heun", "steps": 20},
    "quality": {"samples": 512},
}


def record(config=EDITED, *, seed=0, kid=0.05, protocol=PROTOCOL, name="no_high_res_sa", **more):
    cost = placed_cost(config, 8)
    conditions = {"latent": 8, "batch": 1}
    quantities = {
        "params": Counted(value=cost.params, unit="parameters"),
        "macs": Counted(value=cost.macs, unit="multiply-adds", conditions=conditions),
        "kid": Measured(value=kid, unit="1", low=kid - 0.01, high=kid + 0.01, spread="95%"),
        "latency_iphone": Unavailable(reason="needs a phone"),
    }
    fields = {
        "name": name,
        "architecture": to_plain(config),
        "architecture_fingerprint": config.fingerprint,
        "protocol": protocol,
        "protocol_fingerprint": Protocol(sections=protocol).fingerprint,
        "seed": seed,
        "state": "complete",
        "quantities": quantities,
        "curve": tuple(CurvePoint(step=step, name="train_loss", value=1 / step) for step in (100, 600)),
        "provenance": {"command": "harness ablate mine"},
    }
    return TrialRecord(**fields | more)


def ablation(store, *rungs):
    """Of the base, and of records that are edits of it."""
    base = record(BASE, name="thin_sdxl")
    store.put(base)
    made = [("thin_sdxl", base, None), *((each.name, each, "thin_sdxl") for each in rungs)]
    manifest = Manifest(
        name="mine",
        rungs=tuple(
            Rung(name=name, title=f"The {name}", architecture_fingerprint=each.architecture_fingerprint,
                 against=against, edits={})
            for name, each, against in made
        ),
        seeds=(0,), protocol=PROTOCOL, protocol_fingerprint=base.protocol_fingerprint, controls={},
        command="harness ablate mine",
    )  # fmt: skip
    write_manifest(Path("runs/mine"), manifest)

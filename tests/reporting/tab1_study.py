"""A synthetic study beside Tab. 1, in a real store: three networks of the table and one that is not in it. Every number
of ours is made up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.measure.statistics import SHARED
from harness.records.manifest import Manifest, Rung
from harness.records.quantity import Counted, Failed, Measured, Predicted, Quantity
from harness.records.record import Measurement, Protocol, TrialRecord
from harness.records.store import Store
from harness.reporting.published import Published
from harness.reporting.report import NOTHING, checked_definition, frames_of, write_report
from harness.reporting.section import Frames
from harness.reporting.subjects import study_of

REPORTS = Path(__file__).parents[2] / "reports"
# name, title, FID, parameters, multiply-adds, predicted ms
NETWORKS = (
    ("snapgen", "the efficient UNet", 4.1, 371_000_000, 36_700_000_000, 61.0),
    ("dit_xl_2", "DiT-XL/2", 5.2, 675_000_000, 118_700_000_000, 160.0),
    ("uvit_h", "U-ViT-H/2", 5.9, 501_000_000, 133_300_000_000, 171.0),
    ("thin_sdxl", "thin SDXL", 4.4, 602_000_000, 72_000_000_000, 88.0),
)
PROTOCOL: dict[str, Any] = {
    "data": {"kind": "prepared", "size": 256, "channels": 3, "content": "0f"},
    "autoencoder": {"kind": "kl", "channels": 16, "downsampling": 8},
    "text": {"encoder": "17", "template": "a photo of a {}", "length": None},
    "recipe": {"steps": 1_250_000, "batch_size": 1024, "learning_rate": 2e-4, "ema_decay": 0.9999},
    "sampling": {"solver": "heun", "steps": 25, "times": "uniform", "guidance_scale": 1.5, "seed": 0},
    "quality": {"samples": 50_000, "reference": "train", "extractor": {"kind": "inception_v3", "resolution": 299}},
}
SEEDS = (0, 1)
Costs = Mapping[str, Mapping[str, Quantity]]
FID = "FID, N=50000 against all of the training set"
LAPTOP = {"score": "fd", "label": "FD-EffLite0@64, N=512"}


@dataclass
class Tab1:
    store: Store
    manifest: Manifest
    definition: dict[str, Any]
    published: dict[str, Any]
    path: Path

    def write(self, counted: Costs = NOTHING) -> str:
        page = (self.definition, self.published, self.path)
        return write_report(self.store, self.manifest, *page, counted=counted).read_text()

    def frames(self, counted: Costs = NOTHING) -> Frames:
        definition, published = checked_definition(self.definition, self.published, "ablation")
        return frames_of(self.store, study_of(self.manifest), definition, published, counted)

    @property
    def printed(self) -> Published:
        return checked_definition(self.definition, self.published, "ablation")[1]

    def record(self, name: str, seed: int = 0) -> TrialRecord:
        return next(each for each in self.store.trials() if (each.name, each.seed) == (name, seed))

    def sweep(
        self, name: str, scores: Mapping[tuple[float, int], float | None], seed: int = 0, **sampling: Any
    ) -> None:
        """Store a score sweep: (guidance, steps) -> FID; None: it failed there."""
        for (guidance, steps), value in scores.items():
            self.score(self.record(name, seed).key, value, guidance_scale=guidance, steps=steps, **sampling)

    def score(
        self, trial: str, value: float | None, *, label: str = FID, samples: int = 50_000, asked: int | None = None,
        **sampling: Any,
    ) -> None:  # fmt: skip
        failed = Failed(phase="sample", message="NaN")
        scored = failed if value is None else fid(value, label=label, samples=samples)
        quantities: dict[str, Quantity] = {"fd": scored}
        self.store.put(
            Measurement(
                subject="score",
                settings={
                    "trial": trial, "weights_sha256": "ab", "classes": "all", "samples": samples,
                    "sampling": {**PROTOCOL["sampling"], **sampling}, "data": PROTOCOL["data"],
                    "quality": {**PROTOCOL["quality"], "samples": asked or samples},
                },
                quantities=quantities,
            )
        )  # fmt: skip


def fid(value: float, *, label: str = FID, samples: int = 50_000) -> Measured:
    conditions = dict.fromkeys(SHARED, "the same") | {"label": label, "samples": samples}
    replicates = tuple(value + offset / 100 for offset in range(-5, 6))
    return Measured(value=value, unit="1", low=value - 0.06, high=value + 0.06, replicates=replicates,
                    spread="95%, sampling noise of 50000 images", conditions=conditions)  # fmt: skip


def build(folder: Path, *, label: str = FID, networks: Sequence[tuple[Any, ...]] = NETWORKS) -> Tab1:
    store, protocol = Store(folder / "store"), Protocol(sections=PROTOCOL)
    for network in networks:
        for seed in SEEDS:
            store.put(trial(network, seed, protocol, label))
    manifest = Manifest(
        name="tab1_imagenet",
        rungs=tuple(
            Rung(name=name, title=title, architecture_fingerprint=f"arch-{name}",
                 against=None if index == 0 else networks[0][0], edits={})
            for index, (name, title, *_) in enumerate(networks)
        ),
        seeds=SEEDS, protocol=PROTOCOL, protocol_fingerprint=protocol.fingerprint, controls={},
        command="harness ablate tab1_imagenet",
    )  # fmt: skip
    definition = yaml.safe_load((REPORTS / "tab1_imagenet.yaml").read_text())
    published = yaml.safe_load((REPORTS / "published" / "tab1.yaml").read_text())
    return Tab1(store, manifest, definition, published, folder / "report.html")


def trial(network: tuple[Any, ...], seed: int, protocol: Protocol, label: str = FID) -> TrialRecord:
    name, _, score, params, macs, ms = network
    quantities: dict[str, Quantity] = {
        "fd": fid(score + 0.05 * seed, label=label),
        "params": Counted(value=params, unit="parameters"),
        "macs": Counted(value=macs, unit="multiply-adds"),
        "latency_predicted": Predicted(value=ms, unit="ms", low=ms / 2, high=ms * 2, extrapolated=False,
                                       conditions={"chip": "A17 Pro"}),
    }  # fmt: skip
    return TrialRecord(
        name=name, architecture={}, architecture_fingerprint=f"arch-{name}", protocol=protocol.sections,
        protocol_fingerprint=protocol.fingerprint, seed=seed, state="complete", quantities=quantities,
    )  # fmt: skip

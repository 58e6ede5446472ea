"""A synthetic ablation: eight rungs, two seeds, four controls, in a real store. Every number is made up."""

import math
import random
import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.records.manifest import Manifest, Rung
from harness.records.quantity import Counted, Failed, Measured, Predicted, Quantity, Unavailable
from harness.records.record import CurvePoint, Measurement, Protocol, TrialRecord
from harness.records.store import Store, write_atomic
from harness.reporting.report import write_report

sys.path.insert(0, str(Path(__file__).parent))  # the synthetic study beside Tab. 1
REPORTS = Path(__file__).parents[2] / "reports"
# name, title, against, KID, FD, params, macs, macs without attention, ms
RUNGS = (
    ("thin_sdxl", "thin SDXL", None, 0.0612, 212.0, 1_482_356, 61_200_000, 52_700_000, 9.31),
    ("no_high_res_sa", "no self-attention above the lowest resolution", "thin_sdxl",
     0.0571, 205.0, 1_455_012, 50_900_000, 50_100_000, 7.92),
    ("sepconv", "separable convolutions, expansion 1", "no_high_res_sa",
     0.0723, 241.0, 1_102_340, 31_800_000, 31_000_000, 6.05),
    ("expanded_sepconv", "separable convolutions, expansion 2", "no_high_res_sa",
     0.0498, 188.0, 1_240_116, 37_100_000, 36_300_000, 7.02),
    ("ffn3", "FFN expansion 4 to 3", "expanded_sepconv", 0.0507, 190.0, 1_093_002, 32_800_000, 32_000_000, 6.70),
    ("mqa", "MHSA to MQA", "ffn3", 0.0521, 196.0, 921_140, 30_900_000, 30_100_000, 6.41),
    ("first_stage_ca", "cross-attention from the first stage on", "mqa",
     0.0390, 166.0, 912_410, 31_500_000, 30_700_000, 6.88),
    ("qknorm_rope", "RMSNorm on Q and K, 2-D RoPE", "first_stage_ca",
     0.0383, 165.0, 912_506, 31_500_000, 30_700_000, 7.10),
)  # fmt: skip
# of the twins: params, multiply-adds, predicted ms; the shares of the work that the edits touch, here and there
TWINS = {
    "thin_sdxl": (611_000_000, 1_420_000_000_000, 31.0, {}),
    "no_high_res_sa": (580_000_000, 1_180_000_000_000, 15.0, {"network": 0.009, "twin": 0.085}),
    "sepconv": (441_000_000, 760_000_000_000, 11.5, {"network": 0.83, "twin": 0.61}),
    "expanded_sepconv": (493_000_000, 861_000_000_000, 13.0, {"network": 0.83, "twin": 0.61}),
    "ffn3": (433_000_000, 758_000_000_000, 12.4, {"network": 0.11, "twin": 0.24}),
    "mqa": (364_000_000, 690_000_000_000, 11.9, {"network": 0.052, "twin": 0.19}),
    "first_stage_ca": (360_800_000, 689_400_000_000, 11.8, {"network": 0.14, "twin": 0.16}),
    "qknorm_rope": (360_900_000, 689_400_000_000, 12.5, {"network": 0.003, "twin": 0.004}),
}
UNDERTRAINED = ("sepconv", "mqa")
SEEDS = (0, 1)
CONTROLS = {
    "floor": (-0.0002, 90.4),
    "pixel_gaussian": (0.221, 678.0),
    "untrained": (0.58, 2204.0),
    "noise": (0.97, 3387.0),
}
PROTOCOL = {
    "data": {"kind": "digits", "size": 8, "heldout": 0.2},
    "text": {"kind": "minilm", "mask_padding": True},
    "recipe": {"steps": 600, "batch_size": 64, "learning_rate": 1e-3, "ema_decay": 0.999},
    "sampling": {"solver": "heun", "steps": 20, "guidance_scale": 2.0},
    "quality": {"extractor": "efficientnet-lite0", "resolution": 64, "samples": 512},
}
IPHONE = "needs a Mac with Xcode and an attached iPhone"
KID_LABEL = "KID-EffLite0@64, N=512 against 360"
QUALITY = {"label": "FD-EffLite0@64, N=512", "extractor": "efficientnet-lite0", "resolution": 64, "samples": 512}


@dataclass
class Synthetic:
    store: Store
    manifest: Manifest
    definition: dict[str, Any]
    published: dict[str, Any]
    path: Path

    def write(self) -> str:
        return write_report(self.store, self.manifest, self.definition, self.published, self.path).read_text()

    def record(self, rung: str, seed: int) -> TrialRecord:
        fingerprint = next(one.architecture_fingerprint for one in self.manifest.rungs if one.name == rung)
        return next(r for r in self.store.trials() if (r.architecture_fingerprint, r.seed) == (fingerprint, seed))

    def replace(self, rung: str, seed: int, quantities: Mapping[str, Quantity]) -> None:
        """Put a record whose quantities are changed; those of a twin are the study's twin's."""
        old = self.record(rung, seed)
        quantities = {n: _at_twin(q, rung) if n.startswith("twin.") else q for n, q in quantities.items()}
        fields = {name: getattr(old, name) for name in TrialRecord.__dataclass_fields__}
        self.store.put(TrialRecord(**fields | {"quantities": {**old.quantities, **quantities}}))

    def level_curves(self) -> None:
        """Put records of trainings that have ended: no validation loss falls any more."""
        for record in list(self.store.trials()):
            level = [replace(point, value=0.4 + 0.001 * (point.step // 20 % 2)) for point in record.curve]
            fields = {name: getattr(record, name) for name in TrialRecord.__dataclass_fields__}
            self.store.put(TrialRecord(**fields | {"curve": tuple(level)}))


@pytest.fixture
def synthetic(tmp_path: Path) -> Synthetic:
    return build(tmp_path)


@pytest.fixture(scope="session")
def built() -> Callable[[Path], Synthetic]:
    return build


@pytest.fixture
def page_cells() -> Callable[[str], list[dict[str, str]]]:
    return cells_of


def build(folder: Path) -> Synthetic:
    store, protocol = Store(folder / "store"), Protocol(sections=PROTOCOL)
    for rung in RUNGS:
        for seed in SEEDS:
            _put_trial(store, protocol, rung, seed)
    keys = {name: _put_control(store, name, kid, fd) for name, (kid, fd) in CONTROLS.items()}
    manifest = Manifest(
        name="fig3",
        rungs=tuple(
            Rung(name=name, title=title, architecture_fingerprint=f"arch-{name}", against=against,
                 edits={"stages": {"0": {"self_attention": False}}} if against else {},
                 twin_fingerprint=f"twin-{name}", touched=TWINS[name][3])
            for name, title, against, *_ in RUNGS
        ),
        seeds=SEEDS,
        protocol=PROTOCOL,
        protocol_fingerprint=protocol.fingerprint,
        controls=keys,
        command="harness ablate fig3 data=digits recipe.steps=600",
        twin={"base": "thin_sdxl", "latent": 128},
    )  # fmt: skip
    definition = yaml.safe_load((REPORTS / "fig3.yaml").read_text())
    published = yaml.safe_load((REPORTS / "published" / "fig3.yaml").read_text())
    return Synthetic(store, manifest, definition, published, folder / "report.html")


def _put_trial(store: Store, protocol: Protocol, rung: tuple[Any, ...], seed: int) -> None:
    name, _, _, kid, fd, params, macs, bare, ms = rung
    noise = random.Random(f"{name} {seed}")
    counted = {"latent": 8, "batch": 1}
    cpu = {"device": "this CPU", "processor": "AMD EPYC", "threads": 1, "dtype": "float32", "latent": 8}
    cpu["load_average_before"] = round(1 + noise.random(), 2)
    quantities: dict[str, Quantity] = {
        "params": Counted(value=params, unit="parameters"),
        "macs": Counted(value=macs, unit="multiply-adds", conditions=counted),
        "macs_without_attention": Counted(value=bare, unit="multiply-adds", conditions=counted),
        "flops_fvcore": Counted(value=bare + 123_456, unit="fvcore FLOPs", conditions=counted),
        "latency_cpu": Measured(value=ms, unit="ms", low=ms * 0.97, high=ms * 1.05, conditions=cpu,
                                spread="interquartile range of 50 runs"),
        "latency_iphone": Unavailable(reason=IPHONE),
        "kid": _kid(kid * noise.gauss(1, 0.035)),
        "fd": Measured(value=fd * noise.gauss(1, 0.02), unit="1", conditions=QUALITY),
        "class_agreement": Measured(value=0.9 + noise.random() / 20, unit="fraction", conditions={"samples": 512}),
        "train_seconds": Measured(value=31.0 + noise.random(), unit="s"),
        **_twin(name),
    }  # fmt: skip
    curve = []
    for step in range(20, 601, 20):
        loss = 0.25 + kid * 3 + 1.2 * math.exp(-step / (400 if name in UNDERTRAINED else 40))
        curve.append(CurvePoint(step=step, name="train_loss", value=loss * noise.gauss(1, 0.03)))
        if step % 60 == 0:
            curve.append(CurvePoint(step=step, name="validation_loss", value=loss * 1.03 * noise.gauss(1, 0.004)))
    record = TrialRecord(
        name=name, architecture={"name": name}, architecture_fingerprint=f"arch-{name}", protocol=PROTOCOL,
        protocol_fingerprint=protocol.fingerprint, seed=seed, state="complete", quantities=quantities,
        curve=tuple(curve), artifacts={"samples": "samples.png"},
        provenance={
            "code": {"commit": "205da69", "changes": "none"}, "processor": "AMD EPYC, 2 cores", "threads": 1,
            "versions": {"torch": "2.14.1", "numpy": "2.4.6"}, "wall_seconds": 33.1 + noise.random(),
            "started": f"2026-01-02T03:{len(name):02}:{seed:02}+00:00", "command": "harness ablate fig3",
        },
    )  # fmt: skip
    store.put(record)
    write_atomic(store.artifact(record.key, "samples.png"), png(noise, sharpness=0.1 / kid))


def _kid(value: float) -> Measured:
    return Measured(value=value, unit="1", low=value - 0.004, high=value + 0.004,
                    spread="95%, sampling noise of 512 images (delete-a-group jackknife, 20 groups)",
                    conditions=QUALITY | {"label": KID_LABEL})  # fmt: skip


def _twin(name: str) -> dict[str, Quantity]:
    params, macs, ms, _ = TWINS[name]
    at = _twin_conditions(name)
    return {
        "twin.params": Counted(value=params, unit="parameters", conditions=at),
        "twin.macs": Counted(value=macs, unit="multiply-adds", conditions=at),
        "twin.latency_predicted": Predicted(value=ms, unit="ms", low=ms / 1.6, high=ms * 1.6, extrapolated=True,
                                            conditions=at | {"chip": "A17 Pro"}),
        "twin.latency_iphone": Unavailable(reason=IPHONE),
    }  # fmt: skip


def _twin_conditions(name: str) -> dict[str, Any]:
    return {"twin": "thin_sdxl", "twin_fingerprint": f"twin-{name}", "latent": 128}


def _at_twin(quantity: Quantity, name: str) -> Quantity:
    if isinstance(quantity, Unavailable | Failed):
        return quantity
    return replace(quantity, conditions={**quantity.conditions, **_twin_conditions(name)})


def _put_control(store: Store, name: str, kid: float, fd: float) -> str:
    measurement = Measurement(
        subject="control",
        settings={"control": name, "protocol": PROTOCOL},
        quantities={
            "kid": _kid(kid),
            "fd": Measured(value=fd, unit="1", conditions=QUALITY),
        },
        provenance={"code": {"commit": "205da69"}, "processor": "AMD EPYC, 2 cores"},
    )
    store.put(measurement)
    return measurement.key


def png(noise: random.Random, *, sharpness: float, cells: int = 6, size: int = 8) -> bytes:
    """A grid of blobs in grey, written by hand: PNG of bit depth 8."""
    side = cells * (size + 1) + 1
    rows = [[255] * side for _ in range(side)]
    for cell in range(cells * cells):
        top, left = (cell // cells) * (size + 1) + 1, (cell % cells) * (size + 1) + 1
        cx, cy = 2 + noise.random() * 4, 2 + noise.random() * 4
        for y in range(size):
            for x in range(size):
                ring = abs(math.hypot(x - cx, y - cy) - 2.2)
                rows[top + y][left + x] = int(255 * math.exp(-ring * sharpness))
    raw = b"".join(b"\0" + bytes(row) for row in rows)
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.cells: list[dict[str, str]] = []
        self.open: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        cell = {"tag": tag, "text": "", **{name: value or "" for name, value in attrs}}
        if tag in ("meta", "link", "img", "br"):
            self.cells.append(cell)
        else:
            self.open.append(cell)

    def handle_endtag(self, tag: str) -> None:
        while self.open:
            cell = self.open.pop()
            self.cells.append(cell)
            if self.open:
                self.open[-1]["text"] += cell["text"]
            if cell["tag"] == tag:
                return

    def handle_data(self, data: str) -> None:
        if self.open:
            self.open[-1]["text"] += data


def cells_of(page: str) -> list[dict[str, str]]:
    """Every element of the page: its tag, attributes and text."""
    parser = _Cells()
    parser.feed(page)
    return parser.cells

"""What the cluster asks for and what the Mac answers, as plain values: which package, timed how, and the result.

A package's identity is a hash of what it computes. Two exports of one network differ in bytes: Manifest.json holds
random identifiers, the specification the day of the conversion and maps in any order. So the specification is hashed
without its free-text metadata and with sorted maps, together with the weight files as they are.

The protocol is everything that can change the number. First the outputs are compared with the float32 module's, because
the Neural Engine has returned wrong numbers quickly in other projects; Apple gates its own conversions at 35 dB
(github.com/apple/ml-stable-diffusion, torch2coreml.py). Then: load, warm up until two windows of runs agree, time
`iterations` runs, and refuse a number that drifts. Reported: the median, the interquartile range, the minimum, and the
load time apart from them; and whether the time may be called the Neural Engine's (`harness.device.placement`). The
limits on agreement, drift, cool-down and the engine's share are chosen, not fitted.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from harness.records.errors import UserError
from harness.records.plain import fingerprint, identity
from harness.records.quantity import Failed, Measured
from harness.records.store import file_sha256

DATA = Path("Data/com.apple.CoreML")
MODEL = DATA / "model.mlmodel"
PHONE_PARTS = ("coreml", "text")
"""Of a published folder: what a phone needs."""


def package_hash(package: Path) -> str:
    """16 hex digits for the program and its weights; UserError where the folder is no ML program package."""
    if not (package / MODEL).is_file():
        raise UserError(f"{package} is no Core ML package: it has no {MODEL}; `harness export` writes one")
    digest = hashlib.sha256(_program(package / MODEL))
    for path in sorted((package / DATA).rglob("*")):
        if path.is_file() and path != package / MODEL:
            digest.update(f"\n{path.relative_to(package).as_posix()} {file_sha256(path)}".encode())
    return digest.hexdigest()[:16]


def folder_hash(folder: Path) -> str:
    """16 hex digits for a published folder's parts for a phone: by `package_hash` for packages, else by bytes."""
    digest = hashlib.sha256()
    for name in PHONE_PARTS:
        for path in sorted((folder / name).iterdir()):
            content = package_hash(path) if path.suffix == ".mlpackage" else file_sha256(path)
            digest.update(f"{name}/{path.name} {content}\n".encode())
    return digest.hexdigest()[:16]


def _program(path: Path) -> bytes:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from harness.device.apple import coremltools

    model = coremltools().proto.Model_pb2.Model()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise UserError(f"{path} is no Core ML specification ({error}); export the package again") from error
    model.description.metadata.userDefined.clear()
    return bytes(model.SerializeToString(deterministic=True))


ComputeUnit: TypeAlias = Literal["CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY", "ALL"]
"""coremltools.ComputeUnit's names: what Core ML may use, not what it does use."""

FEWEST = 15  # runs: thirds of five, below which a third's median means nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkProtocol:
    compute_unit: ComputeUnit = "CPU_AND_NE"
    iterations: int = 60  # timed runs
    warm_up_window: int = 5  # untimed runs whose median is compared with that of the window before
    warm_up_tolerance: float = 0.05  # by which part two windows may differ to be called stable
    warm_up_most: int = 100  # untimed runs without stability, after which the measurement fails
    drift_limit: float = 0.10  # by which part the last third's median may differ from the first third's
    parity_db: float = 35.0  # the least PSNR of the device's outputs against the float32 module's
    engine_share: float = 0.9  # of the planned cost, the least for a time to be called the Neural Engine's
    cool_down_s: float = 60.0  # rest between two models

    def __post_init__(self) -> None:
        if self.iterations < FEWEST:
            raise UserError(f"protocol.iterations must be at least {FEWEST}, not {self.iterations}")
        if self.warm_up_window < 1 or self.warm_up_most < 2 * self.warm_up_window:
            raise UserError(
                "protocol.warm_up_most must hold two windows of protocol.warm_up_window runs, "
                f"not {self.warm_up_most} for windows of {self.warm_up_window}"
            )
        for name in ("warm_up_tolerance", "drift_limit", "parity_db"):
            if getattr(self, name) <= 0:
                raise UserError(f"protocol.{name} must be above 0, not {getattr(self, name)}")
        if self.cool_down_s < 0:
            raise UserError(f"protocol.cool_down_s must be at least 0, not {self.cool_down_s}")
        check_share(self.engine_share)

    @property
    def fingerprint(self) -> str:
        return fingerprint(identity(self), schema="benchmark-protocol-2")


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureProtocol:
    """One picture of a published folder, end to end (`harness.device.picture`)."""

    prompt: str
    pictures: int = 3  # timed; the example comes before them
    compute_unit: ComputeUnit = "CPU_AND_NE"
    parity_db: float = 30.0  # the least PSNR of the example against the float32 networks'; errors of all steps add up
    engine_share: float = 0.9  # as of a benchmark, of each network
    cool_down_s: float = 60.0  # rest before

    def __post_init__(self) -> None:
        if self.pictures < 1:
            raise UserError(f"at least 1 picture is timed, not {self.pictures}")
        check_share(self.engine_share)

    @property
    def fingerprint(self) -> str:
        return fingerprint(identity(self), schema="picture-protocol-2")


def check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise UserError(f"protocol.engine_share is above 0 and at most 1, not {share}")


Protocol: TypeAlias = BenchmarkProtocol | PictureProtocol
"""What is asked for: the time of one prediction of a package, or a picture with its time."""

Answer: TypeAlias = Measured | Failed


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Please time this package, or make this picture. The same content, protocol and chip are one request, however
    often submitted."""

    package: str  # `package_hash`, or `folder_hash` of what is in `PHONE_PARTS`
    protocol: Protocol
    chip: str | None = None  # as the agent's user names it; None: any device
    files: Mapping[str, str]  # file -> sha256: a copy that is not complete is not measured
    submitted: str  # UTC
    name: str = ""  # for people
    conditions: Mapping[str, Any] = field(default_factory=dict)  # of the inputs: latent, batch; part of the answer's
    attempts: int = 0  # how often an agent took it, locked phones and stopped agents included
    errors: tuple[str, ...] = ()  # of coremltools, each of which may speak against the package

    @property
    def content(self) -> str:
        """What is measured, wherever: the folder of its results."""
        return content_key(self.package, self.protocol)

    @property
    def id(self) -> str:
        return fingerprint([self.content, self.chip], schema="latency-request-1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A measurement of one package under one protocol on one build of one device; taken once."""

    package: str
    protocol: Protocol
    device: str  # Identity.key
    chip: str
    quantity: Answer
    finished: str  # UTC


def content_key(package: str, protocol: Protocol) -> str:
    return fingerprint([package, protocol.fingerprint], schema="latency-content-1")

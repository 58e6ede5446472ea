"""What the cluster asks for and what the Mac answers, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from harness.device.protocol import BenchmarkProtocol
from harness.records.plain import fingerprint
from harness.records.quantity import Failed, Measured

Answer: TypeAlias = Measured | Failed


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Please time this package. The same package, protocol and chip are one request, however often submitted."""

    package: str  # `package_hash`
    protocol: BenchmarkProtocol
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
    protocol: BenchmarkProtocol
    device: str  # Identity.key
    chip: str
    quantity: Answer
    finished: str  # UTC


def content_key(package: str, protocol: BenchmarkProtocol) -> str:
    return fingerprint([package, protocol.fingerprint], schema="latency-content-1")

"""The record of one trial: one architecture, one protocol, one seed, everything learnt about it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.records.errors import UserError
from harness.records.plain import fingerprint
from harness.records.quantity import Failed, Quantity, Unavailable

SCHEMA = "trial-1"
KEY, KEY_PREFIX = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9a-f]{4,16}")
"""Of a trial, and how one may be named."""
State = Literal["complete", "failed", "rejected"]  # rejected: a cheap gate's limit was violated, nothing was trained
Fidelity = Literal["search", "full", "final"]
"""How far a trial was taken: as its study does; longer, after a promotion; or a finalist, with a fresh seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """Every setting that can change a trial's result, and nothing else: data, recipe, and what its task has."""

    sections: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.sections, schema="protocol-1")


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvePoint:
    """One row of the training curve. `name` is `train_loss`, `validation_loss`, `learning_rate`, ..."""

    step: int
    name: str
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    name: str  # for people: the rung's or the candidate's name; not part of the identity
    architecture: Mapping[str, Any]  # the resolved ArchitectureConfig, plain
    architecture_fingerprint: str
    protocol: Mapping[str, Any]  # the protocol's sections
    protocol_fingerprint: str
    seed: int
    state: State
    quantities: Mapping[str, Quantity]  # by name: params, macs, kid, fd, latency_cpu, ...
    curve: tuple[CurvePoint, ...] = ()
    artifacts: Mapping[str, str] = field(default_factory=dict)  # name -> file name in the store's artifact folder
    parent: str | None = None  # the key of the trial this one was promoted from, or re-scores
    fidelity: Fidelity = "search"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return trial_key(self.architecture_fingerprint, self.protocol_fingerprint, self.seed)

    @property
    def trained_latent(self) -> int | None:
        """Height and width of what the network was trained on: of the latent, where an autoencoder made one of the
        picture. None for one that was not to be trained."""
        if "data" not in self.protocol:
            return None
        return int(self.protocol["data"]["size"]) // int(self.protocol.get("autoencoder", {}).get("downsampling", 1))


def key_that_begins(prefix: str, keys: Mapping[str, str]) -> str | None:
    """The one of the trials' keys (-> names, or "") that begins so, with at least four digits; None where none does.
    UserError where several do."""
    matches = [key for key in keys if key.startswith(prefix)] if KEY_PREFIX.fullmatch(prefix) else []
    if len(matches) > 1:
        shown = ", ".join(f"{key} ({keys[key]})" if keys[key] else key for key in matches[:10])
        raise UserError(f"'{prefix}' begins the keys of {len(matches)} trials; give more of the key: {shown}")
    return matches[0] if matches else None


def trial_key(architecture_fingerprint: str, protocol_fingerprint: str, seed: int) -> str:
    """The identity of a trial: the same three are measured once."""
    return fingerprint([architecture_fingerprint, protocol_fingerprint, seed], schema=SCHEMA)


def why(record: TrialRecord) -> str:
    """The first reason why the record has no result: for lists of failures."""
    for quantity in record.quantities.values():
        if isinstance(quantity, Failed) and record.state == "failed":
            return f"{quantity.phase}: {quantity.message}"
        if isinstance(quantity, Unavailable) and record.state == "rejected":
            return quantity.reason
    return record.state


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """Quantities that do not belong to one trial: a latency of an architecture, a control of a data set."""

    subject: str  # "architecture" or "control", ...
    settings: Mapping[str, Any]  # all that can change the result: the identity
    quantities: Mapping[str, Quantity]
    artifacts: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return measurement_key(self.subject, self.settings)


def measurement_key(subject: str, settings: Mapping[str, Any]) -> str:
    return fingerprint({"subject": subject, "settings": settings}, schema="measurement-1")

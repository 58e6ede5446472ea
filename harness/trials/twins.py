"""Deployment twins: quality is learnt at a size that can be trained, costs are counted at the size that is deployed.

    twin: {base: thin_sdxl, latent: 128}    in a study's YAML; twin.latent=64 or twin=null on the command line

A study's twin is another base at another latent. What an edit, or a point of a space, makes of the small base, it makes
of the twin's too, and the record of the small network carries the twin's costs as quantities of their own:

    twin.params, twin.macs, twin.macs_without_attention, twin.flops_fvcore     counted
    twin.preflight             how many of the Neural Engine's known limits it meets, from shapes
    twin.latency_predicted     always; on the chip of latency.predicted, or else on the default one
    twin.latency_iphone, twin.latency_mac    where that backend is asked for
    twin.latency_ms            where limits.twin.latency_ms asks for it

`latent` and `coreml` are for the small network, latencies of this machine too; a phone's are for the twin alone: what a
network of a million parameters takes there says nothing of one that is worth deploying. The twin is never trained,
and no part of a trial's identity: whatever twins ask, the small network is trained once. With `count_only`, both are
counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import with_edits
from harness.records.errors import UserError
from harness.records.quantity import Failed, Quantity, Unavailable

PREFIX = "twin."
PREFLIGHT = "preflight"
OF_TWIN = ("twin", "twin_fingerprint", "latent")
"""Conditions that every quantity of a twin names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeploymentTwin:
    """The study's: what is edited, and how large its latent is."""

    base: str
    """A catalogue name or a YAML file."""
    latent: int
    """Height and width."""

    def __post_init__(self) -> None:
        _check_latent(self.read(), self.latent, self.base)

    def read(self) -> ArchitectureConfig:
        """The base itself."""
        try:
            return architecture(self.base)
        except UserError as error:
            raise UserError(f"twin.base: {error}") from error

    def of(self, config: ArchitectureConfig) -> "Twin":
        """A candidate's twin, config by its edits of the base."""
        _check_latent(config, self.latent, f"the twin on {self.base}")
        return Twin(base=self.base, architecture=config, latent=self.latent)

    def edited(self, base: ArchitectureConfig, edits: Mapping[str, Any]) -> "Twin":
        """The twin that these edits of the base (as `read`) make; a UserError names the twin."""
        try:
            return self.of(with_edits(base, edits))
        except UserError as error:
            raise UserError(f"its twin on {self.base}: {error}") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Twin:
    """A candidate's."""

    base: str  # the study's, that it is an edit of
    architecture: ArchitectureConfig
    latent: int

    @property
    def conditions(self) -> dict[str, Any]:
        return {"twin": self.base, "twin_fingerprint": self.architecture.fingerprint, "latent": self.latent}

    def named(self, quantities: Mapping[str, Quantity]) -> dict[str, Quantity]:
        """The quantities of its architecture as those of a twin: their names, and the conditions that say so."""
        return {f"{PREFIX}{name}": under(quantity, self.conditions) for name, quantity in quantities.items()}


def under(quantity: Quantity, conditions: Mapping[str, Any]) -> Quantity:
    """The quantity with further conditions, where it has a value."""
    if isinstance(quantity, Unavailable | Failed):
        return quantity
    return replace(quantity, conditions={**quantity.conditions, **conditions})


def conditions_of_twin(name: str, quantities: Mapping[str, Quantity]) -> dict[str, Any]:
    """What a late answer called `name` must say of the twin that it is of; the record's other `quantities` say it."""
    counted = quantities.get(f"{PREFIX}macs") if name.startswith(PREFIX) else None
    if counted is None or isinstance(counted, Unavailable | Failed):
        return {}
    return {condition: counted.conditions[condition] for condition in OF_TWIN}


def with_twin(settings: Mapping[str, Any], twin: DeploymentTwin | None) -> dict[str, Any]:
    """A study's settings with its twin among them, for the command line to change."""
    return dict(settings) if twin is None else {"twin": {"base": twin.base, "latent": twin.latent}, **settings}


def _check_latent(config: ArchitectureConfig, latent: int, name: str) -> None:
    if latent < 1 or latent % config.latent_multiple:
        raise UserError(f"twin.latent is a multiple of {config.latent_multiple} for {name}, not {latent}")

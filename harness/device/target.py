"""The seam between the benchmark and what it runs on: an attached iPhone, or the Mac itself."""

import hashlib
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

Family: TypeAlias = Literal["iPhone", "Mac"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Which device a number belongs to. The id is a hash, and the name that its owner gave it is nowhere."""

    device: Family
    id: str  # `device_hash` of the udid
    os_version: str
    os_build: str
    chip: str  # as the user names it: coremltools does not tell; "" where nobody did

    @property
    def key(self) -> str:
        """What a measurement is kept under: another build of the system may be faster or slower."""
        return f"{self.id}-{self.os_build}"


class Target(Protocol):
    def identify(self) -> Identity:
        """The device that would run a model now; NoDeviceError where there is none, UserError where the user
        must mend something first."""

    def opened(self) -> AbstractAsyncContextManager[Any]:
        """A session for one model: coremltools' Device, prepared; None for the Mac itself."""


def device_hash(udid: str) -> str:
    """12 hex digits: equal for the same device, and no udid."""
    return hashlib.sha256(f"udid:{udid}".encode()).hexdigest()[:12]


def same_chip(first: str, second: str) -> bool:
    """`a17  pro` is `A17 Pro`."""
    return "".join(first.split()).casefold() == "".join(second.split()).casefold()

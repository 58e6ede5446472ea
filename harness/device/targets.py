"""What a benchmark runs on: the seam, and its two kinds, the Mac itself and an attached iPhone.

The iPhone is reached through coremltools' remote_device, which builds, signs, installs and starts an app there. The app
is built once and kept in the working directory. Every model gets a fresh start of the app: coremltools 9.0 does not
really unload a model from it, so a long queue would fill the phone's memory.
"""

import hashlib
import platform
import subprocess
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from harness.device.apple import (
    LOCKED,
    NO_DEVELOPER_MODE,
    NO_DEVICE,
    NoDeviceError,
    check_mac,
    experimental,
    explained,
)
from harness.device.surroundings import OF_AN_IPHONE, of_this_mac
from harness.records.errors import UserError
from harness.records.provenance import processor_name
from harness.records.store import unwritable

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

    def surroundings(self) -> Mapping[str, str]:
        """`qos` and `thermal_state` at this moment, or why they are not told."""

    def opened(self) -> AbstractAsyncContextManager[Any]:
        """A session for one model: coremltools' Device, prepared; None for the Mac itself."""


def device_hash(udid: str) -> str:
    """12 hex digits: equal for the same device, and no udid."""
    return hashlib.sha256(f"udid:{udid}".encode()).hexdigest()[:12]


def same_chip(first: str, second: str) -> bool:
    """`a17  pro` is `A17 Pro`."""
    return "".join(first.split()).casefold() == "".join(second.split()).casefold()


@dataclass(frozen=True, kw_only=True, slots=True)
class Mac:
    def identify(self) -> Identity:
        check_mac()
        build = subprocess.run(["sw_vers", "-buildVersion"], capture_output=True, text=True, check=True).stdout.strip()
        return Identity(
            device="Mac",
            id=device_hash(f"{uuid.getnode():012x}"),
            os_version=platform.mac_ver()[0],
            os_build=build,
            chip=processor_name().removeprefix("Apple "),
        )

    def surroundings(self) -> Mapping[str, str]:
        return of_this_mac()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        yield None  # coremltools' word for the local system


@dataclass(frozen=True, kw_only=True, slots=True)
class Signing:
    """With which Apple developer account the app is signed: a team, or a profile together with its bundle."""

    team: str | None = None
    profile: str | None = None  # a provisioning profile's UUID
    bundle: str | None = None

    def __post_init__(self) -> None:
        if not self.team and not self.profile:
            raise UserError(
                "an app on an iPhone must be signed: give --team with the 10 characters that Xcode's Settings > "
                "Accounts shows, or --profile and --bundle"
            )
        if self.profile and not self.bundle:
            raise UserError("a provisioning profile is for one bundle: give --bundle beside --profile")


@dataclass(frozen=True, kw_only=True, slots=True)
class Iphone:
    signing: Signing
    working_directory: Path  # where the app is built; kept between runs
    chip: str = ""  # as the user names it
    id: str | None = None  # `device_hash` of the udid; None: the only one that is connected
    starting_s: float = 3.0  # after which an app that could not start has ended

    def __post_init__(self) -> None:
        if " " in str(self.working_directory.expanduser().absolute()):
            raise UserError(
                f"coremltools cannot work in a path with spaces ('{self.working_directory}'); choose another with "
                "--working-directory"
            )

    def identify(self) -> Identity:
        check_mac()
        phone = self._connected()
        return Identity(
            device="iPhone",
            id=device_hash(phone.udid),
            os_version=phone.os_version,
            os_build=phone.os_build_number,
            chip=self.chip,
        )

    def surroundings(self) -> Mapping[str, str]:
        return OF_AN_IPHONE

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        remote, attached = experimental("remote_device"), self._connected()
        folder = self.working_directory.expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from error
        credentials = remote.AppSigningCredentials(
            development_team=self.signing.team,
            provisioning_profile_uuid=self.signing.profile,
            bundle_identifier=self.signing.bundle,
        )
        try:
            device = await attached.prepare_for_model_debugging(credentials, folder, False)
        except Exception as error:
            raise explained(error) from error
        try:
            await self._check_started(device)
            yield device
        finally:
            device.session.stop()

    def _connected(self) -> Any:
        """coremltools' Device of the phone to use."""
        remote = experimental("remote_device")
        try:
            phones = remote.Device.get_connected_devices(remote.DeviceType.IPHONE)
            listed_phones = phones or [x for x in remote.Device.get_devices() if x.type == remote.DeviceType.IPHONE]
        except Exception as error:
            raise explained(error) from error
        chosen = [phone for phone in phones if self.id in (None, device_hash(phone.udid))]
        if not chosen:
            states = ", ".join(f"'{phone.name}' is {phone.state.value}" for phone in listed_phones)
            with_id = f" with the id {self.id}" if self.id else ""
            raise NoDeviceError(NO_DEVICE + (f" (wanted: one{with_id}; {states})" if states else ""))
        if len(chosen) > 1:
            listed = ", ".join(f"{device_hash(phone.udid)} ('{phone.name}')" for phone in chosen)
            raise UserError(f"several iPhones are connected; choose one with --device: {listed}")
        if chosen[0].developer_mode_state == "disabled":
            raise NoDeviceError(NO_DEVELOPER_MODE)
        return chosen[0]

    async def _check_started(self, device: Any) -> None:
        """coremltools starts the app without looking whether it runs; a locked phone or a distrusted team ends it."""
        import asyncio

        await asyncio.sleep(self.starting_s)
        if device.session.is_alive():
            return
        complaint = getattr(device.session, "_process", None)  # the only place that knows why; private in 9.0
        output = b"" if complaint is None else b" ".join(part for part in complaint.communicate() if part)
        error = explained(RuntimeError(output.decode(errors="replace")))
        if isinstance(error, UserError | NoDeviceError):
            raise error
        raise NoDeviceError(f"{LOCKED}; the app that runs models ended at once ({' '.join(str(error).split())[:200]})")

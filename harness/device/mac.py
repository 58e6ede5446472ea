"""The Mac that this runs on, as a device of its own."""

import platform
import subprocess
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from harness.device.apple import check_mac
from harness.device.target import Identity, device_hash
from harness.records.provenance import processor_name


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

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        yield None  # coremltools' word for the local system

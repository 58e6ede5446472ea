"""coremltools' interface to devices, imported late, and its errors in sentences that say what to do next.

Everything here and in `benchmark.py` calls `coremltools.models.ml_program.experimental` (9.0), which is experimental:
`tests/device` compares the signatures it relies on with the installed version.
"""

import contextlib
import importlib
import io
import re
import sys
from collections.abc import Iterator
from typing import Any

from harness.records.errors import UserError

EXPERIMENTAL = "coremltools.models.ml_program.experimental"
NEEDED = "9.0"  # the first with remote_device

NO_MAC = "needs a Mac: Core ML runs on macOS and, through it, on an attached iPhone; run this command on a Mac"
NO_XCODE = (
    "needs Xcode, whose devicectl and xcodebuild drive the iPhone: install Xcode 15 or later, open it once, run "
    "`sudo xcode-select -s /Applications/Xcode.app`, and where devicectl is still not found, "
    '`export PATH="$PATH:$(dirname "$(xcrun -f devicectl)")"`'
)
NO_DEVICE = (
    "needs an iPhone: connect one by cable, unlock it, answer 'Trust' on its screen, and check that Xcode's Window > "
    "Devices and Simulators lists it"
)
LOCKED = "needs the iPhone unlocked: unlock it, and set Settings > Display & Brightness > Auto-Lock to Never meanwhile"
NO_DEVELOPER_MODE = (
    "needs the iPhone's developer mode: switch it on in Settings > Privacy & Security > Developer Mode, and restart it"
)
SIGNING = (
    "could not sign the app that runs models on the iPhone: give the team that Xcode's Settings > Accounts shows with "
    "--team (10 characters), or --profile with its --bundle, and on the iPhone trust it in Settings > General > "
    "VPN & Device Management"
)


class NoDeviceError(Exception):
    """Nothing can be measured at present, for a reason that passes: no phone, a locked one. One sentence."""


def coremltools() -> Any:
    """The package; a UserError says how to install it. Its remarks about versions stay unsaid."""
    try:
        with quiet():
            return importlib.import_module("coremltools")
    except ImportError as error:
        raise UserError(f"needs coremltools {NEEDED} or later ({error}); pip install 'unet-harness[agent]'") from error


def experimental(name: str) -> Any:
    """The module of coremltools' experimental interface with that name; a UserError where it is too old."""
    package = coremltools()
    try:
        with quiet():
            return importlib.import_module(f"{EXPERIMENTAL}.{name}")
    except ImportError as error:
        raise UserError(
            f"needs coremltools {NEEDED} or later, not {package.__version__}, which cannot drive devices ({error}); "
            f"pip install 'coremltools>={NEEDED}'"
        ) from error


def check_mac() -> None:
    """UserError on any other system."""
    if sys.platform != "darwin":
        raise UserError(NO_MAC)


def explained(error: Exception) -> Exception:
    """The error as a sentence with the next step, where it is known; else itself.

    devicectl's own words reach us as bytes in an exception without a public type, or in a ValueError; xcodebuild's
    are lost (coremltools merges its output and reports none), so an unexplained build failure is taken for the
    signing's, which it mostly is.
    """
    text = text_of(error)
    if re.search(r"'(devicectl|xcodebuild)' command is required|xcode-select|unable to find utility", text):
        return UserError(NO_XCODE)
    if re.search(r"\block(ed)?\b|could not be,? unlocked|unlock the device|DeviceLocked|passcode", text, re.I):
        return NoDeviceError(LOCKED)
    if re.search(r"developer mode", text, re.I):
        return NoDeviceError(NO_DEVELOPER_MODE)
    if type(error).__qualname__ == "_AppBuilder.Error" or re.search(
        r"signing credential|code signature|provisioning|not been explicitly trusted|VerificationFailed|0xe80080", text
    ):
        return UserError(f"{SIGNING} ({text})")
    if re.search(r"required: state must be connected|not connected|device was not found|disconnected", text, re.I):
        return NoDeviceError(NO_DEVICE)
    return error


def text_of(error: Exception) -> str:
    """The error's text in one line, devicectl's bytes read."""
    message = getattr(error, "message", None)
    if isinstance(message, bytes):
        message = message.decode(errors="replace")
    text = f"{getattr(error, 'error_code', '')} {message}" if message else str(error)
    return " ".join(text.split())[:400] or type(error).__name__


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without coremltools' progress bars and remarks on standard error."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield
